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
    draws = np.array(
        [
            np.bincount(rng.integers(count, size=count), minlength=count)[place]
            for _ in range(max(resamples // 4, 20))
        ],
        float,
    )
    tables = _labelled(stated, right, draws)
    folds = np.array([zlib.crc32(str(one).encode()) % FOLDS for one in clusters])
    cooled = sure.copy()
    for fold in np.unique(folds):
        cooled[folds == fold] /= temperature_of(sure[folds != fold], right[folds != fold])
    whole = np.ones((1, len(sure)))
    eces = _ece(stated, right, draws)
    spread = _temperatures(sure, right, draws[:FITS])
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
        "ece": float(_ece(stated, right, whole)[0]),
        "ece_ci": np.quantile(eces, [0.025, 0.975]).tolist(),
        "ece_se": float(np.std(eces, ddof=1)),
        "ece_by_chance": _by_chance(stated, right, draws),
        "temperature": temperature_of(sure, right),
        "temperature_ci": np.quantile(spread, [0.025, 0.975]).tolist(),
        "temperature_se": float(np.std(spread, ddof=1)),
        "ece_at_temperature": float(_ece(_sigmoid(cooled), right, whole)[0]),
        "pairs": len(sure),
        "groups": count,
    }


def temperature_of(sure: Floats, right: Floats) -> float:
    """What log-odds are to be divided by: the greatest likelihood of the labels, on a fine grid."""
    return float(_temperatures(sure, right, np.ones((1, len(sure))))[0])


def _temperatures(sure: Floats, right: Floats, weights: Floats) -> Floats:
    """(D,) as `temperature_of`, of pairs weighted in D ways, (D, N)."""
    grids = {0.0: COARSE}  # by what they lie around
    best = np.zeros(len(weights))
    for _ in range(3):  # to two thousandths
        for middle, grid in grids.items():
            mine = best == middle
            losses = weights[mine] @ _losses(sure, right, grid).T
            best[mine] = grid[losses.argmin(axis=1)]
        step = grid[1] - grid[0]
        grids = {one: np.linspace(one - step, one + step, 21) for one in np.unique(best).tolist()}
    return np.exp(best)


def _losses(sure: Floats, right: Floats, grid: Floats) -> Floats:
    """(G, N) nats of each label at G log temperatures."""
    odds = sure / np.exp(grid)[:, None]
    return np.asarray(np.logaddexp(0, -odds) + (1 - right) * odds)


def _by_chance(stated: Floats, right: Floats, draws: Floats) -> float:
    """Mean ECE of redrawn clusters where every bin's labels are moved to what is stated there."""
    sums = np.bincount(_bin(stated), right - stated, len(EDGES) - 1)
    off = sums / np.maximum(np.bincount(_bin(stated), minlength=len(EDGES) - 1), 1)
    return float(_ece(stated, right - off[_bin(stated)], draws).mean())


def _bin(stated: Floats) -> Any:
    return np.clip(np.searchsorted(EDGES, stated, side="right") - 1, 0, len(EDGES) - 2)


def _added(stated: Floats, values: Floats, weights: Floats) -> Floats:
    """(D, bins) weighted sums of values in each bin, for (D, N) weights."""
    inside = _bin(stated)[:, None] == np.arange(len(EDGES) - 1)
    return np.asarray(weights @ (inside * values[:, None]))


def _labelled(stated: Floats, right: Floats, weights: Floats) -> Floats:
    """(D, bins) mean label of each bin; NaN of an empty one."""
    size, total = (_added(stated, one, weights) for one in (np.ones_like(right), right))
    return np.asarray(np.divide(total, size, out=np.full(size.shape, np.nan), where=size > 0))


def _ece(stated: Floats, right: Floats, weights: Floats) -> Floats:
    """(D,) mean distance of what is stated from what was labelled, for (D, N) weights."""
    off = np.abs(_added(stated, stated - right, weights)).sum(axis=1)
    return np.asarray(off / weights.sum(axis=1))


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-values)))
