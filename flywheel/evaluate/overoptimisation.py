"""Where a learned reward stops being worth following: gold against the way from the start.

As a policy strays from where it started, the proxy it is taught by rises on; the gold that the
proxy stands for rises, turns and falls. Over d, the root of the divergence in nats, gold gained has
the form `d (alpha - beta log d)` for reinforcement and `d (alpha - beta d)` for best-of-n. Its
peak, the turn, is at `exp(alpha / beta - 1)` and `alpha / (2 beta)` (Gao et al., arXiv:2210.10760).

The interval of the turn comes from measurements drawn anew: a curve of a dozen noisy points places
its peak badly, and a candidate is past it only where that is shown.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Form = Literal["reinforcement", "best_of_n"]
Point = tuple[float, float, float]  # root of nats, proxy, gold
RESAMPLES = 1000
LEAST_POINTS = 6  # measurements beside the start: fewer place no peak


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Gold against proxy over the root of the divergence, and the fitted form.

    Attributes:
        points: (root of nats, proxy, gold) of every measurement, the start first.
        alpha: Of the form; NaN where there is too little to fit.
        beta: Of the form.
        peak: Root of nats at which the fitted gold is highest; None where it only rises.
        peak_ci: 95 % interval of the peak; its upper end may be infinite.
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
    """Fit the form by least squares to what was gained since the first point."""
    start = points[0][2] if points else 0.0
    away = np.array([(d, gold - start) for d, _, gold in points if d > 0])
    if len(away) < 2:
        return Curve(points=tuple(points), alpha=math.nan, beta=math.nan, peak=None)
    alpha, beta = _solved(away, form)
    rng = np.random.default_rng(seed)
    peaks = [
        math.inf if (peak := _peak(*_solved(drawn, form), form)) is None else peak
        for drawn in (away[rng.integers(len(away), size=len(away))] for _ in range(RESAMPLES))
    ]
    low, high = (float(one) for one in np.quantile(peaks, [0.025, 0.975], method="nearest"))
    return Curve(
        points=tuple(points),
        alpha=alpha,
        beta=beta,
        peak=_peak(alpha, beta, form),
        peak_ci=(low, high) if len(away) >= LEAST_POINTS else (0.0, math.inf),
    )


def turn_of(manifest: dict[str, Any]) -> dict[str, Any] | None:
    """The turn of a policy's run, where it measured a gold beside the reward it was taught by.

    Args:
        manifest: Of the policy. A verifier of weight 0 teaches nothing and is the gold.

    Returns:
        root_nats where the run ended, peak and peak_ci, whose upper end is None where the gold
        may never turn; None where no gold was measured, or too seldom.
    """
    settings, result = manifest.get("settings", {}), manifest.get("result", {})
    if not settings.get("reward_model") or settings.get("verifier_weight") != 0:
        return None
    measured: Sequence[dict[str, Any]] = result.get("held_out") or ()
    names = ("held_out_kl_root", "held_out_reward_model_mean", "held_out_verifier_mean")
    points = [
        tuple(one[name] for name in names) for one in measured if all(n in one for n in names)
    ]
    if sum(d > 0 for d, _, _ in points) < LEAST_POINTS:
        return None
    curve = fitted(points)  # type: ignore[arg-type]
    low, high = curve.peak_ci
    return {
        "root_nats": points[-1][0],
        "peak": curve.peak,
        "peak_ci": [low, high if math.isfinite(high) else None],
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


def _peak(alpha: float, beta: float, form: Form) -> float | None:
    if beta <= 0:
        return None
    if form == "best_of_n":
        return max(0.0, alpha / (2 * beta))
    return math.exp(min(alpha / beta - 1, 50.0))
