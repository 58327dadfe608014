"""Where a learned reward stops being worth following: gold against the way from the start.

As a policy strays from where it started, the proxy it is taught by rises on; the gold that the
proxy stands for rises, turns and falls. Over d, the root of the divergence in nats, the published
forms of gold gained are `d (alpha - beta log d)` for reinforcement and `d (alpha - beta d)` for
best-of-n (Gao et al., arXiv:2210.10760); both are fitted and told.

The turn is not taken from them. Where gold collapses far out, least squares bend the form to the
collapse, and put its peak at 0 or nowhere (seen on the refund desk). It is the peak of the best
curve that rises and then falls, whatever its shape; its interval comes from measurements drawn
anew, and a candidate is past it only where that is shown. Where neither that nor the contrary is
shown, nothing is said but how many more measurements would show it.
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
SHOWN = 3  # spreads that a fall of gold must exceed
UNSURE = 4 / 3  # what few measurements say of their own noise is unsure: see tests for the errors
KEPT = 1 / 3  # a fall that is surely less than this part of what was gained is no turn
LAST = 3  # measurements that say where a run ended, or a quarter of them
MEDIAN = 0.6745  # of the distance from the mean, in deviations of a normal
MOST = 100  # times as many measurements: more than that is not told


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
        never turn; drop of the gold from its best stretch to the last measurements; spread, the
        standard error of that; points; more measurements, about, that it takes to tell whether
        gold turned, 0 where these do. None where no gold was measured, or too seldom.
    """
    settings, result = manifest.get("settings", {}), manifest.get("result", {})
    if not settings.get("reward_model") or settings.get("verifier_weight") != 0:
        return None
    points = points_of(result.get("held_out") or ())
    if sum(d > 0 for d, _, _ in points) < LEAST_POINTS:
        return None
    curve = fitted(points)
    low, high = curve.peak_ci
    gold = _in_order(points)[1]
    _, level, first, last = unimodal(gold)
    after, noise = len(gold) - 1 - last, UNSURE * noise_of(points)
    ends = [one[2] for one in points[-max(1, min(_width(gold), after)) :]]
    found = {
        "root_nats": points[-1][0],
        "peak": curve.peak,
        "peak_ci": [low, high if math.isfinite(high) else None],
        "drop": level - float(np.mean(ends)) if after else 0.0,
        "spread": noise * math.sqrt(1 / len(ends) + 1 / (last - first + 1)),
        "points": points,
    }
    return found | {"more": _more(found, gold, noise, after)}


def noise_of(points: Sequence[Point]) -> float:
    """The deviation of a measurement of gold, by how neighbours lie off any smooth curve.

    A step between neighbours holds the fall itself: the steeper gold fell, the noisier it looked.
    How far three neighbours are from a line, and four from a parabola, holds what the curve bends,
    which is less. Both still err upwards only: the first least where a curve breaks, for which its
    median is taken, the second least where it bends; the lesser is told. Standard errors over
    prompts are no better: every measurement asks the same ones, so that most of these is shared.
    """
    roots, gold = _in_order(points)
    roots = roots + 1e-9 * np.arange(len(roots))  # of equal ones, the difference itself
    three, four = (_off(roots, gold, degree) for degree in (1, 2))
    return min(float(np.median(np.abs(three))) / MEDIAN, float(np.sqrt(np.mean(four**2))))


def _off(
    roots: np.ndarray[Any, Any], gold: np.ndarray[Any, Any], degree: int
) -> np.ndarray[Any, Any]:
    """How far each `degree + 2` neighbours are from a polynomial, in deviations of one of them."""
    found = []
    for at in range(len(roots) - degree - 1):
        near = roots[at : at + degree + 2]
        apart = near[:, None] - near + np.eye(len(near))
        weights = 1 / apart.prod(axis=1)  # of the divided difference
        found.append(weights @ gold[at : at + len(near)] / np.linalg.norm(weights))
    return np.array(found)


def _more(found: dict[str, Any], gold: np.ndarray[Any, Any], noise: float, after: int) -> int:
    """How many more measurements it takes to tell whether gold turned; 0: it is told.

    A fall that is not shown is not thereby shown to be none: for that the mean of the last
    measurements is held against the best mean of as many.

    Args:
        found: Of `turn_of`.
        gold: Of all measurements, by how far they strayed.
        noise: Of one of them.
        after: Measurements beyond the best stretch.
    """
    count = len(gold)
    if found["drop"] > SHOWN * found["spread"]:
        if _is_behind(found):
            return 0
        return max(1, math.ceil(math.log(0.025) / math.log1p(-after / count)) - count)
    wide = _width(gold)
    means = np.convolve(gold, np.full(wide, 1 / wide), "valid")
    lost, gained = float(means.max() - means[-1]), float(means.max() - gold[0])
    bar = SHOWN * noise * math.sqrt(2 / wide)
    if lost + bar < KEPT * gained or bar == 0:
        return 0
    shown = max(lost, KEPT * gained - lost, bar / math.sqrt(MOST))
    return max(1, math.ceil(count * (bar / shown) ** 2) - count)


def _in_order(points: Sequence[Point]) -> np.ndarray[Any, Any]:
    """(2, K) roots and gold, by how far they strayed; of equals, as they were measured."""
    return np.array([(d, gold) for d, _, gold in sorted(points, key=lambda one: one[0])]).T


def _width(gold: np.ndarray[Any, Any]) -> int:
    """Measurements that one level is told by at most: more of them tell more."""
    return max(LAST, len(gold) // 4)


def _solved(away: np.ndarray[Any, Any], form: Form) -> tuple[float, float]:
    """alpha and beta of (d, gold gained) rows."""
    roots, gains = away.T
    bends = np.array([_bend(d, form) for d in roots])
    columns = np.stack([roots, -roots * bends], axis=1)
    alpha, beta = np.linalg.lstsq(columns, gains, rcond=None)[0]
    return float(alpha), float(beta)


def _bend(d: float, form: Form) -> float:
    return math.log(d) if form == "reinforcement" else d


def _is_behind(turn: dict[str, Any]) -> bool:
    high = turn["peak_ci"][1]
    return high is not None and turn["root_nats"] > high


def is_past(turn: dict[str, Any] | None) -> bool | None:
    """Whether gold is shown to have turned before the end and to have fallen since.

    Args:
        turn: Of `turn_of`, `curves.turn_at` or `best_of_n.turn_of_best`; None where there is no
            curve.

    Returns:
        None where there is no curve, or too few measurements for their noise to tell.
    """
    if turn is None:
        return None
    if _is_behind(turn) and turn["drop"] > SHOWN * turn["spread"]:
        return True
    return None if turn.get("more") else False
