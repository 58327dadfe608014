"""Losses on preferences: hand-computed values, limits, invariances and refusals."""

import math

import pytest
import torch

from flywheel.errors import ShapeError
from flywheel.train.losses import preference_loss, right_share


def loss(margins: list[float], labels: list[float], weights: list[float] | None = None) -> float:
    ones = [1.0] * len(margins) if weights is None else weights
    return float(preference_loss(*(torch.tensor(x) for x in (margins, labels, ones))))


def test_certain_labels_give_bradley_terry() -> None:
    # margins +1 and -2: log(1 + e^-1) + log(1 + e^2)
    assert loss([1.0, -2.0], [1.0, 1.0]) == pytest.approx(0.31326169 + 2.12692801)


def test_a_soft_label_is_least_at_its_own_log_odds() -> None:
    at = {m: loss([m], [0.8]) for m in (0.0, math.log(4), 3.0)}
    assert min(at, key=at.__getitem__) == math.log(4)


def test_a_tie_pulls_to_equal_from_both_sides() -> None:
    margin = torch.tensor([2.0, -2.0], requires_grad=True)
    preference_loss(margin, torch.full((2,), 0.5), torch.ones(2)).backward()
    assert margin.grad is not None
    assert margin.grad[0] > 0 > margin.grad[1]


def test_swapping_sides_and_label_changes_nothing() -> None:
    assert loss([1.3], [0.7]) == pytest.approx(loss([-1.3], [1 - 0.7]))


def test_weights_let_a_long_ranking_count_as_one_prompt() -> None:
    assert loss([1.0] * 3, [1.0] * 3, [1 / 3] * 3) == pytest.approx(loss([1.0], [1.0]))


def test_a_gap_of_a_thousand_stays_finite() -> None:
    assert loss([-1000.0], [1.0]) == pytest.approx(1000.0)


def test_an_equal_score_is_half_right_and_a_tie_is_not_counted() -> None:
    margins, labels = torch.tensor([1.0, 0.0, -1.0, 5.0]), torch.tensor([0.9, 0.9, 0.9, 0.5])
    assert right_share(margins, labels) == (1.5, 3.0)


@pytest.mark.parametrize("shape", [((3,), (2,)), ((2, 1), (2, 1))])
def test_tensors_that_do_not_line_up_are_refused(shape: tuple) -> None:
    with pytest.raises(ShapeError, match=r"one shape \(P,\)"):
        preference_loss(torch.zeros(shape[0]), torch.zeros(shape[1]), torch.zeros(shape[1]))
