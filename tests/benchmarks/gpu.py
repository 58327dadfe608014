"""What only a GPU can tell: speed against its peak, ZeRO beside plain torch, bf16 beside fp32.

`python -m tests.benchmarks.gpu` on a machine with a CUDA device measures, prints one line each and
writes `var/bench/gpu.json`; anywhere else it refuses. Every run that trains has a process of its
own, so that none finds the memory of another in use. `tests/test_bench_gpu.py` takes the same
paths at toy size on a CPU, whose numbers mean nothing.
"""

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from flywheel.models.load import load_causal, load_tokenizer
from flywheel.models.logps import ResponseLogps, pad
from flywheel.models.small import word_tokenizer
from flywheel.process.launch import launch, write_json
from flywheel.records.message import Conversation, dump, prompt_of, response_of, text_of
from flywheel.rollout import Policy, sample_ids
from flywheel.train.batches import micro_batches
from flywheel.train.config import SftSettings
from flywheel.train.config_policy import DpoSettings
from flywheel.train.config_reinforce import GrpoSettings
from flywheel.train.data import Reader
from flywheel.train.source import Shuffled
from tests.benchmarks.__main__ import OUT
from tests.benchmarks.measurement import Measurement
from tests.models_for_tests import freeze, preferences, tiny

WARM = 3  # steps left out at the start
LOSS_TOLERANCE = 0.01  # of the loss in bf16, relative
GRADIENT_TOLERANCE = 0.1  # of the whole gradient's difference, relative to its norm
VERIFIER = "tests.benchmarks.gpu:names_it"
Train = Callable[[str, Any, Path], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A Llama to initialise at random, and how much it is given."""

    name: str
    shape: dict[str, int]
    words: int
    batch: int = 64  # rows an optimizer step
    steps: int = 15
    tokens: int = 1024  # of a row, at most; of random length from half of it
    micro_tokens: int = 16384
    new_tokens: int = 128  # of sampling, by 32 rows
    epochs: dict[str, float] = field(default_factory=lambda: {"dpo": 20.0, "grpo": 120.0})


def _shape(hidden: int, layers: int, heads: int, key_heads: int, feed_forward: int) -> dict:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "intermediate_size": feed_forward,
    }


SIZES = (
    Size(name="135M", shape=_shape(576, 30, 9, 3, 1536), words=49_000),  # as SmolLM-135M
    Size(name="1.1B", shape=_shape(2048, 22, 32, 4, 5632), words=32_000),  # as TinyLlama-1.1B
)


def names_it(prompt: Conversation, text: str) -> float:
    """1 where the first word is what the prompt asks for."""
    return float(text.split()[:1] == text_of(prompt).split()[1:2])


def apart(recipe: str, settings: Any, folder: Path) -> dict[str, Any]:
    """Train in a process of its own."""
    return launch(recipe, settings, folder, log=lambda _: None)


def measure(sizes: tuple[Size, ...] = SIZES, train: Train = apart) -> list[Measurement]:
    """Everything, size after size."""
    found = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            build(folder, size)
            found += [*trained(folder, size, train), *halved(folder, size), sampled(folder, size)]
    with tempfile.TemporaryDirectory() as name:
        found += end_to_end(Path(name), sizes[0], train)
    return found


def build(folder: Path, size: Size) -> None:
    """A random model, and rows of random words for it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    words = [f"w{place}" for place in range(size.words)]
    tokenizer = word_tokenizer([" ".join(words)])
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=2 * size.tokens,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **size.shape,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    draw = np.random.default_rng(0)

    def text(share: float) -> str:
        return " ".join(draw.choice(words, max(1, int(draw.uniform(share / 2, share)))))

    def row() -> dict[str, Any]:
        prompt, response = prompt_of(text(size.tokens / 4)), response_of(text(size.tokens * 0.7))
        shown = {"prompt": dump(prompt), "response": dump(response)}
        return shown | {"weight": 1.0, "record_uids": []}

    rows = [row() for _ in range(size.steps * size.batch)]
    freeze(folder / "sft", train=rows, validation=[])


def settings_of(folder: Path, size: Size, stage: int) -> SftSettings:
    """SFT as every side of the comparison runs it."""
    return SftSettings(
        model=str(folder / "model"),
        dataset=str(folder / "sft"),
        output=str(folder / f"out{stage}"),
        batch=size.batch,
        micro_tokens=size.micro_tokens,
        max_tokens=size.tokens,
        precision="bf16",
        zero_stage=stage,
        learning_rate=1e-4,
    )


def trained(folder: Path, size: Size, train: Train) -> list[Measurement]:
    """SFT at ZeRO 2 and 3 against the device's peak, and against plain torch."""
    if train is apart:
        command = [
            sys.executable,
            "-m",
            "tests.benchmarks.gpu",
            str(folder),
            json.dumps(asdict(size)),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        plain = float(done.stdout.splitlines()[-1])
    else:
        plain = plain_torch(folder, size)
    found = []
    for stage in (2, 3):
        run = folder / f"run{stage}"
        train("flywheel.train.sft", settings_of(folder, size, stage), run)
        rows = [json.loads(line) for line in (run / "metrics.jsonl").open()][WARM:]
        rate, mfu = (median(row[name] for row in rows) for name in ("tokens_per_second", "mfu"))
        memory = max(row["memory_bytes"] for row in rows) / 2**30
        told = f"{size.name}, bf16, {size.batch} rows a step, peak memory {memory:.1f} GiB"
        found += [
            _row(
                f"sft_mfu: {size.name}, ZeRO {stage}", mfu, "of peak", "matrix product", 1.0, told
            ),
            _row(
                f"sft_vs_torch: {size.name}, ZeRO {stage}", rate, "tokens/s", "torch", plain, told
            ),
        ]
    return found


def plain_torch(folder: Path, size: Size) -> float:
    """Tokens a second of the same rows in a plain loop: fp32 weights, autocast, fused AdamW."""
    settings, device = settings_of(folder, size, 2), _device()
    tokenizer, model = load_tokenizer(settings.model), load_causal(settings.model).to(device)
    module = ResponseLogps(model)
    reader = Reader(settings.dataset, tokenizer, [tokenizer.eos_token_id], size.tokens)
    source = Shuffled(reader.demonstrations("train"), settings)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.0, fused=True
    )
    rates = []
    for step in range(source.steps):
        began = _now()
        rows = [row.text for row in source.draw(step)[0]]
        count = sum(row.response_tokens for row in rows)
        for batch in micro_batches(rows, lambda row: (1, len(row.ids)), size.micro_tokens):
            with torch.autocast(device, torch.bfloat16):
                logps = module(*pad(batch, device))
            (-logps.sum() / count).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        rates.append(sum(len(row.ids) for row in rows) / (_now() - began))
    return median(rates[WARM:])


def halved(folder: Path, size: Size) -> list[Measurement]:
    """Loss and gradient of one batch in bf16, by how far they are from those in fp32."""
    tokenizer = load_tokenizer(str(folder / "model"))
    reader = Reader(str(folder / "sft"), tokenizer, [tokenizer.eos_token_id], size.tokens)
    rows = [row.text for row in reader.demonstrations("train")[:4]]
    losses, gradients = [], []
    for dtype in (torch.float32, torch.bfloat16):
        module = ResponseLogps(load_causal(str(folder / "model"), dtype=dtype).to(_device()))
        loss = -module(*pad(rows, _device())).mean()
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append([weight.grad.float() for weight in module.parameters()])
        del module, loss
    pairs = list(zip(*gradients, strict=True))
    apart_by = sum(float((one - other).square().sum()) for one, other in pairs) ** 0.5
    norm = sum(float(one.square().sum()) for one, _ in pairs) ** 0.5
    del gradients, pairs
    _free()
    told = f"{size.name}, 4 rows, relative to fp32; a ratio above 1 is within the tolerance"
    return [
        _row(f"bf16_{name}: {size.name}", error, "relative", "tolerance", limit, told, turned=True)
        for name, error, limit in (
            ("loss", abs(losses[1] / losses[0] - 1), LOSS_TOLERANCE),
            ("gradient", apart_by / norm, GRADIENT_TOLERANCE),
        )
    ]


@torch.no_grad()
def sampled(folder: Path, size: Size) -> Measurement:
    """Seconds of 32 greedy answers beside `generate` of Hugging Face, and how many are the same."""
    policy = Policy.load(str(folder / "model"))
    policy = Policy(policy.model, policy.tokenizer, [policy.tokenizer.eos_token_id])
    draw = np.random.default_rng(0)
    width = size.tokens // 4
    lengths = np.linspace(width // 4, width, 32).astype(int)
    prompts = [draw.integers(5, size.words, count).tolist() for count in lengths]
    padded = [[0] * (width - len(row)) + row for row in prompts]
    masks = [[0] * (width - len(row)) + [1] * len(row) for row in prompts]
    ids, mask = (torch.tensor(one, device=policy.device) for one in (padded, masks))

    def ours() -> list[list[int]]:
        found = sample_ids(policy, prompts, temperature=0, max_new_tokens=size.new_tokens)
        return [list(answer.token_ids) for (answer,) in found]

    def theirs() -> list[list[int]]:
        told = policy.model.generate(
            ids, attention_mask=mask, max_new_tokens=size.new_tokens, do_sample=False
        )
        return told[:, width:].tolist()

    seconds: dict[Callable[[], list[list[int]]], list[float]] = {ours: [], theirs: []}
    said = {}
    for _ in range(4):
        for side, spent in seconds.items():
            began = _now()
            said[side] = side()
            spent.append(_now() - began)
    same = sum(a == b[: len(a)] for a, b in zip(said[ours], said[theirs], strict=True))
    mine, peer = (median(spent[1:]) for spent in seconds.values())
    told = (
        f"32 rows, {size.new_tokens} new tokens, {policy.model.dtype}, {same} of 32 answers equal"
    )
    return _row(f"sampling_vs_hf: {size.name}", mine, "s", "generate", peer, told, turned=True)


def end_to_end(folder: Path, size: Size, train: Train) -> list[Measurement]:
    """DPO and GRPO from data to a published checkpoint on a tiny model that can learn its task."""
    base, pairs = tiny(folder / "base"), preferences(folder / "pairs")
    common: dict[str, Any] = {"model": base, "dataset": pairs, "max_tokens": 32}
    dpo = DpoSettings(
        **common,
        output=str(folder / "dpo"),
        batch=8,
        epochs=size.epochs["dpo"],
        learning_rate=3e-3,
        warmup_steps=2,
    )
    grpo = GrpoSettings(  # a bandit; hot, so that each right word is tried at all
        **common,
        output=str(folder / "grpo"),
        verifier=VERIFIER,
        missing_end=0.0,
        max_new_tokens=1,
        temperature=2.0,
        prompts=16,
        batch=128,
        epochs=size.epochs["grpo"],
        kl_beta=0.0,
        learning_rate=2e-2,
        warmup_steps=1,
    )
    found = []
    for name, settings, shown in (("dpo", dpo, "loss"), ("grpo", grpo, "reward_mean")):
        began = time.monotonic()
        train(f"flywheel.train.{name}", settings, folder / f"{name}-run")
        spent = time.monotonic() - began
        rows = [json.loads(line) for line in (folder / f"{name}-run" / "metrics.jsonl").open()]
        first, last = rows[0][shown], rows[-1][shown]
        told = f"{len(rows)} steps in {spent:.1f} s, published: {Path(settings.output).exists()}"
        found.append(_row(f"{name}_end_to_end", last, shown, "its first step", first, told))
    return found


def _row(
    name: str,
    value: float,
    unit: str,
    peer: str,
    peer_value: float,
    conditions: str,
    *,
    turned: bool = False,
) -> Measurement:
    """A measurement whose ratio is higher where it is better: `turned` where less is."""
    over, under = (peer_value, value) if turned else (value, peer_value)
    return Measurement(
        name=name,
        value=value,
        unit=unit,
        peer=peer,
        peer_value=peer_value,
        ratio=over / under if under else float("inf"),
        conditions=conditions,
    )


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic()


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def main(arguments: list[str]) -> int:
    """Measure on a GPU, or say that there is none; with arguments, the plain loop alone."""
    if not torch.cuda.is_available():
        print("there is no CUDA device here, and these numbers are of one: nothing was measured")
        return 2
    if arguments:
        print(plain_torch(Path(arguments[0]), Size(**json.loads(arguments[1]))))
        return 0
    found = measure()
    for row in found:
        than = f"{row.peer} {row.peer_value:.4g}, ratio {row.ratio:.3g}"
        print(f"{row.name}: {row.value:.4g} {row.unit}, {than} ({row.conditions})")
    device = torch.cuda.get_device_name()
    write_json(OUT / "gpu.json", [{"device": device, **asdict(row)} for row in found])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
