"""The form of over-optimisation, and the limit that is chosen from it."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from flywheel.evaluate.report.following import following_told
from flywheel.evaluate.reward.overoptimisation import (
    fitted,
    is_past,
    noise_of,
    points_of,
    turn_of,
    unimodal,
)
from flywheel.sample.reinforce import CAUTION, limit_of


def measured(gains: dict[float, float], start: float = 0.6) -> list[dict[str, float]]:
    return [
        {
            "held_out_kl_root": root,
            "held_out_reward_model_mean": root,
            "held_out_verifier_mean": start + gain,
        }
        for root, gain in {0.0: 0.0, **gains}.items()
    ]


def test_the_fitted_form_is_the_one_that_the_points_lie_on() -> None:
    alpha, beta = 0.11, 0.08
    roots = (0.3, 1.0, 1.4, 2.0, 3.5, 4.9)
    curve = fitted(points_of(measured({d: d * (alpha - beta * math.log(d)) for d in roots})))
    assert (curve.alpha, curve.beta) == pytest.approx((alpha, beta))
    assert curve.peak == 1.4  # the measurement nearest to the form's peak, 1.455
    gains = [gold - 0.6 for _, _, gold in curve.points]
    assert max(gains) == pytest.approx(gains[3])  # of root 1.4, nearest to the peak at 1.455


def test_gold_that_only_rises_has_no_peak() -> None:
    rising = {d: d * (0.1 + 0.05 * math.log(d)) for d in (1.0, 2.0, 3.0)}
    assert fitted(points_of(measured(rising))).peak is None
    assert fitted(points_of(measured({}))).peak is None


def test_a_run_is_to_end_before_the_peak_and_without_one_not_at_all() -> None:
    assert 0 < limit_of(2.0) < 2.0**2
    assert limit_of(2.0) == (CAUTION * 2.0) ** 2
    assert limit_of(None) == 0.0  # GrpoSettings: no limit


def test_best_of_n_has_a_form_and_a_peak_of_its_own() -> None:
    points = [(0.0, 0.0, 0.5), *((d, d, 0.5 + d * (0.2 - 0.05 * d)) for d in (0.5, 1, 1.5, 2, 3))]
    curve = fitted(points, "best_of_n")
    assert (curve.alpha, curve.beta, curve.peak) == pytest.approx((0.2, 0.05, 2.0))
    assert curve.gained(2.0, "best_of_n") == pytest.approx(0.2)


def noisy(noise: float, seed: int, points: int = 20) -> list[tuple[float, float, float]]:
    """A curve with its peak at exp(.11 / .08 - 1) = 1.455, measured with this much noise."""
    rng = np.random.default_rng(seed)
    roots = np.linspace(0.2, 4, points)
    gold = 0.6 + roots * (0.11 - 0.08 * np.log(roots)) + rng.normal(0, noise, points)
    return [(0.0, 0.0, 0.6), *zip(roots, roots, gold, strict=True)]


def test_the_interval_of_the_turn_holds_it_about_as_often_as_it_says() -> None:
    held = [fitted(noisy(0.01, seed), seed=seed).peak_ci for seed in range(60)]
    inside = np.mean([low <= math.exp(0.11 / 0.08 - 1) <= high for low, high in held])
    assert inside >= 0.83  # .95 less what drawing twenty points anew is known to miss
    assert np.median([high - low for low, high in held]) < 1.2


def test_a_collapse_far_out_does_not_move_the_turn_as_it_moves_the_form() -> None:
    """As seen on the refund desk: gold rises a little, then falls by more than it ever was."""
    far = [(float(d), 1.0, 0.3 - 0.1 * d) for d in range(5, 15)]
    near = [
        (0.0, 0.0, 0.62),
        (0.4, 0.1, 0.65),
        (0.9, 0.2, 0.67),
        (1.4, 0.3, 0.66),
        (2.0, 0.5, 0.59),
    ]
    curve = fitted([*near, *far])
    assert curve.peak == 0.9 and curve.peak_ci[1] <= 2.0
    form = math.exp(curve.alpha / curve.beta - 1) if curve.beta > 0 else math.inf
    assert not 0.4 <= form <= 1.4


def turn_along(roots: list[float], gold: list[float]) -> dict[str, Any]:
    """The turn of a run that measured this gold."""
    told = [
        {"held_out_kl_root": d, "held_out_reward_model_mean": d, "held_out_verifier_mean": value}
        for d, value in zip(roots, gold, strict=True)
    ]
    settings = {"reward_model": "rm", "verifier": "m:f", "verifier_weight": 0.0}
    found = turn_of({"settings": settings, "result": {"held_out": told}})
    assert found is not None
    return found


def said_of(
    form: Callable[[float], float], end: float, points: int, noise: float
) -> list[bool | None]:
    """What forty runs up to `end` are said to be, measured at this many points beside the start."""
    rng, found = np.random.default_rng(points), []
    roots = np.linspace(0, end, points + 1).tolist()
    for _ in range(40):
        gold = [
            form(d) + one for d, one in zip(roots, rng.normal(0, noise, len(roots)), strict=True)
        ]
        found.append(is_past(turn_along(roots, gold)))
    return found


@pytest.mark.parametrize("points", [6, 8, 12])
def test_gold_that_levels_off_or_stays_is_seldom_taken_for_a_fall(points: int) -> None:
    assert said_of(lambda d: 0.6, 4, points, 0.05).count(True) <= 2
    risen = said_of(lambda d: 1 - math.exp(-2 * d), 4, points, 0.05)
    assert risen.count(True) <= 1 and risen.count(False) >= 20


@pytest.mark.parametrize("points", [6, 8, 12])
def test_a_run_far_past_the_turn_is_caught_or_not_known_but_never_cleared(points: int) -> None:
    def form(d: float) -> float:
        return d * (1 - math.log(d)) if d else 0.0  # turns at 1; at 2.6 an eighth is left

    assert said_of(form, 2.6, points, 0.05).count(True) >= 38
    coarse = said_of(form, 2.6, points, 0.2)
    assert coarse.count(False) == 0 and coarse.count(True) >= 12


def test_where_noise_hides_the_turn_it_is_told_how_many_more_measurements_would_show_it() -> None:
    risen, noise = [0.0, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6], [0.0, 0.2, -0.2, 0.1, -0.2, 0.2, -0.1]
    roots = [0.5 * at for at in range(7)]
    clear = turn_along(roots, risen)
    assert is_past(clear) is False and clear["more"] == 0
    hidden = turn_along(roots, [one + off for one, off in zip(risen, noise, strict=True)])
    assert is_past(hidden) is None and hidden["more"] > 0
    fallen = turn_along(roots, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 0.1])
    assert is_past(fallen) is None and fallen["more"] > 0, "of one measurement it may be a chance"
    policy = {"best_of_n": None, "run": None, "strayed": None, "turn": hidden, "is_past": None}
    assert f"about {hidden['more']} more would tell" in following_told(policy)


def test_noise_is_told_apart_from_a_steep_curve_and_from_a_break() -> None:
    rng = np.random.default_rng(1)
    roots = np.sort(rng.uniform(0, 4, 400))
    for gold in (0 * roots, -5 * roots, -(roots**2), np.where(roots > 3, -9.0, 0.0)):
        told = (gold + rng.normal(0, 0.1, len(roots))).tolist()
        points = [(d, d, value) for d, value in zip(roots.tolist(), told, strict=True)]
        assert noise_of(points) == pytest.approx(0.1, rel=0.15)
    assert noise_of([(1.0, 0.0, float(at % 2)) for at in range(8)]) > 0.3, "of equal roots"


@pytest.mark.parametrize(("count", "noise"), [(6, 0.02), (6, 0.05), (8, 0.05), (12, 0.05)])
def test_a_fall_to_an_eighth_is_found_by_few_measurements_and_a_plateau_is_none(
    count: int, noise: float
) -> None:
    """A run that ended at 2.6 times the turn, and one whose gold rose and stayed."""
    draw, caught, mistaken = np.random.default_rng(0), 0, 0
    settings = {"reward_model": "r", "verifier_weight": 0}
    for _ in range(40):
        roots = np.linspace(0, 2.6, count + 1)
        fell = roots * (1 - np.log(np.maximum(roots, 1e-9)))
        for gold, falls in ((fell, True), (np.minimum(roots, 1.0), False)):
            told = [
                {
                    "held_out_kl_root": one,
                    "held_out_reward_model_mean": one,
                    "held_out_verifier_mean": value + draw.normal(0, noise),
                }
                for one, value in zip(roots.tolist(), gold.tolist(), strict=True)
            ]
            found = is_past(turn_of({"settings": settings, "result": {"held_out": told}}))
            caught += falls and bool(found)
            mistaken += not falls and bool(found)
    assert caught >= 34 and mistaken <= 2


def test_too_few_points_place_no_peak() -> None:
    assert fitted(noisy(0.0, 0)[:4]).peak_ci == (0.0, math.inf)


def test_a_turn_is_told_only_where_a_gold_was_measured_that_taught_nothing() -> None:
    told = [
        {"held_out_kl_root": d, "held_out_reward_model_mean": p, "held_out_verifier_mean": g}
        for d, p, g in noisy(0.001, 0)
    ]
    settings = {"reward_model": "rm", "verifier": "m:f", "verifier_weight": 0.0}
    found = turn_of({"settings": settings, "result": {"held_out": told}})
    assert found is not None and found["root_nats"] == 4
    low, high = found["peak_ci"]
    assert low < 1.455 < high < 4 and found["peak"] == pytest.approx(1.4)
    assert turn_of({"settings": settings, "result": {"held_out": told[:5]}}) is None
    taught = settings | {"verifier_weight": 1.0}
    assert turn_of({"settings": taught, "result": {"held_out": told}}) is None
    assert (
        turn_of({"settings": settings | {"reward_model": ""}, "result": {"held_out": told}}) is None
    )
    assert turn_of({}) is None


def risen(values: list[float]) -> list[float]:
    """The best curve that never falls, by its formula: the most, of the least of the means."""
    count = len(values)
    return [
        max(min(float(np.mean(values[a : b + 1])) for b in range(at, count)) for a in range(at + 1))
        for at in range(count)
    ]


def test_the_best_curve_that_rises_and_falls_is_found_among_all() -> None:
    rng = np.random.default_rng(2)
    for count in (1, 2, 3, 7, 12):
        gold = rng.normal(size=count).round(1)  # some are equal
        values = gold.tolist()
        curves = [
            [*risen(values[:after]), *risen(values[after:][::-1])[::-1]]
            for after in range(1, count + 1)
        ]
        errors = [float(((gold - curve) ** 2).sum()) for curve in curves]
        error, level, first, last = unimodal(gold)
        assert error == pytest.approx(min(errors), abs=1e-12)
        best = curves[int(np.argmin(np.round(errors, 9)))]
        assert level == pytest.approx(max(best))
        assert best[first : last + 1] == pytest.approx([level] * (last - first + 1))
