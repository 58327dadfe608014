"""Tiny models and datasets that the training tests share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.datasets.manifest import DatasetManifest, file_hash
from flywheel.models.small import small_llama, word_tokenizer
from flywheel.records.message import dump, prompt_of, response_of

COLOURS = ("red", "green", "blue", "black")
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def pages() -> list[str]:
    return [f"say {one} <r> {one} it is ." for one in COLOURS] + ["no , it is not . dear thank you"]


def tiny(folder: Path, *, hidden: int = 16, seed: int = 0) -> str:
    tokenizer = word_tokenizer(pages())
    model = small_llama(
        tokenizer,
        hidden=hidden,
        layers=2,
        heads=2,
        feed_forward=32,
        rope_theta=100.0,
        max_positions=64,
        seed=seed,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def chatml(folder: Path) -> str:
    """A model with a byte-level BPE and a ChatML template, with two ends of turn."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        [page for page in pages() for _ in range(4)],
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=trained._tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",  # pad is EOS here, as in many published models
        additional_special_tokens=["<|endoftext|>"],
    )
    tokenizer.chat_template = CHATML
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = [
        tokenizer.eos_token_id,
        tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    ]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def two_ends(folder: Path) -> str:
    """A model whose turns end in another id than its tokenizer's EOS, as Llama 3's do."""
    from transformers import AutoTokenizer

    chatml(folder)
    AutoTokenizer.from_pretrained(folder, eos_token="<|endoftext|>").save_pretrained(folder)
    return str(folder)


def freeze(folder: Path, **splits: Sequence[dict[str, Any]]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for split, rows in splits.items():
        path = folder / f"{split}.parquet"
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
        files[path.name] = file_hash(path)
    DatasetManifest(
        name=folder.name,
        generation="g0001",
        table="marts.test",
        content_hash="0" * 64,
        rows_by_split={split: len(rows) for split, rows in splits.items()},
        files=files,
        record_count=1,
        annotator_count=1,
        cost_usd=0.0,
        sources={},
        licences={},
        trained_through_batch=1,
    ).save(folder)
    return str(folder)


def demonstrations(folder: Path) -> str:
    rows = [
        {
            "prompt": dump(prompt_of(f"say {one}")),
            "response": dump(response_of(f"{one} it is .")),
            "weight": 1.0,
            "record_uids": [f"d-{one}"],
        }
        for one in COLOURS
    ]
    return freeze(folder, train=rows * 4, validation=rows)


def preferences(folder: Path, *, certain: float = 0.9) -> str:
    """Right answers are preferred over wrong ones; which side is which alternates."""
    rows = []
    for number, one in enumerate(COLOURS):
        right, wrong = f"{one} it is .", "no , it is not ."
        a, b = (right, wrong) if number % 2 else (wrong, right)
        rows.append(
            {
                "prompt_key": one,
                "prompt": dump(prompt_of(f"say {one}")),
                "response_a": dump(response_of(a)),
                "response_b": dump(response_of(b)),
                "response_a_key": a,
                "response_b_key": b,
                "probability_a": certain if number % 2 else 1 - certain,
                "weight": 1.0,
                "record_uids": [f"c-{one}"],
            }
        )
    return freeze(folder, train=rows * 4, validation=rows)


def thumbs(folder: Path) -> str:
    """Right answers are liked, wrong ones are not; half of full marks says neither."""
    rows = [
        {
            "prompt_key": one,
            "prompt": dump(prompt_of(f"say {one}")),
            "response": dump(response_of(text)),
            "criterion": criterion,
            "score_frac": score,
            "weight": 1.0,
            "record_uids": [f"t-{one}-{score}"],
        }
        for one in COLOURS
        for text, criterion, score in (
            (f"{one} it is .", "thumbs", 1.0),
            ("no , it is not .", "thumbs", 0.0),
            ("it is .", "rating", 0.5),
        )
    ]
    return freeze(folder, train=rows * 4, validation=rows)


def reward_of(base: Path, folder: Path) -> str:
    """An untrained reward model on a tiny base."""
    from flywheel.models.load import load_backbone, load_tokenizer
    from flywheel.models.reward import RewardHead, save_reward

    tokenizer = load_tokenizer(str(base))
    module = RewardHead(load_backbone(str(base)), seed=1)
    save_reward(module, folder, shift=0.0, stop_ids=[tokenizer.eos_token_id])
    tokenizer.save_pretrained(folder)
    return str(folder)
