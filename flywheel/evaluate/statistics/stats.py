"""Rates, differences and ratios with their intervals: a bootstrap over groups of prompts.

Answers to one prompt, and to prompts that nearly repeat each other, are not independent, so whole
groups are resampled. What lies on a known scale (a win rate, an accuracy, a difference of two)
gets an interval that never collapses: three wins of three say little, though they do not vary.

Beside each interval stands the standard error that clusters leave, `sqrt(G / (G - 1) sum_g e_g^2)`
over the count, e_g being what a cluster's observations are off the mean together: with clusters of
one it is the usual one (arXiv:2411.00640, equation 4, with the correction for few clusters).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from flywheel.errors import EvaluationError

SAME = 1e-9  # scores nearer than this are a tie
ADDED = 2  # clusters put at either end of the scale, after Agresti and Coull (1998)
PIECE = 250  # resamples at once: resamples x clusters does not fit memory
KEPT = 1_500  # clusters, up to which a bootstrap is kept for the next statistic: 6 MB
MANY = 20_000  # clusters, from where on the resampled mean is normal to three digits
NORMAL = 1.959964  # quantile .975
Sums = tuple[Any, Any]  # what each cluster adds to a sum and to a size: (clusters,) each


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A mean, or a ratio of sums, with its 95 % interval.

    Attributes:
        standard_error: Robust to clusters; None of a single one, which says nothing of it.
    """

    value: float
    low: float
    high: float
    standard_error: float | None
    count: int
    clusters: int

    @property
    def ci(self) -> list[float]:
        """The interval as a list, for JSON."""
        return [self.low, self.high]


def told(rates: Mapping[str, Rate]) -> dict[str, Any]:
    """Each under its name, its interval under `<name>_ci`, its standard error under `<name>_se`."""
    return {
        **{name: one.value for name, one in rates.items()},
        **{f"{name}_ci": one.ci for name, one in rates.items()},
        **{f"{name}_se": one.standard_error for name, one in rates.items()},
    }


def rate(
    values: Sequence[float],
    clusters: Sequence[object],
    *,
    scale: tuple[float, float] = (0.0, 1.0),
    resamples: int = 2000,
    seed: int = 0,
) -> Rate:
    """Mean of values on a bounded scale.

    The interval is the wider, at each end, of two percentile bootstraps over clusters: of the
    clusters as they are, and with two of typical size added at each end of the scale. The second
    keeps its width where all values agree; at a rate of .5 it hardly matters by 30 clusters.

    Args:
        values: One number per observation, e.g. an outcome, or the difference of two.
        clusters: What each belongs to (its prompt's group); whole clusters are resampled.
        scale: The least and the most that a value can be.
        resamples: How many times.
        seed: Same seed, same interval.

    Raises:
        EvaluationError: There is nothing to average, the two do not line up, or a number is not
            finite or not on the scale.
    """
    return rates([(values, scale)], clusters, resamples=resamples, seed=seed)[0]


def rates(
    many: Sequence[tuple[Sequence[float], tuple[float, float]]],
    clusters: Sequence[object],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Rate]:
    """As `rate`, of several values with their scales, of the same observations."""
    plain, wary = list[Sums](), list[Sums]()
    for values, (least, most) in many:
        sums, sizes = by_cluster(clusters, values, np.ones(len(values)))
        if min(values) < least or max(values) > most:
            raise EvaluationError(
                f"values must lie between {least:g} and {most:g}, got {min(values):g} to "
                f"{max(values):g}; give `rate` the scale that they have"
            )
        typical = (sizes**2).sum() / sizes.sum()  # size of the cluster of an average observation
        ends = np.repeat([least, most], ADDED)
        plain.append((sums, sizes))
        added = np.append(sums, typical * ends), np.append(sizes, np.full(len(ends), typical))
        wary.append(added)
    intervals = (_percentiles(one, resamples, seed) for one in (plain, wary))
    return [
        Rate(
            value=float(np.mean(values)),
            low=min(own[0], wide[0]),
            high=max(own[1], wide[1]),
            standard_error=standard_error(*both),
            count=len(values),
            clusters=len(both[0]),
        )
        for (values, _), both, own, wide in zip(many, plain, *intervals, strict=True)
    ]


def ratio(
    sums: Sequence[float],
    sizes: Sequence[float],
    clusters: Sequence[object],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Rate:
    """Sum of `sums` over sum of `sizes`, e.g. nats per token of whole responses.

    A long response weighs as much as it is long. The scale has no ends, so that the interval is
    the plain percentile bootstrap over clusters; with a single cluster it is a point.

    Raises:
        EvaluationError: As `rate`, or the sizes are not positive.
    """
    return ratios([(sums, sizes)], clusters, resamples=resamples, seed=seed)[0]


def ratios(
    many: Sequence[tuple[Sequence[float], Sequence[float]]],
    clusters: Sequence[object],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Rate]:
    """As `ratio`, of several sums with their sizes, of the same observations."""
    for sums, sizes in many:
        if len(sums) != len(sizes) or not all(size > 0 for size in sizes):
            raise EvaluationError(
                f"a ratio needs a positive size for each of {len(sums)} sums, got {len(sizes)} "
                f"sizes from {min(sizes, default=0):g}"
            )
    added = [by_cluster(clusters, sums, sizes) for sums, sizes in many]
    return [
        Rate(
            value=float(over.sum() / under.sum()),
            low=low,
            high=high,
            standard_error=standard_error(over, under),
            count=len(sums),
            clusters=len(over),
        )
        for (sums, _), (over, under), (low, high) in zip(
            many, added, _percentiles(added, resamples, seed), strict=True
        )
    ]


def standard_error(sums: Any, sizes: Any) -> float | None:
    """Of sum over size, from what each cluster adds to both: (clusters,) each."""
    count = len(sums)
    if count < 2:
        return None
    off = sums - sums.sum() / sizes.sum() * sizes
    return float(np.sqrt(count / (count - 1) * (off**2).sum()) / sizes.sum())


def outcomes(scores: Sequence[float], others: Sequence[float]) -> list[float]:
    """1 where the first score is higher, 0 where it is lower, a half where they tie.

    Raises:
        EvaluationError: A score is not finite: it must not pass for a defeat.
    """
    _check_finite([*scores, *others])
    return [
        0.5 if abs(a - b) <= SAME else float(a > b) for a, b in zip(scores, others, strict=True)
    ]


def agreement(votes_a: int, votes_b: int) -> float:
    """How often two annotators, drawn from those who decided on a pair, agree.

    1 for 3:0, a third for 2:1, 0 for 1:1.

    Raises:
        EvaluationError: Fewer than two decided.
    """
    count = votes_a + votes_b
    if count < 2:
        raise EvaluationError(f"agreement takes two annotators who decided, got {count}")
    return (votes_a * (votes_a - 1) + votes_b * (votes_b - 1)) / (count * (count - 1))


def _check_finite(values: Sequence[float]) -> None:
    lost = int(np.sum(~np.isfinite(np.asarray(values, dtype=float))))
    if lost:
        raise EvaluationError(
            f"every score must be finite, {lost} of {len(values)} are not; the model that gave "
            f"them has diverged: train it again"
        )


def by_cluster(clusters: Sequence[object], values: Sequence[float], sizes: Any) -> Sums:
    """Values and sizes added up within each cluster, in order of first sight: (clusters,) each."""
    if not len(values) or len(values) != len(clusters):
        raise EvaluationError(
            f"a rate needs observations with their groups, got {len(values)} and {len(clusters)}"
        )
    _check_finite(values)
    places = pa.array([str(one) for one in clusters]).dictionary_encode().indices.to_numpy()
    weights = (np.asarray(one, dtype=float) for one in (values, sizes))
    sums, totals = (np.bincount(places, weights=one) for one in weights)
    return sums, totals


def _percentiles(many: Sequence[Sums], resamples: int, seed: int) -> list[tuple[float, float]]:
    """The middle 95 % of sum over size when clusters are drawn anew; of many, by its limit."""
    if not many:
        return []
    count = len(many[0][0])
    if count >= MANY:
        return [_limit(sums, sizes) for sums, sizes in many]
    columns = [np.stack(both, axis=1) for both in many]  # two at a time: BLAS shares out no more
    pieces = _kept if count <= KEPT else _drawn
    drawn = (times.astype(float) for times in pieces(count, resamples, seed))
    added = np.concatenate([[times @ both for both in columns] for times in drawn], axis=1)
    ends = np.quantile(added[:, :, 0] / added[:, :, 1], [0.025, 0.975], axis=1)
    return [(float(low), float(high)) for low, high in ends.T]


def _limit(sums: Any, sizes: Any) -> tuple[float, float]:
    """The middle 95 % of what many resamples would come to."""
    value = sums.sum() / sizes.sum()
    half = NORMAL * np.sqrt(((sums - value * sizes) ** 2).sum()) / sizes.sum()
    return float(value - half), float(value + half)


@lru_cache(maxsize=16)
def _kept(clusters: int, resamples: int, seed: int) -> tuple[Any, ...]:
    """As `_drawn`; many statistics of the same clusters are told of, and all are of these draws."""
    return tuple(_drawn(clusters, resamples, seed))


def _drawn(clusters: int, resamples: int, seed: int) -> Iterator[Any]:
    """(PIECE, clusters) at a time: how often each resample holds each cluster."""
    generator = np.random.default_rng(seed)
    for start in range(0, resamples, PIECE):
        rows = min(PIECE, resamples - start)
        drawn = generator.integers(clusters, size=(rows, clusters))
        drawn += clusters * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * clusters)
        yield times.reshape(rows, clusters).astype(np.uint16)  # fewer than `MANY`
