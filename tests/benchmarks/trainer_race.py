"""One side of a race between trainers, in a process of its own: `KIND SIDE FOLDER` to JSON.

`python -m tests.benchmarks.trainer_race sft trl FOLDER` trains the model in FOLDER on the data in
FOLDER and prints what it did: elements (rows, or pairs), tokens (without padding), seconds of its
steps and of what they needed first (the reference of DPO), and peak memory in bytes.

All sides have the same weights, the same text, the same number of elements a step, the same
optimizer and the same precision. TRL runs with its defaults beside these, without gradient
checkpointing, which trades speed for memory. The first steps are left out on every side.
"""

import json
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from flywheel.process.launch import launch
from flywheel.train.config import RunSettings, SftSettings
from flywheel.train.config_policy import DpoSettings
from flywheel.train.config_reward import RewardSettings
from tests.models_for_tests import freeze

WARM = 2  # steps left out at the start
STEPS = 12
BATCH = 32  # rows of SFT, pairs of DPO a step
PER_DEVICE = 8  # rows, or pairs, that the peer takes at once
LEARNING_RATE = 1e-3
MAX_TOKENS = 512
THREADS = 2
WORDS = 2000


def build(folder: Path) -> None:
    """A Llama of two million parameters, and conversations whose lengths vary as real ones do."""
    import numpy as np

    from flywheel.models.small import small_llama, word_tokenizer
    from flywheel.records.message import dump, prompt_of, response_of

    draw = np.random.default_rng(0)
    words = [f"w{place}" for place in range(WORDS)]

    def text(median: float) -> str:
        length = int(np.clip(draw.lognormal(np.log(median), 0.7), 4, 220))
        return " ".join(draw.choice(words, length))

    tokenizer = word_tokenizer([" ".join(words)])
    shape = {"hidden": 192, "layers": 4, "heads": 4, "feed_forward": 512}
    model = small_llama(tokenizer, **shape, rope_theta=1e4, max_positions=MAX_TOKENS, seed=0)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    asked = [dump(prompt_of(text(40))) for _ in range(STEPS * BATCH)]
    shown = [
        {"prompt": one, "response": dump(response_of(text(60))), "weight": 1.0, "record_uids": []}
        for one in asked
    ]
    freeze(folder / "sft", train=shown, validation=[])
    freeze(folder / "dpo", train=_pairs(asked, 2, text), validation=[])
    for k, prompts in ((4, 8), (9, 4)):
        freeze(
            folder / f"reward{k}", train=_pairs(asked[: STEPS * prompts], k, text), validation=[]
        )


def _pairs(asked: list[str], k: int, text: Any) -> list[dict[str, Any]]:
    """Every pair among `k` responses of each prompt."""
    from flywheel.records.message import dump, response_of

    rows = []
    for place, prompt in enumerate(asked):
        said = [dump(response_of(text(60))) for _ in range(k)]
        rows += [
            {
                "prompt_key": str(place),
                "prompt": prompt,
                "response_a": said[a],
                "response_b": said[b],
                "response_a_key": f"{place}-{a}",
                "response_b_key": f"{place}-{b}",
                "probability_a": 1.0,
                "weight": 1.0,
                "record_uids": [],
            }
            for a in range(k)
            for b in range(a + 1, k)
        ]
    return rows


def flywheel(kind: str, folder: Path) -> dict[str, float]:
    """Our recipe, through the contract that everybody uses: settings in, metrics.jsonl out."""
    settings, prompts = settings_of(kind, folder)
    shutil.rmtree(folder / "run", ignore_errors=True)  # a finished run is not run again
    result = launch(f"flywheel.train.{kind.rstrip('49')}", settings, folder / "run", log=_quiet)
    steps = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").open()][WARM:]
    k = int(kind[-1]) if kind.startswith("reward") else 2
    return {
        "elements": len(steps) * prompts * (1 if kind == "sft" else k * (k - 1) // 2),
        "tokens": sum(row["tokens"] for row in steps),
        "seconds": sum(row["seconds"] for row in steps)
        + result.get("reference_seconds", 0.0) * len(steps) / (WARM + len(steps)),
        "peak_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
    }


def settings_of(kind: str, folder: Path) -> tuple[RunSettings, int]:
    """Our settings for a race, and prompts (or rows, or pairs) a step."""
    common: dict[str, Any] = {
        "model": str(folder / "model"),
        "dataset": str(folder / kind),
        "output": str(folder / "out"),
        "learning_rate": LEARNING_RATE,
        "max_tokens": MAX_TOKENS,
        "threads": THREADS,
        "epochs": 1.0,
    }
    if kind == "sft":
        return SftSettings(**common, batch=BATCH), BATCH
    if kind == "dpo":
        return DpoSettings(**common, batch=BATCH), BATCH
    prompts = {"reward4": 8, "reward9": 4}[kind]
    return RewardSettings(**common, batch=prompts), prompts


def torch_loop(kind: str, folder: Path) -> dict[str, float]:
    """The same maths as our SFT in a plain loop: same batches, no engine, nothing written."""
    import torch

    from flywheel.models.load import load_causal, load_tokenizer
    from flywheel.models.logps import ResponseLogps, pad
    from flywheel.train.batches import micro_batches
    from flywheel.train.data import Reader
    from flywheel.train.engine import bf16_pays
    from flywheel.train.source import Shuffled

    settings, _ = settings_of(kind, folder)
    torch.set_num_threads(THREADS)
    tokenizer, model = load_tokenizer(settings.model), load_causal(settings.model)
    module = ResponseLogps(model)
    reader = Reader(settings.dataset, tokenizer, [tokenizer.eos_token_id], MAX_TOKENS)
    source = Shuffled(reader.demonstrations("train"), settings)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True
    )
    clock = _Clock()
    for step in range(source.steps):
        rows = [row.text for row in source.draw(step)[0]]
        count = sum(row.response_tokens for row in rows)
        for batch in micro_batches(rows, lambda row: (1, len(row.ids)), settings.micro_tokens):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16_pays()):
                logps = module(*pad(batch, "cpu"))
            (-logps.sum() / count).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        clock.tick(len(rows), sum(len(row.ids) for row in rows))
    return clock.read()


def trl(kind: str, folder: Path) -> dict[str, float]:
    """TRL's trainer on the same text."""
    import torch
    import transformers

    from flywheel.train.engine import bf16_pays

    torch.set_num_threads(THREADS)
    transformers.logging.set_verbosity_error()
    rows = _text_rows(kind, folder)
    batch = BATCH if not kind.startswith("reward") else len(rows) // STEPS
    common = {
        "output_dir": str(folder / "trl"),
        "per_device_train_batch_size": PER_DEVICE,
        "gradient_accumulation_steps": max(1, batch // PER_DEVICE),
        "learning_rate": LEARNING_RATE,
        "num_train_epochs": 1,
        "max_length": MAX_TOKENS,
        "use_cpu": True,
        "bf16": bf16_pays(),
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "report_to": [],
        "logging_steps": 1,
        "adam_beta2": 0.95,
        "disable_tqdm": True,
    }
    clock = _Clock()
    trainer = _trainer(kind, folder, rows, common, clock)
    trainer.train()
    return clock.read()


def _trainer(
    kind: str, folder: Path, rows: list[dict[str, Any]], common: dict[str, Any], clock: "_Clock"
) -> Any:
    import trl as peer
    from datasets import Dataset
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        TrainerCallback,
    )

    class Stopwatch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            clock.tick(common["per_device_train_batch_size"] * args.gradient_accumulation_steps, 0)

    name = str(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(name)
    options = {
        "train_dataset": Dataset.from_list(rows),
        "processing_class": tokenizer,
        "callbacks": [Stopwatch()],
    }
    if kind == "sft":
        config = peer.SFTConfig(**common)
        model = AutoModelForCausalLM.from_pretrained(name)
        made = peer.SFTTrainer(model, args=config, **options)
    elif kind == "dpo":
        config = peer.DPOConfig(**common, beta=0.1)
        model = AutoModelForCausalLM.from_pretrained(name)
        made = peer.DPOTrainer(model, args=config, **options)
    else:
        config = peer.RewardConfig(**common)
        model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=1)
        made = peer.RewardTrainer(model, args=config, **options)
    clock.tokens_a_row = _tokens_a_row(made.train_dataset)
    return made


def _tokens_a_row(dataset: Any) -> float:
    """Mean of the tokens, without padding, of what the peer made of a row."""
    columns = [name for name in dataset.column_names if name.endswith("ids")]
    total = sum(len(ids) for name in columns for ids in dataset[name])
    if "prompt_ids" in columns:  # goes before both responses
        total += sum(len(ids) for ids in dataset["prompt_ids"])
    return total / len(dataset)


def _text_rows(kind: str, folder: Path) -> list[dict[str, Any]]:
    """The frozen rows in the peer's conversational form."""
    import pyarrow.parquet as pq

    table = pq.read_table(folder / kind / "train.parquet").to_pylist()
    if kind == "sft":
        return [
            {"prompt": json.loads(r["prompt"]), "completion": json.loads(r["response"])}
            for r in table
        ]
    return [
        {
            "prompt": json.loads(row["prompt"]),
            "chosen": json.loads(row["response_a"]),
            "rejected": json.loads(row["response_b"]),
        }
        for row in table
    ]


class _Clock:
    """Counts steps after the warm ones."""

    def __init__(self) -> None:
        self.tokens_a_row = 0.0
        self._steps = self._elements = self._tokens = 0
        self._started = 0.0
        self._ended = 0.0

    def tick(self, elements: int, tokens: int) -> None:
        self._steps += 1
        self._ended = time.monotonic()
        if self._steps == WARM:
            self._started = self._ended
        elif self._steps > WARM:
            self._elements += elements
            self._tokens += tokens

    def read(self) -> dict[str, float]:
        return {
            "elements": self._elements,
            "tokens": self._tokens or self._elements * self.tokens_a_row,
            "seconds": self._ended - self._started,
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }


def _quiet(line: str) -> None:
    """Our recipe's own words are not part of the result."""


SIDES = {"flywheel": flywheel, "torch": torch_loop, "trl": trl}

if __name__ == "__main__":
    raced, side, place = sys.argv[1:]
    print(json.dumps(SIDES[side](raced, Path(place))))
