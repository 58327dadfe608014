"""Rates and their intervals: a bootstrap over prompts, since answers to one are not independent."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.errors import EvaluationError

SAME = 1e-9  # scores nearer than this are a tie


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float
    count: int
    clusters: int

    @property
    def ci(self) -> list[float]:
        """The interval as a list, for JSON."""
        return [self.low, self.high]


def rate(
    values: Sequence[float],
    clusters: Sequence[object],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Rate:
    """Mean of `values` with a percentile interval from a bootstrap over `clusters`.

    Args:
        values: One number per observation.
        clusters: What each belongs to (its prompt); whole clusters are resampled.
        resamples: How many times.
        seed: Same seed, same interval.

    Raises:
        EvaluationError: There is nothing to average, the two do not line up, or a number is not
            finite.
    """
    if not len(values) or len(values) != len(clusters):
        raise EvaluationError(
            f"a rate needs observations with their prompts, got {len(values)} and {len(clusters)}"
        )
    _check_finite(values)
    names, places = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    sums = np.bincount(places, weights=np.asarray(values, dtype=float))
    sizes = np.bincount(places).astype(float)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    for start in range(0, resamples, 250):  # in pieces: resamples x clusters does not fit memory
        drawn = generator.integers(len(names), size=(min(250, resamples - start), len(names)))
        means[start : start + 250] = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Rate(
        value=float(np.mean(values)),
        low=float(low),
        high=float(high),
        count=len(values),
        clusters=len(names),
    )


def outcomes(scores: Sequence[float], others: Sequence[float]) -> list[float]:
    """1 where the first score is higher, 0 where it is lower, a half where they tie.

    Raises:
        EvaluationError: A score is not finite: it must not pass for a defeat.
    """
    _check_finite([*scores, *others])
    return [
        0.5 if abs(a - b) <= SAME else float(a > b) for a, b in zip(scores, others, strict=True)
    ]


def agreement(votes_a: Sequence[int], votes_b: Sequence[int]) -> tuple[float | None, int]:
    """How often two annotators who both decided on a pair agree, and on how many pairs.

    Every pair with two or more decided votes counts once, whatever the number of its votes.
    """
    shares = []
    for a, b in zip(votes_a, votes_b, strict=True):
        n = a + b
        if n >= 2:
            shares.append((a * (a - 1) + b * (b - 1)) / (n * (n - 1)))
    return (sum(shares) / len(shares) if shares else None), len(shares)


def _check_finite(values: Sequence[float]) -> None:
    lost = int(np.sum(~np.isfinite(np.asarray(values, dtype=float))))
    if lost:
        raise EvaluationError(
            f"every score must be finite, {lost} of {len(values)} are not; the model that gave "
            f"them has diverged: train it again"
        )
