"""Where a learned reward stops being worth following: gold against the way from the start.

As a policy strays from where it started, the proxy it is taught by rises on; the gold that the
proxy stands for rises, turns and falls. Over d, the root of the divergence in nats, the published
forms of gold gained are `d (alpha - beta log d)` for reinforcement and `d (alpha - beta d)` for
best-of-n (Gao et al., arXiv:2210.10760); both are fitted and told.

The turn is not taken from them. Where gold collapses far out, least squares bend the form to the
collapse, and put its peak at 0 or nowhere (seen on the refund desk). It is the peak of the best
curve that rises and then falls, whatever its shape; its interval comes from measurements drawn
anew, and a candidate is past it only where that is shown.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Form = Literal["reinforcement", "best_of_n"]
Point = tuple[float, float, float]  # root of nats, proxy, gold
RESAMPLES = 400
LEAST_POINTS = 6  # measurements beside the start: fewer place no peak
FAR = 20  # alpha over beta, from where on a form turns beyond any nats that there are
SHOWN = 3  # spreads of a measurement that a fall of gold must exceed
LAST = 3  # measurements that say where a run ended
OFF_A_LINE = 0.6745 * math.sqrt(6)  # median second difference of normal draws, in deviations


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Gold against proxy over the root of the divergence, and the fitted form.

    Attributes:
        points: (root of nats, proxy, gold) of every measurement, the start first.
        alpha: Of the form; NaN where there is too little to fit.
        beta: Of the form.
        peak: Root of nats at which gold turns; None where it still rises at the last point.
        peak_ci: 95 % interval of the peak; its upper end is infinite where it may still rise.
    """

    points: tuple[Point, ...]
    alpha: float
    beta: float
    peak: float | None
    peak_ci: tuple[float, float] = (0.0, math.inf)

    def gained(self, d: float, form: Form = "reinforcement") -> float:
        """Fitted gold above the start's."""
        return d * (self.alpha - self.beta * _bend(d, form)) if d else 0.0


def fitted(points: Sequence[Point], form: Form = "reinforcement", seed: int = 0) -> Curve:
    """Fit the form by least squares to what was gained since the first point, and find the turn."""
    start = points[0][2] if points else 0.0
    away = np.array([(d, gold - start) for d, _, gold in points if d > 0])
    if len(away) < 2:
        return Curve(points=tuple(points), alpha=math.nan, beta=math.nan, peak=None)
    alpha, beta = _solved(away, form)
    whole = np.array([(d, gold) for d, _, gold in points])
    rng = np.random.default_rng(seed)
    drawn = (whole[rng.integers(len(whole), size=len(whole))] for _ in range(RESAMPLES))
    peaks = [math.inf if (peak := turn(rows)) is None else peak for rows in drawn]
    low, high = (float(one) for one in np.quantile(peaks, [0.025, 0.975], method="nearest"))
    return Curve(
        points=tuple(points),
        alpha=alpha,
        beta=beta,
        peak=turn(whole),
        peak_ci=(low, high) if len(away) >= LEAST_POINTS else (0.0, math.inf),
    )


def peak_of_form(points: Sequence[Point], form: Form) -> float | None:
    """Where the fitted form turns; None where it rises for ever, or falls from the start."""
    curve = [(d, gold - points[0][2]) for d, _, gold in points if d > 0]
    if len(curve) < 2:
        return None
    alpha, beta = _solved(np.array(curve), form)
    if beta <= 0 or (form == "best_of_n" and alpha <= 0):
        return None
    if form == "best_of_n":
        return alpha / (2 * beta)
    return math.exp(alpha / beta - 1) if alpha / beta < FAR else None


def turn(rows: np.ndarray[Any, Any]) -> float | None:
    """Where (d, gold) rows turn: the peak of the best curve that rises and then falls.

    Returns:
        The middle of its highest stretch; None where that reaches to the last row.
    """
    roots, gold = rows[np.argsort(rows[:, 0], kind="stable")].T
    _, _, first, last = unimodal(gold)
    return None if last == len(gold) - 1 else float((roots[first] + roots[last]) / 2)


def unimodal(gold: np.ndarray[Any, Any]) -> tuple[float, float, int, int]:
    """The best curve that rises and then falls: squared error, height and ends of its top."""
    values: list[float] = gold.tolist()
    count = len(values)
    rising, falling = _rising(values), [*_rising(values[::-1])[::-1], (0.0, 0.0, 0)]
    errors = [rising[at][0] + falling[at + 1][0] for at in range(count)]
    after = 1 + int(np.argmin(errors))
    _, level, size = rising[after - 1]  # of what rises, its last stretch; of what falls, its first
    first, last = after - size, after - 1
    _, other, size = falling[after]
    if after < count and other > level:
        level, first, last = other, after, after + size - 1
    return errors[after - 1], level, first, last


def _rising(values: Sequence[float]) -> list[tuple[float, float, int]]:
    """Of the best curve that never falls, for each prefix: its squared error; height and number of
    values of its last stretch, which is the highest."""
    found = []
    blocks: list[tuple[float, int, float, float, float]] = []  # the last: with those before
    for value in values:
        total, size, error, height = value, 1, 0.0, value
        while blocks and blocks[-1][3] > height:
            one, n, e, level, _ = blocks.pop()
            apart = (level - height) ** 2 * n * size / (n + size)
            total, size, error = one + total, n + size, e + error + apart
            height = total / size
        whole = (blocks[-1][4] if blocks else 0.0) + error
        blocks.append((total, size, error, height, whole))
        found.append((whole, height, size))
    return found


def points_of(measured: Sequence[dict[str, Any]]) -> list[Point]:
    """The measurements of a run (`held_out` of its result) that tell proxy and gold."""
    names = ("held_out_kl_root", "held_out_reward_model_mean", "held_out_verifier_mean")
    return [
        (one[names[0]], one[names[1]], one[names[2]])
        for one in measured
        if all(name in one for name in names)
    ]


def turn_of(manifest: dict[str, Any]) -> dict[str, Any] | None:
    """The turn of a policy's run, where it measured a gold beside the reward it was taught by.

    Args:
        manifest: Of the policy. A verifier of weight 0 teaches nothing and is the gold.

    Returns:
        root_nats where the run ended; peak and peak_ci, whose upper end is None where the gold may
        never turn; drop of the gold from its best stretch to the last measurements; spread of
        measurements around the curve. None where no gold was measured, or too seldom.
    """
    settings, result = manifest.get("settings", {}), manifest.get("result", {})
    if not settings.get("reward_model") or settings.get("verifier_weight") != 0:
        return None
    points = points_of(result.get("held_out") or ())
    if sum(d > 0 for d, _, _ in points) < LEAST_POINTS:
        return None
    curve = fitted(points)
    low, high = curve.peak_ci
    gold = np.array([one[2] for one in sorted(points)])
    # how far neighbours are from a line: a step between two holds the fall itself, so that the
    # steeper gold fell, the noisier it would look
    bends = np.abs(np.diff(gold, 2))
    spread = float(np.median(bends)) / OFF_A_LINE
    return {
        "root_nats": points[-1][0],
        "peak": curve.peak,
        "peak_ci": [low, high if math.isfinite(high) else None],
        "drop": float(unimodal(gold)[1] - np.mean([one[2] for one in points[-LAST:]])),
        "spread": spread,
        "points": points,
    }


def _solved(away: np.ndarray[Any, Any], form: Form) -> tuple[float, float]:
    """alpha and beta of (d, gold gained) rows."""
    roots, gains = away.T
    bends = np.array([_bend(d, form) for d in roots])
    columns = np.stack([roots, -roots * bends], axis=1)
    alpha, beta = np.linalg.lstsq(columns, gains, rcond=None)[0]
    return float(alpha), float(beta)


def _bend(d: float, form: Form) -> float:
    return math.log(d) if form == "reinforcement" else d


def is_past(turn: dict[str, Any] | None) -> bool | None:
    """Whether gold is shown to have turned before the end and to have fallen since.

    Args:
        turn: Of `turn_of` or `best_of_n.turn_of_best`; None where there is no curve, and no answer.
    """
    if turn is None:
        return None
    high = turn["peak_ci"][1]
    fell = turn["drop"] > SHOWN * turn["spread"]
    return bool(high is not None and turn["root_nats"] > high and fell)
