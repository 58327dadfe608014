"""Whether a reward model is as sure as it is right: by hand, calibrated, too sure."""

import numpy as np
import pytest

from flywheel.evaluate.reward.calibration import _temperatures, calibrated, temperature_of


def drawn(heat: float, count: int = 4000, seed: int = 0) -> tuple[list[float], list[float]]:
    """Log-odds that a model states, and labels that are as sure as the log-odds over `heat`."""
    rng = np.random.default_rng(seed)
    margins = rng.normal(0, 2, count)
    labels = rng.random(count) < 1 / (1 + np.exp(-margins / heat))
    return margins.tolist(), labels.astype(float).tolist()


def test_bins_and_ece_by_hand() -> None:
    sure, unsure = np.log(0.92 / 0.08), np.log(0.52 / 0.48)
    found = calibrated([sure, -sure, sure, unsure], [1, 0, 0.5, 0], "abcd", resamples=80)
    low, high = found["bins"]
    assert (low["pairs"], low["stated"], low["labelled"]) == (1, pytest.approx(0.52), 0)
    assert (high["pairs"], high["stated"], high["labelled"]) == (3, pytest.approx(0.92), 2.5 / 3)
    assert found["ece"] == pytest.approx((abs(0.52 - 0) + 3 * abs(0.92 - 2.5 / 3)) / 4)


def test_which_side_stands_first_changes_nothing() -> None:
    margins, labels = drawn(1.0, count=500)
    turned = calibrated([-one for one in margins], [1 - one for one in labels], range(500))
    plain = calibrated(margins, labels, range(500))
    assert [one["labelled"] for one in turned["bins"]] == pytest.approx(
        [one["labelled"] for one in plain["bins"]]
    )
    assert turned["temperature_ci"] == pytest.approx(plain["temperature_ci"])


def test_a_calibrated_model_shows_what_chance_would() -> None:
    margins, labels = drawn(1.0)
    found = calibrated(margins, labels, range(len(margins)), resamples=400)
    assert found["ece"] < 1.8 * found["ece_by_chance"]
    low, high = found["temperature_ci"]
    assert low < 1 < high and high - low < 0.3
    assert sum(one["ci"][0] <= one["stated"] <= one["ci"][1] for one in found["bins"]) >= 8


def test_one_that_is_too_sure_is_cooled_by_what_it_is_too_sure() -> None:
    margins, labels = drawn(2.0)
    found = calibrated(margins, labels, range(len(margins)), resamples=400)
    assert found["temperature"] == pytest.approx(2, abs=0.2)
    assert found["ece_ci"][0] > 3 * found["ece_by_chance"]
    assert found["ece_at_temperature"] < found["ece"] / 3
    last = found["bins"][-1]
    assert last["labelled"] < last["ci"][1] < last["stated"]


def test_a_temperature_is_that_of_greatest_likelihood() -> None:
    # three of four are right where the model says log-odds of 2: log 3 would be true
    sure, right = np.full(4, 2.0), np.array([1.0, 1, 1, 0])
    assert temperature_of(sure, right) == pytest.approx(2 / np.log(3), rel=0.01)


def test_pairs_drawn_several_times_count_as_that_many_pairs() -> None:
    margins, labels = drawn(2.0, count=60)
    sure = np.abs(margins)
    right = np.where(np.array(margins) >= 0, labels, 1 - np.array(labels))
    times = np.random.default_rng(3).integers(0, 4, size=(5, 60))
    found = _temperatures(sure, right, times.astype(float))
    alone = [temperature_of(np.repeat(sure, one), np.repeat(right, one)) for one in times]
    assert found.tolist() == pytest.approx(alone) and len(set(alone)) == 5
