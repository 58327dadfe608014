"""Gold and proxy along one way from the start, and where on it gold turns: with intervals.

A *way* is the best of n for growing n, or a policy as its run goes on. Whoever is the gold, a
program or people, its curve is made here: from the means of what was measured, and from those of
samples drawn anew.

Dimension key
    P   prompts
    K   places on the way, the start first
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flywheel.evaluate.reward.overoptimisation import Form, Point, fitted, peak_of_form, turn
from flywheel.evaluate.settings import EvaluateSettings

Floats = npt.NDArray[np.float64]
Means = tuple[Floats, Floats, Floats]  # (K,) each: proxy, gold, nats


@dataclass(frozen=True, slots=True)
class Measured:
    """What every prompt says of every place: (P, K) each, and the prompts' groups."""

    proxy: Floats
    gold: Floats
    nats: Floats
    groups: list[str]

    def means(self) -> Means:
        """Over prompts."""
        return self.proxy.mean(axis=0), self.gold.mean(axis=0), self.nats.mean(axis=0)


def resampled(measured: Measured, settings: EvaluateSettings) -> list[Means]:
    """The means with groups of prompts drawn anew."""
    places = numbered(measured.groups)
    times = np.array(draws(int(places.max()) + 1, settings))[:, places]
    total = times.sum(axis=1, keepdims=True)
    found = (times @ one / total for one in (measured.proxy, measured.gold, measured.nats))
    return [*zip(*found, strict=True)]


def numbered(names: Sequence[str]) -> npt.NDArray[np.intp]:
    """The number of each name, in order of first sight."""
    known = {name: at for at, name in enumerate(dict.fromkeys(names))}
    return np.array([known[one] for one in names], np.intp)


def draws(count: int, settings: EvaluateSettings) -> list[Floats]:
    """How often each of `count` is in each resample."""
    rng = np.random.default_rng(settings.seed)
    size = max(settings.resamples // 4, 20)  # each fits two curves
    return [
        np.bincount(rng.integers(count, size=count), minlength=count).astype(float)
        for _ in range(size)
    ]


def curved(whole: Means, drawn: Sequence[Means], form: Form) -> dict[str, Any]:
    """The curve, its published form and its turn.

    Returns:
        points: root_nats, proxy, gold with its ci and se; alpha and beta of the form, and
        form_peak with its ci; peak, where the curve itself turns, with its ci, whose upper end is
        None where gold may still rise.
    """
    _, golds, _ = (np.array(one) for one in zip(*drawn, strict=True))
    curves = [points_of(*one) for one in drawn]
    turns = [_or_never(turn(np.array([(d, gold) for d, _, gold in one]))) for one in curves]
    forms = [_or_never(peak_of_form(one, form)) for one in curves]
    found = fitted(points_of(*whole), form)
    ends = np.quantile(golds, [0.025, 0.975], axis=0)
    return {
        "points": [
            {
                "root_nats": root,
                "proxy": proxy,
                "gold": gold,
                "ci": ends[:, at].tolist(),
                "se": float(golds[:, at].std(ddof=1)),
            }
            for at, (root, proxy, gold) in enumerate(found.points)
        ],
        "alpha": found.alpha,
        "beta": found.beta,
        "form_peak": peak_of_form(found.points, form),
        "form_peak_ci": _ends(forms),
        "peak": found.peak,
        "peak_ci": _ends(turns),
    }


def points_of(proxy: Floats, gold: Floats, nats: Floats) -> list[Point]:
    """The curve as `overoptimisation.fitted` takes it; the start strays by nothing."""
    roots = np.sqrt(np.maximum(nats, 0))  # measured on samples, a short way may come out negative
    return [*zip(roots.tolist(), proxy.tolist(), gold.tolist(), strict=True)]


def turn_at(found: dict[str, Any], place: int) -> dict[str, Any]:
    """As `overoptimisation.turn_of`, of who stands at one place of a curve."""
    points = found["points"]
    mine, top = points[place], max(points, key=lambda one: one["gold"])
    return {
        "root_nats": mine["root_nats"],
        "peak": found["peak"],
        "peak_ci": found["peak_ci"],
        "drop": top["gold"] - mine["gold"],
        "spread": math.hypot(top["se"], mine["se"]),  # more than that of their difference
        "points": [(one["root_nats"], one["proxy"], one["gold"]) for one in points],
    }


def _or_never(peak: float | None) -> float:
    return math.inf if peak is None else peak


def _ends(values: Sequence[float]) -> list[float | None]:
    ends = np.quantile(values, [0.025, 0.975], method="nearest")
    return [float(one) if math.isfinite(one) else None for one in ends]
