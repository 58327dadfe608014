"""Kahneman-Tversky optimisation (arXiv:2402.01306): a policy from thumbs up and thumbs down.

No pair is needed: each response was judged alone. A step asks how far the policy is from its
reference on *strays*, prompts with the response to another prompt; that drift, `z0`, is what a
good response is to gain over and a bad one to fall below. It is measured once, over the whole
step and before the cut into micro-batches, so that no cut changes a gradient.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flywheel.errors import TrainingError
from flywheel.models.load import load_causal, load_tokenizer, stop_ids_of
from flywheel.models.logps import ResponseLogps, check_head, pad, row_sums
from flywheel.models.lora import with_lora
from flywheel.process.clock import pieces
from flywheel.process.worker import start, use_threads
from flywheel.train.along import with_along
from flywheel.train.config import HELD_OUT_FRAC, REFERENCE_FRAC
from flywheel.train.config_policy import KtoSettings
from flywheel.train.data import limited, needed
from flywheel.train.engine import Engine
from flywheel.train.finish import finish, policy_writer
from flywheel.train.loop import Objective, Stats, fit
from flywheel.train.losses import right_share
from flywheel.train.preference_losses import kto
from flywheel.train.ranks import shared_clock
from flywheel.train.ratings import Rating, RatingReader
from flywheel.train.reference import reference_of, response_nats
from flywheel.train.source import Shuffled

LEAN = 4 / 3  # how far the desirable may outweigh the undesirable (arXiv:2402.01306 eq. 8)


@dataclass(frozen=True, slots=True)
class Rated:
    """A rating with what the reference gives its two texts, and the z0 of its step, in nats."""

    rating: Rating
    reference: tuple[float, float]  # of the text, of the stray
    z0: float = 0.0


def run(settings: KtoSettings, run_dir: Path) -> dict[str, Any]:
    """Train a policy on the ratings of one criterion and publish it."""
    tokenizer, model = load_tokenizer(settings.model), load_causal(settings.model)
    use_threads(model.num_parameters(), settings.threads)
    check_head(model)
    stop_ids = stop_ids_of(model, tokenizer)
    reader = RatingReader(settings.ratings, tokenizer, stop_ids, settings.max_tokens)
    read = partial(
        reader.ratings,
        criterion=settings.criterion,
        threshold=settings.threshold,
        seed=settings.seed,
    )
    found = needed(read("train"), reader, f"rating of {settings.criterion}")
    ratings = limited(found, settings.limit, settings.seed)
    held_out = limited(read("validation"), settings.held_out_limit, settings.seed)
    print(f"{len(ratings)} ratings, {len(held_out)} held out, {reader.counts()}")
    engine = Engine(ResponseLogps(with_lora(model, settings.lora_rank, settings.seed)), settings)
    rated, spent = referenced(engine, ratings, settings, run_dir, REFERENCE_FRAC)
    unseen_rated, more = referenced(engine, held_out, settings, run_dir, HELD_OUT_FRAC / 2)
    print(f"{len(rated)} ratings to train on, {len(unseen_rated)} to measure on")
    weights = lambdas(rated, settings)
    centred = Centred(engine, rated, settings)
    source = with_along(centred, engine, model, tokenizer, settings, run_dir)
    left = settings.for_steps(spent + more)
    result = fit(engine, source, valued(settings.beta, weights), left, run_dir)
    result |= reader.counts() | {
        "along": source.kept(),
        "ratings": len(rated),
        "ratings_without_time": len(ratings) - len(rated),
        "lambda_desirable": weights[True],
        "lambda_undesirable": weights[False],
        "reference_seconds": round(spent, 2),
    }
    result |= measure(engine, unseen_rated, weights, settings)

    return finish(
        settings,
        engine,
        kind="policy",
        write=policy_writer(model, tokenizer),
        record_uids={uid for one in rated for uid in one.rating.record_uids},
        result=result,
    )


class Centred:
    """Ratings in seeded order, each with the z0 of the step that it is in."""

    def __init__(self, engine: Engine, rated: Sequence[Rated], settings: KtoSettings) -> None:
        self._engine, self._budget = engine, 4 * settings.micro_tokens  # no gradient is kept
        self._shuffled = Shuffled(rated, settings)
        self.steps = self._shuffled.steps

    def draw(self, step: int) -> tuple[list[Rated], dict[str, float]]:
        """The next batch, and the z0 that it is held against."""
        chosen, _ = self._shuffled.draw(step)
        nats = response_nats(self._engine, [one.rating.stray for one in chosen], self._budget)
        z0 = z0_of(nats, chosen)
        return [replace(one, z0=z0) for one in chosen], {"z0_nats": z0}

    def state(self) -> dict[str, Any]:
        """Nothing: step and weights say it all."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


def z0_of(strays: Sequence[float], rated: Sequence[Rated]) -> float:
    """Mean log-ratio of the strays, at least 0, in nats: a number, so no gradient passes."""
    ratios = [now - one.reference[1] for now, one in zip(strays, rated, strict=True)]
    return max(0.0, sum(ratios) / len(ratios))


def lambdas(rated: Sequence[Rated], settings: KtoSettings) -> dict[bool, float]:
    """Weight of the desirable and of the undesirable, what is 0 in the settings chosen.

    The scarcer side is lifted, or what was set left as it is and the other side moved, until the
    desirable outweigh the undesirable by 1 to `LEAN`.

    Raises:
        TrainingError: All are desirable, or all undesirable.
    """
    mass = {
        good: sum(one.rating.weight for one in rated if one.rating.is_desirable == good)
        for good in (True, False)
    }
    if not mass[True] or not mass[False]:
        raise TrainingError(
            f"KTO learns from both desirable and undesirable responses, but of {len(rated)} "
            f"ratings of {settings.criterion!r} all are {'' if mass[True] else 'un'}desirable "
            f"(above or below {settings.threshold}); land more, or choose another threshold"
        )
    up, down = settings.lambda_desirable, settings.lambda_undesirable
    ratio = mass[True] * (up or 1.0) / (mass[False] * (down or 1.0))
    off = ratio / min(max(ratio, 1.0), LEAN)  # below 1: the desirable weigh too little
    if not up and (off < 1 or down):
        return {True: 1 / off, False: down or 1.0}
    return {True: up or 1.0, False: down or off}


def valued(beta: float, weights: dict[bool, float]) -> Objective[Rated]:
    """Weighted mean over ratings of the KTO loss; the lambdas are no part of the denominator."""

    def loss(engine: Engine, batch: Sequence[Rated]) -> tuple[Tensor, Stats]:
        texts = [one.rating.text for one in batch]
        sums = row_sums(engine(*pad(texts, engine.device)), texts)
        ratios = sums - sums.new_tensor([one.reference[0] for one in batch])
        return weighed(ratios, batch, beta, weights)

    return Objective(
        loss=loss,
        count=lambda one: one.rating.weight,
        shape=lambda one: (1, len(one.rating.text.ids)),
        tokens=lambda one: len(one.rating.text.ids),
        record_uids=lambda one: one.rating.record_uids,
    )


def weighed(
    ratios: Tensor, batch: Sequence[Rated], beta: float, weights: dict[bool, float]
) -> tuple[Tensor, Stats]:
    """Sum of the weighted losses of responses with log-ratios (B,), and what else to report."""
    is_desirable = torch.tensor([one.rating.is_desirable for one in batch], device=ratios.device)
    z0 = ratios.new_tensor([one.z0 for one in batch])
    mass = [one.rating.weight * weights[one.rating.is_desirable] for one in batch]
    shown, good = ratios.detach(), is_desirable.to(ratios.dtype)
    return (kto(ratios, is_desirable, z0, beta) * ratios.new_tensor(mass)).sum(), {
        "accuracy_frac": right_share(shown - z0, good),
        "desirable_nats": (float((shown * good).sum()), float(good.sum())),
        "undesirable_nats": (float((shown * (1 - good)).sum()), float((1 - good).sum())),
    }


def referenced(
    engine: Engine, ratings: Sequence[Rating], settings: KtoSettings, run_dir: Path, frac: float
) -> tuple[list[Rated], float]:
    """As many ratings as the reference could be asked about in a share of the budget, in their
    order, and the seconds it took."""
    texts = [(rating.text, rating.stray) for rating in ratings]
    known, seconds = reference_of(engine, texts, settings, run_dir, frac)
    return [Rated(ratings[place], (nats[0], nats[1])) for place, nats in known.items()], seconds


def measure(
    engine: Engine, rated: Sequence[Rated], weights: dict[bool, float], settings: KtoSettings
) -> dict[str, float | None]:
    """Loss of held-out ratings, and the share on the right side of the z0 of all their strays.

    Both are None where there are no held-out ratings.
    """
    seen: list[Rated] = []
    nats: list[float] = []
    seconds = settings.seconds_of(HELD_OUT_FRAC / 2)
    for piece in pieces(rated, seconds, seed=settings.seed, clock=shared_clock):
        texts = [text for one in piece for text in (one.rating.text, one.rating.stray)]
        nats += response_nats(engine, texts, 4 * settings.micro_tokens)
        seen += piece
    if not seen:
        return {
            "validation_ratings": 0,
            "validation_loss": None,
            "validation_accuracy_frac": None,
        }
    z0 = z0_of(nats[1::2], seen)
    centred = [replace(one, z0=z0) for one in seen]
    ratios = torch.tensor(nats[::2]) - torch.tensor([one.reference[0] for one in seen])
    loss, stats = weighed(ratios, centred, settings.beta, weights)
    right, decided = stats["accuracy_frac"]
    return {
        "validation_ratings": len(seen),
        "validation_loss": float(loss) / sum(one.rating.weight for one in seen),
        "validation_accuracy_frac": right / decided,
    }


if __name__ == "__main__":
    start(run, KtoSettings)
