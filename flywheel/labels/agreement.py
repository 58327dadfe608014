"""How far annotators agree beyond chance, with intervals: Krippendorff's alpha and plain shares.

Alpha is 1 where all agree and 0 where they agree as chance would have it; it knows any number of
annotators, items that some left out, and classes that lie apart by more than their name: *nominal*
(equal or not), *ordinal* (how many labels lie between), *interval* (the squared distance). Items
with one label say nothing of agreement and are left out.

Source: Krippendorff, "Computing Krippendorff's alpha-reliability" (2011); only counts per item
enter, so no table of annotators by items is built.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from flywheel.labels.dawid_skene import Floats, Ints, Labels, log_ratios

Level = Literal["nominal", "ordinal", "interval"]
Z = 1.959964  # two-sided 95 %
BLOCKS = 1000  # of items that a resample draws from; more move an interval by less than it shows
RESAMPLES = 500


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement on the items that have two labels or more.

    Attributes:
        alpha: Krippendorff's; None where it is not defined: no such item, or one class in all.
        ci: 95 % interval of alpha, resampled over items; None where alpha is None.
        share: Of pairs of labels on one item that are equal, each item weighing its labels.
        items: Items with two labels or more.
        labels: Labels on them.
    """

    alpha: float | None
    ci: tuple[float, float] | None
    share: float | None
    items: int
    labels: int


def krippendorff(
    item: npt.ArrayLike,
    label: npt.ArrayLike,
    *,
    classes: int,
    level: Level = "nominal",
    values: Floats | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Alpha of labels [N] on items [N], with its interval; no resamples, no interval.

    Args:
        item: Items.
        label: Codes of labels, in their order where that matters.
        classes: K.
        level: What a difference between two classes counts.
        values: Number that each class stands for [K], for `interval`; its code otherwise.
        resamples: Of the bootstrap over items.
        seed: Of the bootstrap.
    """
    item = np.asarray(item)
    votes = Labels(item, np.zeros_like(item), label, classes).votes().T
    votes = votes[votes.sum(axis=1) >= 2]
    made = votes.sum(axis=1)
    if not len(votes):
        return Agreement(None, None, None, 0, 0)
    scaled = votes / (made - 1)[:, None]
    coincidences = scaled.T @ votes - np.diag(scaled.sum(axis=0))
    (found,) = _alphas(coincidences[None], level, values).tolist()
    alpha = None if np.isnan(found) else found
    share = float(np.trace(coincidences) / coincidences.sum())
    ci = None
    if alpha is not None and resamples:
        ci = _interval(scaled, votes, level, values, resamples, seed) or (alpha, alpha)
    return Agreement(alpha, ci, share, len(votes), int(made.sum()))


def _interval(
    scaled: Floats,
    votes: Floats,
    level: Level,
    values: Floats | None,
    resamples: int,
    seed: int,
) -> tuple[float, float] | None:
    """Percentiles of alpha over resampled blocks of items; blocks are dealt, not consecutive."""
    blocks = min(len(votes), BLOCKS)
    dealt = np.arange(len(votes)) % blocks
    size, classes = votes.shape[1] ** 2, votes.shape[1]
    found = np.zeros((blocks, size))
    for one in range(classes):
        for other in range(classes):
            both = scaled[:, one] * (votes[:, other] - (one == other))
            found[:, one * classes + other] = np.bincount(dealt, both, blocks)
    drawn = _drawn(blocks, resamples, seed) @ found
    alphas = _alphas(drawn.reshape(-1, classes, classes), level, values)
    defined = alphas[~np.isnan(alphas)]
    if not len(defined):
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)


@lru_cache(maxsize=8)
def _drawn(blocks: int, resamples: int, seed: int) -> Floats:
    """How often each resample draws each block: the same for every slice of as many [S, B]."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=resamples)
    return np.asarray(drawn, float)


def _alphas(coincidences: Floats, level: Level, values: Floats | None) -> Floats:
    """Alpha of each table [S, K, K]; NaN where it is not defined."""
    totals = coincidences.sum(axis=2)
    distance = _distances(totals, level, values)
    expected = (totals[:, :, None] * distance * totals[:, None]).sum(axis=(1, 2))
    seen = (totals.sum(axis=1) - 1) * (coincidences * distance).sum(axis=(1, 2))
    return np.asarray(1 - seen / np.where(expected > 0, expected, np.nan))


def _distances(totals: Floats, level: Level, values: Floats | None) -> Floats:
    """Squared difference between classes [S or 1, K, K]."""
    classes = totals.shape[1]
    if level == "nominal":
        return 1 - np.eye(classes)[None]
    if level == "ordinal":  # n_c/2 + those between + n_k/2, by difference
        places = np.cumsum(totals, axis=1) - totals / 2
    else:
        places = (np.arange(classes, dtype=float) if values is None else values)[None]
    return np.asarray((places[:, :, None] - places[:, None]) ** 2)


def wilson(share: npt.ArrayLike, count: npt.ArrayLike) -> tuple[Floats, Floats]:
    """95 % interval of shares among counts, both ends in 0..1; 0 to 1 where nothing was counted.

    Source: Wilson, "Probable inference" (JASA 1927); holds for few labels and shares of 0 and 1.
    """
    p, n = np.asarray(share, float), np.maximum(np.asarray(count, float), 0)
    safe = np.maximum(n, 1e-9)
    middle = (p + Z**2 / (2 * safe)) / (1 + Z**2 / safe)
    half = Z / (1 + Z**2 / safe) * np.sqrt(p * (1 - p) / safe + Z**2 / (4 * safe**2))
    none = n == 0
    return np.where(none, 0.0, middle - half), np.where(none, 1.0, middle + half)


def left_out(
    item: npt.ArrayLike,
    annotator: npt.ArrayLike,
    label: npt.ArrayLike,
    *,
    errors: Floats,
    prior: Floats,
) -> tuple[Floats, Ints]:
    """What all other labels say of a label's item: each label is left out in its turn.

    Returns:
        Log-odds of each class but the last against the last by the other labels [K - 1, N], and
        how many other labels there are [N].
    """
    labels = Labels(item, annotator, label, len(prior))
    odds, own = labels.log_odds(errors, prior), log_ratios(errors)
    return odds[:, labels.item] - own[:, labels.said], labels.sizes[labels.item] - 1
