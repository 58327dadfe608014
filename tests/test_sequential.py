"""Evidence at any time: hand values, and thousands of runs that are looked at often."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flywheel.errors import EvaluationError
from flywheel.evaluate.statistics.sequential import (
    BETS,
    SHARES,
    bounds,
    clusters_to_decide,
    level_of,
    log_evidence,
)

LOOKS = np.arange(50, 1001, 50)


def test_one_win_and_one_loss_by_hand() -> None:
    assert log_evidence([], 0.5) == pytest.approx(0)
    assert math.exp(log_evidence([1.0], 0.5)) == pytest.approx(1 + sum(SHARES * BETS))
    assert math.exp(log_evidence([0.0], 0.5)) == pytest.approx(1 - sum(SHARES * BETS))
    assert math.exp(log_evidence([0.5], 0.5)) == pytest.approx(1)  # a tie says nothing
    both = sum(SHARES * (1 + BETS) * (1 - BETS))
    assert math.exp(log_evidence([1.0, 0.0], 0.5)) == pytest.approx(both)


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=60), st.integers(0, 9))
def test_neither_order_nor_the_side_one_looks_from_matters(found: list[float], seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(found)
    assert log_evidence(shuffled, 0.4) == pytest.approx(log_evidence(found, 0.4))
    low, high = bounds(found, 0.05)
    mirrored = bounds([1 - one for one in found], 0.05)
    assert (low, high) == pytest.approx((1 - mirrored[1], 1 - mirrored[0]))
    assert low <= np.mean(found) <= high
    if low > 0:
        assert log_evidence(found, low) == pytest.approx(math.log(20), abs=1e-6)


def test_what_is_not_graded_is_no_defeat() -> None:
    for bad in ([math.nan], [1.0, -0.1], [1.1], [math.inf]):
        with pytest.raises(EvaluationError, match="missing is no defeat"):
            log_evidence(bad, 0.5)


def looked_at(rate: float, runs: int, seed: int, ties: float = 0.2) -> np.ndarray:
    """(runs, looks) log evidence against one half, of runs won at `rate`, ties counted half."""
    rng = np.random.default_rng(seed)
    shares = [1 - rate - ties / 2, ties, rate - ties / 2]
    found = rng.choice([0.0, 0.5, 1.0], size=(runs, LOOKS[-1]), p=shares)
    return np.array([[log_evidence(run[:look], 0.5) for look in LOOKS] for run in found])


def test_twenty_looks_promote_no_equal_more_often_than_the_level_says() -> None:
    runs, level = 2000, 0.05
    at_any_look = (looked_at(0.5, runs, seed=1) >= math.log(1 / level)).any(axis=1).mean()
    assert at_any_look <= level + 2 * math.sqrt(level * (1 - level) / runs)
    assert at_any_look > 0.005  # and the test is not one that never says yes


def test_a_better_challenger_is_seen_and_a_clearly_better_one_early() -> None:
    for rate, power, most in ((0.57, 0.9, 600), (0.65, 1.0, 150), (0.8, 1.0, 60)):
        seen = looked_at(rate, 200, seed=2) >= math.log(20)
        assert seen.any(axis=1).mean() >= power
        assert np.median(LOOKS[seen.argmax(axis=1)]) <= most


def test_bounds_hold_at_every_look_and_close_in() -> None:
    rng = np.random.default_rng(3)
    missed = 0
    for _ in range(200):
        found = (rng.random(400) < 0.7).astype(float)
        every = [bounds(found[:look], 0.05) for look in range(20, 401, 20)]
        missed += not all(low <= 0.7 for low, _ in every)
        assert every[-1][1] - every[-1][0] < 0.25
    assert missed / 200 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 200)


def test_what_is_still_missing_is_told() -> None:
    found = [1.0] * 55 + [0.0] * 45
    more = clusters_to_decide(found, 0.5, 0.05)
    assert more is not None and 100 < more < 2000
    enough = [1.0] * round(0.55 * (100 + more)) + [0.0] * round(0.45 * (100 + more))
    assert abs(log_evidence(enough, 0.5) - math.log(20)) < 0.1
    assert clusters_to_decide(found * (2 + more // 100), 0.5, 0.05) == 0
    assert clusters_to_decide([1.0] * 200, 0.5, 0.05) == 0
    assert clusters_to_decide([0.5] * 50, 0.5, 0.05) is None  # ties alone decide nothing
    assert clusters_to_decide([0.0, 1.0] * 50, 0.5, 0.05) is None
    assert clusters_to_decide([], 0.5, 0.05) is None


def test_all_challengers_of_a_champion_share_one_level() -> None:
    spent = sum(level_of(0.05, number) for number in range(1, 10_000))
    assert 0.0499 < spent < 0.05
    assert level_of(0.05, 1) == pytest.approx(0.0304, abs=1e-4)
