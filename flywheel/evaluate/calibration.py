"""Whether a reward model is as sure as it is right: stated probability against what was labelled.

The difference of two scores, as they come out of the head, is the log-odds that the first response
is preferred. Held-out pairs are turned so that the model prefers the first, and put into bins by
how sure it is; beside each bin's mean stands the label's share for that side, ties a half. ECE is
the mean distance of the two. With few pairs chance alone makes some, so that what a model with
these very probabilities would show if they were true stands beside it.

The temperature that divides the log-odds is the one of greatest likelihood; the ECE with it is
measured on the folds that it was not fitted to.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
EDGES = np.linspace(0.5, 1, 11)  # of the probability of the side that the model prefers
FOLDS = 5
FITS = 100  # temperatures of redrawn pairs
COARSE = np.linspace(-3, 4, 36)  # log temperatures tried: 1/20 to 55


def calibrated(
    margins: Sequence[float],
    labels: Sequence[float],
    clusters: Sequence[object],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """The reliability of stated probabilities.

    Args:
        margins: (N,) log-odds that the first response is preferred.
        labels: (N,) share of the label that is for it.
        clusters: (N,) what each pair belongs to; whole clusters are resampled.
        resamples: How many times.
        seed: Same seed, same intervals.

    Returns:
        bins, each with low and high end, pairs, stated, labelled and its ci; ece with ci,
        ece_by_chance, temperature with ci, ece_at_temperature.
    """
    sure = np.abs(np.asarray(margins, float))
    right = np.where(np.asarray(margins) >= 0, labels, 1 - np.asarray(labels, float))
    names = {name: at for at, name in enumerate(dict.fromkeys(map(str, clusters)))}
    place = np.array([names[str(one)] for one in clusters])
    rng = np.random.default_rng(seed)
    stated = _sigmoid(sure)
    count = len(names)
    draws = [
        np.bincount(rng.integers(count, size=count), minlength=count)[place]
        for _ in range(max(resamples // 4, 20))
    ]
    tables = np.array([_labelled(stated, right, weight) for weight in draws])
    folds = np.array([zlib.crc32(str(one).encode()) % FOLDS for one in clusters])
    cooled = sure.copy()
    for fold in np.unique(folds):
        cooled[folds == fold] /= temperature_of(sure[folds != fold], right[folds != fold])
    whole = np.ones(len(sure))
    eces = [_ece(stated, right, weight) for weight in draws]
    spread = [temperature_of(sure, right, weight) for weight in draws[:FITS]]
    return {
        "bins": [
            {
                "low": float(EDGES[at]),
                "high": float(EDGES[at + 1]),
                "pairs": int(inside.sum()),
                "stated": float(stated[inside].mean()),
                "labelled": float(right[inside].mean()),
                "ci": np.nanquantile(tables[:, at], [0.025, 0.975]).tolist(),
            }
            for at in range(len(EDGES) - 1)
            if (inside := _bin(stated) == at).any()
        ],
        "ece": _ece(stated, right, whole),
        "ece_ci": np.quantile(eces, [0.025, 0.975]).tolist(),
        "ece_se": float(np.std(eces, ddof=1)),
        "ece_by_chance": _by_chance(stated, right, draws),
        "temperature": temperature_of(sure, right),
        "temperature_ci": np.quantile(spread, [0.025, 0.975]).tolist(),
        "temperature_se": float(np.std(spread, ddof=1)),
        "ece_at_temperature": _ece(_sigmoid(cooled), right, whole),
        "pairs": len(sure),
        "groups": count,
    }


def temperature_of(sure: Floats, right: Floats, weight: Floats | None = None) -> float:
    """What log-odds are to be divided by: the greatest likelihood of the labels, on a fine grid."""
    weights = np.ones_like(sure) if weight is None else weight
    grid = COARSE
    for _ in range(3):  # to two thousandths
        losses = [_loss(sure / np.exp(one), right, weights) for one in grid]
        best = grid[int(np.argmin(losses))]
        step = grid[1] - grid[0]
        grid = np.linspace(best - step, best + step, 21)
    return float(np.exp(best))


def _loss(odds: Floats, right: Floats, weights: Floats) -> float:
    return float(weights @ (np.logaddexp(0, -odds) + (1 - right) * odds))


def _by_chance(stated: Floats, right: Floats, draws: Sequence[Floats]) -> float:
    """Mean ECE of redrawn clusters where every bin's labels are moved to what is stated there."""
    sums = np.bincount(_bin(stated), right - stated, len(EDGES) - 1)
    off = sums / np.maximum(np.bincount(_bin(stated), minlength=len(EDGES) - 1), 1)
    return float(np.mean([_ece(stated, right - off[_bin(stated)], weight) for weight in draws]))


def _bin(stated: Floats) -> Any:
    return np.clip(np.searchsorted(EDGES, stated, side="right") - 1, 0, len(EDGES) - 2)


def _labelled(stated: Floats, right: Floats, weight: Floats) -> Floats:
    """Mean label of each bin; NaN of an empty one."""
    size, total = (np.bincount(_bin(stated), weight * one, len(EDGES) - 1) for one in (1.0, right))
    return np.asarray(np.divide(total, size, out=np.full(len(size), np.nan), where=size > 0))


def _ece(stated: Floats, right: Floats, weight: Floats) -> float:
    off = np.bincount(_bin(stated), weight * (stated - right), len(EDGES) - 1)
    return float(np.abs(off).sum() / weight.sum())


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-values)))
