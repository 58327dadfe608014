"""Length control: a padded answer loses what padding won, and a better one keeps what it has."""

import numpy as np
import pytest

from flywheel.errors import EvaluationError
from flywheel.evaluate.statistics.length import controlled, fit, squash


def judged(
    quality: float, bias: float, padding: float, count: int = 4000, seed: int = 0
) -> tuple[list[float], list[float], list[float]]:
    """Outcomes of a judge of this bias, lengths of the first side and of the other."""
    rng = np.random.default_rng(seed)
    mine, other = rng.lognormal(3.5, 0.4, (2, count))
    mine = mine + padding
    chance = 1 / (1 + np.exp(-(quality + bias * squash(mine, other))))
    return (rng.random(count) < chance).astype(float).tolist(), mine.tolist(), other.tolist()


def test_padding_wins_and_control_takes_it_back() -> None:
    outcomes, mine, other = judged(quality=0.0, bias=1.5, padding=15)
    assert np.mean(outcomes) > 0.6
    assert np.mean(controlled(outcomes, mine, other, range(4000))) == pytest.approx(0.5, abs=0.02)


def test_a_better_answer_of_the_same_length_loses_nothing() -> None:
    outcomes, mine, other = judged(quality=0.8, bias=0.0, padding=0)
    found = controlled(outcomes, mine, other, range(4000))
    assert np.mean(found) == pytest.approx(np.mean(outcomes), abs=0.01)
    assert controlled([1.0, 0.0, 0.5], [9, 9, 9], [9, 9, 9], "abc").tolist() == [1, 0, 0.5]


def test_a_better_and_longer_answer_keeps_its_quality() -> None:
    outcomes, mine, other = judged(quality=0.8, bias=1.0, padding=10)
    even, *_ = judged(quality=0.8, bias=0.0, padding=0)
    found = controlled(outcomes, mine, other, range(4000))
    assert np.mean(found) == pytest.approx(np.mean(even), abs=0.03)
    assert np.mean(outcomes) - np.mean(found) > 0.03


def test_the_fit_is_the_stationary_point_of_its_posterior() -> None:
    rng = np.random.default_rng(0)
    outcomes, squashed = rng.random(50).round(), rng.uniform(-1, 1, 50)
    theta, phi = fit(outcomes, squashed)
    residual = outcomes - 1 / (1 + np.exp(-(theta + phi * squashed)))
    assert residual.sum() == pytest.approx(1e-6 * theta, abs=1e-6)
    assert residual @ squashed == pytest.approx(phi, abs=1e-6)  # the prior's pull
    assert fit(np.zeros(0), np.zeros(0)) == (0.0, 0.0)
    assert np.isfinite(fit(np.ones(30), np.ones(30))).all()  # all won: still finite


def test_no_outcome_explains_itself_away() -> None:
    outcomes, mine, other = judged(quality=0.3, bias=1.0, padding=5, count=60)
    before = controlled(outcomes, mine, other, range(60))
    changed = [1 - outcomes[0], *outcomes[1:]]
    after = controlled(changed, mine, other, range(60))
    assert abs(after[0] - before[0]) == pytest.approx(1, abs=1e-9)


def test_lists_that_do_not_line_up_are_refused() -> None:
    with pytest.raises(EvaluationError, match="each of 2 outcomes"):
        controlled([1.0, 0.0], [3, 4], [3, 4], ["one"])
