"""Direct preference optimisation (arXiv:2305.18290) against the policy it starts from.

The reference's log-probabilities are computed once, before the first step, and kept with the
run; no second model is held. The chosen response can be pulled up a little (`nll_weight`): DPO
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
from flywheel.process.worker import rank, start, use_threads, world
from flywheel.train.base import parent_of
from flywheel.train.config import DpoSettings
from flywheel.train.data import Group, Reader, limited, needed, records_of
from flywheel.train.engine import Engine, summed
from flywheel.train.finish import finish
from flywheel.train.loop import Objective, Stats, fit, micro_batches
from flywheel.train.losses import dpo_margins, preference_loss, right_share


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
    reference = references(engine, [*pairs, *held_out], settings, run_dir)
    judged = [Judged(pair, two) for pair, two in zip([*pairs, *held_out], reference, strict=True)]
    objective = preferred(settings.beta, settings.nll_weight)
    result = fit(engine, judged[: len(pairs)], objective, settings, run_dir)
    result |= reader.counts() | {"validation_pairs": len(held_out)}
    result |= measure(engine, judged[len(pairs) :], objective, settings.micro_tokens)

    def write(folder: Path) -> None:
        merged(model).save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    return finish(
        settings,
        engine,
        kind="policy",
        write=write,
        record_uids=records_of(pairs),
        result=result,
    )


def preferred(beta: float, nll_weight: float) -> Objective[Judged]:
    """Mean over pairs of the DPO loss, plus `nll_weight` nats per token of the chosen one."""

    def loss(engine: Engine, batch: Sequence[Judged]) -> tuple[Tensor, Stats]:
        a, b = sums_of(engine, [one.pair for one in batch])
        reference = torch.tensor([one.reference for one in batch], device=a.device)
        pairs = [one.pair.pairs[0] for one in batch]
        labels = torch.tensor([[p.probability, p.weight] for p in pairs], device=a.device)
        margins = dpo_margins(a, b, reference[:, 0], reference[:, 1], beta)
        total = preference_loss(margins, labels[:, 0], labels[:, 1])
        first = labels[:, 0] > 0.5
        lengths = torch.tensor(
            [[text.response_tokens for text in one.pair.texts] for one in batch], device=a.device
        )
        chosen = torch.where(first, a / lengths[:, 0], b / lengths[:, 1])
        total = total - nll_weight * (chosen * labels[:, 1]).sum()
        shown = margins.detach()
        signed = torch.where(first, shown, -shown)
        return total, {
            "accuracy_frac": right_share(shown, labels[:, 0]),
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


@torch.no_grad()
def references(
    engine: Engine, pairs: Sequence[Group], settings: DpoSettings, run_dir: Path
) -> list[tuple[float, float]]:
    """The reference's log-probabilities, from the run's folder or from the untrained policy."""
    ids = [[text.ids for text in pair.texts] for pair in pairs]
    key = hashlib.sha256(json.dumps([parent_of(settings.model), ids]).encode()).hexdigest()
    path = run_dir / f"reference-{key[:16]}.json"
    if path.exists():
        return [(a, b) for a, b in json.loads(path.read_text())]
    flat = [0.0] * (2 * len(pairs))
    mine = list(range(len(pairs)))[rank() :: world()]
    shape = preferred(1.0, 0.0).shape
    for batch in micro_batches(
        mine, lambda place: shape(Judged(pairs[place], (0.0, 0.0))), 4 * settings.micro_tokens
    ):
        for place, a, b in zip(
            batch, *(s.tolist() for s in sums_of(engine, [pairs[p] for p in batch])), strict=True
        ):
            flat[2 * place], flat[2 * place + 1] = a, b
    flat = summed(flat)
    found = list(zip(flat[::2], flat[1::2], strict=True))
    if rank() == 0:
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(found))
        draft.replace(path)
    return found


@torch.no_grad()
def measure(
    engine: Engine, judged: Sequence[Judged], objective: Objective[Judged], micro_tokens: int
) -> dict[str, float | None]:
    """Loss and accuracy of the implicit reward on held-out pairs."""
    right = decided = loss = mass = 0.0
    for batch in micro_batches(judged, objective.shape, micro_tokens):
        lost, stats = objective.loss(engine, batch)
        loss += float(lost)
        mass += sum(objective.count(one) for one in batch)
        right += stats["accuracy_frac"][0]
        decided += stats["accuracy_frac"][1]
    return {
        "validation_loss": loss / mass if mass else None,
        "validation_accuracy_frac": right / decided if decided else None,
    }


if __name__ == "__main__":
    start(run, DpoSettings)
