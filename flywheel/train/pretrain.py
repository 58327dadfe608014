"""Pre-train a small Llama on a corpus: the base policy of the sample world.

A page is one element. Every word of it carries loss, and so does its end.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from flywheel.datasets.render import Rendered, page_of
from flywheel.errors import TrainingError
from flywheel.models.logps import ResponseLogps, pack, pad, pad_packs
from flywheel.models.small import small_llama, word_tokenizer
from flywheel.process.worker import start, use_threads
from flywheel.train.config import PretrainSettings
from flywheel.train.engine import Engine
from flywheel.train.finish import finish, policy_writer
from flywheel.train.loop import Objective, Stats, fit
from flywheel.train.source import Shuffled


def run(settings: PretrainSettings, run_dir: Path) -> dict[str, Any]:
    """Train from scratch and publish a Hugging Face folder."""
    pages = pq.read_table(settings.corpus, columns=["text"])["text"].to_pylist()
    tokenizer = word_tokenizer(pages)
    elements = [row for page in pages if (row := page_of(tokenizer, page, settings.max_tokens))]
    print(f"{len(elements)} pages, {len(pages) - len(elements)} too long, {len(tokenizer)} words")
    if not elements:
        raise TrainingError(f"{settings.corpus} has no page of at most {settings.max_tokens} words")
    model = small_llama(
        tokenizer,
        hidden=settings.hidden,
        layers=settings.layers,
        heads=settings.heads,
        feed_forward=settings.feed_forward,
        rope_theta=settings.rope_theta,
        max_positions=settings.max_positions,
        seed=settings.seed,
    )
    use_threads(model.num_parameters(), settings.threads)
    engine = Engine(ResponseLogps(model), settings)
    result = fit(engine, Shuffled(elements, settings), imitate(settings.packing), settings, run_dir)

    result["parameters"] = model.num_parameters()
    return finish(
        settings, engine, kind="base_policy", write=policy_writer(model, tokenizer), result=result
    )


def imitate(packing: bool) -> Objective[Rendered]:
    """Mean negative log-probability per token that carries loss."""

    def loss(engine: Engine, rows: Sequence[Rendered]) -> tuple[torch.Tensor, Stats]:
        if packing:
            packs = pack(rows, lambda row: len(row.ids))
            return -engine(*pad_packs(packs, engine.device)).sum(), {}
        return -engine(*pad(rows, engine.device)).sum(), {}

    return Objective(
        loss=loss,
        count=lambda row: float(row.response_tokens),
        shape=lambda row: (1, len(row.ids)),
        tokens=lambda row: len(row.ids),
        packing=packing,
    )


if __name__ == "__main__":
    start(run, PretrainSettings)
