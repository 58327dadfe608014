"""The form of over-optimisation, and the limit that is chosen from it."""

import math

import pytest

from flywheel.sample.reinforce import CAUTION, curve_of, limit_of


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
    curve = curve_of(measured({d: d * (alpha - beta * math.log(d)) for d in roots}))
    assert (curve.alpha, curve.beta) == pytest.approx((alpha, beta))
    assert curve.peak == pytest.approx(math.exp(alpha / beta - 1))
    gains = [gold - 0.6 for _, _, gold in curve.points]
    assert max(gains) == pytest.approx(gains[3])  # of root 1.4, nearest to the peak at 1.455


def test_gold_that_only_rises_has_no_peak() -> None:
    rising = {d: d * (0.1 + 0.05 * math.log(d)) for d in (1.0, 2.0, 3.0)}
    assert curve_of(measured(rising)).peak is None
    assert curve_of(measured({})).peak is None


def test_a_run_is_to_end_before_the_peak_and_without_one_not_at_all() -> None:
    assert 0 < limit_of(2.0) < 2.0**2
    assert limit_of(2.0) == (CAUTION * 2.0) ** 2
    assert limit_of(None) == 0.0  # GrpoSettings: no limit
