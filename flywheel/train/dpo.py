"""Direct preference optimisation (arXiv:2305.18290), and its published variants, on pairs.

The loss is one of `preference_losses.VARIANTS`. The reference is the policy it starts from; its
log-probabilities are computed once, before the first step, and kept with the run; no second model
is held. Within a budget they take a share of it, and the pairs that they reach, a seeded choice,
are those that are trained on. The chosen response can be pulled up a little (`nll_weight`): DPO
alone may lower the likelihood of both.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flywheel.models.load import load_causal, load_tokenizer, stop_ids_of
from flywheel.models.logps import ResponseLogps, check_head, pad, row_sums
from flywheel.models.lora import merged, with_lora
from flywheel.process.clock import pieces
from flywheel.process.launch import write_json
from flywheel.process.worker import rank, start, use_threads, world
from flywheel.train.base import parent_of
from flywheel.train.batches import held_out_batches, micro_batches
from flywheel.train.config import HELD_OUT_FRAC, REFERENCE_FRAC
from flywheel.train.config_policy import WITHOUT_REFERENCE, DpoSettings
from flywheel.train.data import Group, Reader, limited, needed, records_of
from flywheel.train.engine import Engine, shared_clock, summed
from flywheel.train.finish import finish
from flywheel.train.loop import Objective, Stats, fit
from flywheel.train.losses import right_share
from flywheel.train.preference_losses import VARIANTS, Logps, Shape, pair_losses
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
    if settings.loss in WITHOUT_REFERENCE:
        judged, unseen_judged = (
            [Judged(one, (0.0, 0.0)) for one in of] for of in (pairs, held_out)
        )
        spent = more = 0.0
    else:
        judged, spent = referenced(engine, pairs, settings, run_dir, REFERENCE_FRAC)
        unseen_judged, more = referenced(engine, held_out, settings, run_dir, HELD_OUT_FRAC / 2)
        print(f"the reference of {len(judged)} pairs and {len(unseen_judged)} held out is known")
    objective = preferred(settings)
    result = fit(
        engine, Shuffled(judged, settings), objective, settings.for_steps(spent + more), run_dir
    )
    result |= reader.counts() | {
        "pairs": len(judged),
        "pairs_without_time": len(pairs) - len(judged),
        "reference_seconds": round(spent, 2),
    }
    result |= measure(engine, unseen_judged, objective, settings)

    def write(folder: Path) -> None:
        merged(model).save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return finish(
        settings,
        engine,
        kind="policy",
        write=write,
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
    """Pairs with the reference's log-probabilities, from the run's folder or the untrained policy.

    Args:
        engine: Holds the policy before its first step.
        pairs: What the reference should be known of.
        settings: Of the run.
        run_dir: Where a resumed run finds what an earlier start of it computed.
        frac: Share of the budget that this may take.

    Returns:
        As many of the pairs as fitted, in their order, and the seconds it took.
    """
    ids = [[text.ids for text in pair.texts] for pair in pairs]
    seconds = settings.seconds_of(frac)
    content = json.dumps([parent_of(settings.model), ids, seconds, settings.seed])
    path = run_dir / f"reference-{hashlib.sha256(content.encode()).hexdigest()[:16]}.json"
    if not path.exists():
        started = shared_clock()
        reached, flat = _references(engine, pairs, settings, seconds)
        known: dict[str, Any] = {
            "reached": reached,
            "nats": flat,
            "seconds": shared_clock() - started,
        }
        if rank() == 0:
            write_json(path, known)
    else:
        known = json.loads(path.read_text())
    two = zip(known["nats"][::2], known["nats"][1::2], strict=True)
    judged = [Judged(pairs[p], pair) for p, pair in zip(known["reached"], two, strict=True)]
    return judged, float(known["seconds"])


@torch.no_grad()
def _references(
    engine: Engine, pairs: Sequence[Group], settings: DpoSettings, seconds: float
) -> tuple[list[int], list[float]]:
    """Places of the pairs reached within `seconds`, and two log-probabilities of each."""
    shape = preferred(settings).shape
    flat = [0.0] * (2 * len(pairs))
    reached: list[int] = []
    for piece in pieces(range(len(pairs)), seconds, seed=settings.seed, clock=shared_clock):
        reached += piece
        for batch in micro_batches(
            piece[rank() :: world()],
            lambda place: shape(Judged(pairs[place], (0.0, 0.0))),
            4 * settings.micro_tokens,
        ):
            sums = sums_of(engine, [pairs[place] for place in batch])
            for place, a, b in zip(batch, *(one.tolist() for one in sums), strict=True):
                flat[2 * place], flat[2 * place + 1] = a, b
    reached.sort()
    flat = summed(flat)
    return reached, [flat[2 * place + side] for place in reached for side in (0, 1)]


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
