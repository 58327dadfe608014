"""Direct preference optimisation (arXiv:2305.18290), and its published variants, on pairs.

The loss is one of `preference_losses.VARIANTS`. The reference is the policy it starts from; its
log-probabilities are computed once, before the first step (`reference.py`). Within a budget they
take a share of it, and the pairs that they reach, a seeded choice, are those that are trained on.
The chosen response can be pulled up a little (`nll_weight`): DPO alone may lower the likelihood
of both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flywheel.models.load import load_causal, load_tokenizer, stop_ids_of
from flywheel.models.logps import ResponseLogps, check_head, pad, row_sums
from flywheel.models.lora import with_lora
from flywheel.process.worker import start, use_threads
from flywheel.train.along import with_along
from flywheel.train.batches import held_out_batches
from flywheel.train.config import HELD_OUT_FRAC, REFERENCE_FRAC
from flywheel.train.config_policy import WITHOUT_REFERENCE, DpoSettings
from flywheel.train.data import Group, Reader, limited, needed, records_of
from flywheel.train.engine import Engine
from flywheel.train.finish import finish, policy_writer
from flywheel.train.loop import Objective, Stats, fit
from flywheel.train.losses import right_share
from flywheel.train.preference_losses import VARIANTS, Logps, Shape, pair_losses
from flywheel.train.reference import reference_of
from flywheel.train.source import Shuffled


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair with the reference's log-probabilities of its two responses, in nats."""

    pair: Group
    reference: tuple[float, float]


def run(settings: DpoSettings, run_dir: Path) -> dict[str, Any]:
    """Train a policy on a preference dataset and publish it."""
    tokenizer, model = load_tokenizer(settings.model), load_causal(settings.model)
    use_threads(model.num_parameters(), settings.threads)
    check_head(model)
    reader = Reader(settings.dataset, tokenizer, stop_ids_of(model, tokenizer), settings.max_tokens)
    found = needed(reader.pairs("train", min_margin=settings.min_margin), reader, "preference")
    pairs = limited(found, settings.limit, settings.seed)
    unseen = reader.pairs("validation", min_margin=settings.min_margin)
    held_out = limited(unseen, settings.held_out_limit, settings.seed)
    print(f"{len(pairs)} pairs, {len(held_out)} held out, {reader.counts()}")
    engine = Engine(ResponseLogps(with_lora(model, settings.lora_rank, settings.seed)), settings)
    judged, spent = referenced(engine, pairs, settings, run_dir, REFERENCE_FRAC)
    unseen_judged, more = referenced(engine, held_out, settings, run_dir, HELD_OUT_FRAC / 2)
    print(f"{len(judged)} pairs to train on, {len(unseen_judged)} to measure on")
    objective, shuffled = preferred(settings), Shuffled(judged, settings)
    source = with_along(shuffled, engine, model, tokenizer, settings, run_dir)
    result = fit(engine, source, objective, settings.for_steps(spent + more), run_dir)
    result |= reader.counts() | {
        "along": source.kept(),
        "pairs": len(judged),
        "pairs_without_time": len(pairs) - len(judged),
        "reference_seconds": round(spent, 2),
    }
    result |= measure(engine, unseen_judged, objective, settings)

    return finish(
        settings,
        engine,
        kind="policy",
        write=policy_writer(model, tokenizer),
        record_uids=records_of(one.pair for one in judged),
        result=result,
    )


def preferred(settings: DpoSettings) -> Objective[Judged]:
    """Weighted mean over pairs of the loss, plus `nll_weight` nats per token of the chosen one."""
    variant = VARIANTS[settings.loss]
    shape = Shape(beta=settings.beta, smoothing=settings.label_smoothing, gamma=settings.gamma)

    def loss(engine: Engine, batch: Sequence[Judged]) -> tuple[Tensor, Stats]:
        sums = sums_of(engine, [one.pair for one in batch])
        a, b = (
            Logps(
                policy=sums[side],
                reference=sums[side].new_tensor([one.reference[side] for one in batch]),
                lengths=sums[side].new_tensor(
                    [one.pair.texts[side].response_tokens for one in batch]
                ),
            )
            for side in (0, 1)
        )
        pairs = [one.pair.pairs[0] for one in batch]
        labels = sums[0].new_tensor([[pair.probability, pair.weight] for pair in pairs])
        probabilities, weights = labels[:, 0], labels[:, 1]
        margins = variant.margin(a, b)
        chosen = torch.where(probabilities > 0.5, a.policy / a.lengths, b.policy / b.lengths)
        losses = pair_losses(variant, margins, probabilities, shape) - settings.nll_weight * chosen
        shown = settings.beta * margins.detach()
        signed = torch.where(probabilities > 0.5, shown, -shown)
        return (losses * weights).sum(), {
            "accuracy_frac": right_share(shown, probabilities),
            "margin": (float(signed.sum()), float(len(batch))),
            "chosen_nats_per_token": (float(-chosen.detach().sum()), float(len(batch))),
        }

    return Objective(
        loss=loss,
        count=lambda one: one.pair.pairs[0].weight,
        shape=lambda one: (2, max(len(text.ids) for text in one.pair.texts)),
        tokens=lambda one: sum(len(text.ids) for text in one.pair.texts),
        record_uids=lambda one: one.pair.record_uids,
    )


def sums_of(engine: Engine, pairs: Sequence[Group]) -> tuple[Tensor, Tensor]:
    """(P,) log-probabilities of the first and of the second responses, in one forward pass."""
    order = [pair.texts[place] for place in (0, 1) for pair in pairs]
    sums = row_sums(engine(*pad(order, engine.device)), order)
    return sums[: len(pairs)], sums[len(pairs) :]


def referenced(
    engine: Engine, pairs: Sequence[Group], settings: DpoSettings, run_dir: Path, frac: float
) -> tuple[list[Judged], float]:
    """As many pairs as the reference could be asked about in a share of the budget, in their
    order, and the seconds it took; all of them at once for a loss without a reference."""
    if settings.loss in WITHOUT_REFERENCE:
        return [Judged(pair, (0.0, 0.0)) for pair in pairs], 0.0
    texts = [pair.texts for pair in pairs]
    known, seconds = reference_of(engine, texts, settings, run_dir, frac)
    return [Judged(pairs[place], (nats[0], nats[1])) for place, nats in known.items()], seconds


@torch.no_grad()
def measure(
    engine: Engine, judged: Sequence[Judged], objective: Objective[Judged], settings: DpoSettings
) -> dict[str, float | None]:
    """Loss and accuracy of the implicit reward on held-out pairs; None where there are none."""
    right = decided = loss = mass = 0.0
    seen = 0
    for batch in held_out_batches(judged, objective.shape, settings, HELD_OUT_FRAC / 2):
        lost, stats = objective.loss(engine, batch)
        loss += float(lost)
        mass += sum(objective.count(one) for one in batch)
        right += stats["accuracy_frac"][0]
        decided += stats["accuracy_frac"][1]
        seen += len(batch)
    return {
        "validation_pairs": seen,
        "validation_loss": loss / mass if mass else None,
        "validation_accuracy_frac": right / decided if decided else None,
    }


if __name__ == "__main__":
    start(run, DpoSettings)
