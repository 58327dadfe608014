"""Advantages: GAE against its definition, baselines without the unscorable, moments in parts."""

import numpy as np
import pytest
import torch
from torch import Tensor

from flywheel.train.advantages import (
    GROUP_EPSILON,
    Moments,
    equal_groups,
    gae,
    group_relative,
    leave_one_out,
    whiten,
)

NAN = float("nan")


def drawn(rows: int = 3, tokens: int = 9, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, values and a mask with observations inside and padding at the end."""
    generator = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, rows, tokens, generator=generator, dtype=torch.float64)
    is_action = torch.ones(rows, tokens, dtype=torch.bool)
    is_action[0, 3:5] = is_action[1, 6:] = is_action[2, 0] = False
    return rewards, values, is_action


def by_definition(
    rewards: Tensor, values: Tensor, is_action: Tensor, gamma: float, lam: float
) -> Tensor:
    """The O(T^2) sum of discounted temporal differences over the tokens that were written."""
    found = torch.zeros_like(values)
    for row in range(len(values)):
        places = is_action[row].nonzero()[:, 0].tolist()
        for n, place in enumerate(places):
            for k, later in enumerate(places[n:]):
                after = places[n + k + 1] if n + k + 1 < len(places) else None
                ahead = 0.0 if after is None else values[row, after]
                delta = rewards[row, later] + gamma * ahead - values[row, later]
                found[row, place] += (gamma * lam) ** k * delta
    return found


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.8), (1.0, 0.0), (0.97, 1.0)])
def test_gae_is_its_quadratic_definition_and_skips_observations(gamma: float, lam: float) -> None:
    rewards, values, is_action = drawn()
    advantages, returns = gae(rewards, values, is_action, gamma=gamma, lam=lam)
    expected = by_definition(rewards, values, is_action, gamma, lam)
    assert torch.allclose(advantages, expected, atol=1e-12)
    assert torch.allclose(returns, torch.where(is_action, expected + values, 0.0), atol=1e-12)


def test_at_lambda_1_the_advantage_is_the_return_to_go_minus_the_value() -> None:
    rewards, values, _ = drawn()
    everywhere = torch.ones_like(values, dtype=torch.bool)
    advantages, returns = gae(rewards, values, everywhere, gamma=1.0, lam=1.0)
    to_go = rewards.flip(1).cumsum(1).flip(1)
    assert torch.allclose(returns, to_go, atol=1e-12)
    assert torch.allclose(advantages, to_go - values, atol=1e-12)


def test_at_lambda_0_it_is_the_temporal_difference() -> None:
    rewards, values, _ = drawn()
    everywhere = torch.ones_like(values, dtype=torch.bool)
    advantages, _ = gae(rewards, values, everywhere, gamma=0.9, lam=0.0)
    ahead = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)
    assert torch.allclose(advantages, rewards + 0.9 * ahead - values, atol=1e-12)


def test_an_observation_changes_nothing_and_after_the_end_all_is_zero() -> None:
    rewards, values, is_action = drawn()
    advantages, returns = gae(rewards, values, is_action, gamma=0.9, lam=0.8)
    for row in range(3):
        own = is_action[row]
        alone, _ = gae(
            rewards[row, own][None], values[row, own][None], own[own][None], gamma=0.9, lam=0.8
        )
        assert torch.allclose(advantages[row, own], alone[0], atol=1e-12)
    assert not advantages[~is_action].any() and not returns[~is_action].any()


def test_a_group_is_centred_and_scaled_by_its_sample_deviation() -> None:
    scores, groups = torch.tensor([1.0, 3.0, 5.0, 5.0]), torch.tensor([7, 2, 7, 2])
    found = group_relative(scores, groups, by_deviation=True)
    scale = [8**0.5 + GROUP_EPSILON, 2**0.5 + GROUP_EPSILON]
    assert found.tolist() == pytest.approx(
        [-2 / scale[0], -1 / scale[1], 2 / scale[0], 1 / scale[1]]
    )
    assert group_relative(scores, groups, by_deviation=False).tolist() == [-2, -1, 2, 1]


def test_the_unscorable_leave_the_baseline_and_have_no_advantage() -> None:
    scores, groups = torch.tensor([1.0, NAN, 3.0, 9.0]), torch.tensor([0, 0, 0, 1])
    assert group_relative(scores, groups, by_deviation=False).tolist() == [-1, 0, 1, 0]
    assert leave_one_out(scores, groups).tolist() == [-2, 0, 2, 0]


def test_leave_one_out_compares_each_with_the_mean_of_the_others() -> None:
    scores = torch.tensor([1.0, 2.0, 6.0])
    assert leave_one_out(scores, torch.zeros(3, dtype=torch.long)).tolist() == [-3, -1.5, 4.5]


def test_equal_groups_are_found_by_their_rewards_alone() -> None:
    scores = torch.tensor([1.0, 1.0, 2.0, 1.0, 5.0, NAN])
    groups = torch.tensor([0, 0, 1, 1, 2, 2])
    assert equal_groups(scores, groups).tolist() == [True, True, False, False, True, True]


def test_whitening_is_numpys_and_keeps_the_mean_of_rewards() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 50)
    expected = (values - values.mean()) / np.sqrt(values.var() + 1e-8)
    assert whiten(torch.tensor(values)).numpy() == pytest.approx(expected, abs=1e-9)
    kept = whiten(torch.tensor(values), shift_mean=False)
    assert kept.numpy() == pytest.approx(expected + values.mean(), abs=1e-9)


def test_moments_merged_across_processes_are_those_of_one_pass() -> None:
    values = np.random.default_rng(0).normal(1e4, 0.5, 101).tolist()
    parts = [Moments.of(values[:7]), Moments(), Moments.of(values[7:8]), Moments.of(values[8:])]
    for order in (parts, parts[::-1]):
        merged = Moments()
        for part in order:
            merged = merged.merge(part)
        assert merged.count == 101
        assert merged.mean == pytest.approx(np.mean(values), rel=1e-12)
        assert merged.deviation == pytest.approx(np.std(values), rel=1e-9)
    assert Moments(**merged.state()) == merged and Moments.of([2.0, 2.0]).deviation == 1.0
