"""Supervised fine-tuning: imitate demonstrations, with loss on the response only."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from flywheel.models.load import load_causal, load_tokenizer, stop_ids_of
from flywheel.models.logps import (
    ResponseLogps,
    check_head,
    check_packing,
    pack,
    pad,
    pad_packs,
    row_sums,
)
from flywheel.models.lora import with_lora
from flywheel.process.worker import start, use_threads
from flywheel.train.batches import held_out_batches
from flywheel.train.config import HELD_OUT_FRAC, SftSettings
from flywheel.train.data import Reader, Row, limited, needed, records_of
from flywheel.train.engine import Engine
from flywheel.train.finish import finish, policy_writer
from flywheel.train.loop import Objective, Stats, fit
from flywheel.train.source import Shuffled


def run(settings: SftSettings, run_dir: Path) -> dict[str, Any]:
    """Fine-tune a model on a demonstration dataset and publish it."""
    tokenizer, model = load_tokenizer(settings.model), load_causal(settings.model)
    use_threads(model.num_parameters(), settings.threads)
    check_head(model)
    if settings.packing:
        check_packing(model)
    reader = Reader(settings.dataset, tokenizer, stop_ids_of(model, tokenizer), settings.max_tokens)
    rows = needed(reader.demonstrations("train"), reader, "demonstration")
    rows = limited(rows, settings.limit, settings.seed)
    held_out = limited(reader.demonstrations("validation"), settings.held_out_limit, settings.seed)
    print(f"{len(rows)} demonstrations, {len(held_out)} held out, {reader.counts()}")
    engine = Engine(ResponseLogps(with_lora(model, settings.lora_rank, settings.seed)), settings)
    objective = imitate(packing=settings.packing)
    result = fit(engine, Shuffled(rows, settings), objective, settings.for_steps(), run_dir)
    result |= reader.counts() | nats_per_token(engine, held_out, settings)

    return finish(
        settings,
        engine,
        kind="sft_policy",
        write=policy_writer(model, tokenizer),
        record_uids=records_of(rows),
        result=result,
    )


def imitate(*, packing: bool = False) -> Objective[Row]:
    """Weighted mean negative log-probability per response token."""

    def loss(engine: Engine, rows: Sequence[Row]) -> tuple[torch.Tensor, Stats]:
        packs = pack(rows, lambda row: len(row.text.ids)) if packing else [[row] for row in rows]
        rows = [row for one in packs for row in one]
        texts = [row.text for row in rows]
        if packing:
            logps = engine(*pad_packs([[row.text for row in one] for one in packs], engine.device))
        else:
            logps = engine(*pad(texts, engine.device))
        sums = row_sums(logps, texts)
        weights = torch.tensor([row.weight for row in rows], device=sums.device)
        return -(sums * weights).sum(), {}

    return Objective(
        loss=loss,
        count=lambda row: row.weight * row.text.response_tokens,
        shape=lambda row: (1, len(row.text.ids)),
        tokens=lambda row: len(row.text.ids),
        record_uids=lambda row: row.record_uids,
        packing=packing,
    )


@torch.no_grad()
def nats_per_token(
    engine: Engine, rows: Sequence[Row], settings: SftSettings
) -> dict[str, float | None]:
    """Mean negative log-probability of held-out responses, None where there are none, and of
    how many it is."""
    total, tokens, seen = 0.0, 0, 0
    for batch in held_out_batches(rows, imitate().shape, settings, HELD_OUT_FRAC):
        texts = [row.text for row in batch]
        total -= float(engine(*pad(texts, engine.device)).sum())
        tokens += sum(text.response_tokens for text in texts)
        seen += len(batch)
    return {"validation_rows": seen, "validation_loss": total / tokens if tokens else None}


if __name__ == "__main__":
    start(run, SftSettings)
