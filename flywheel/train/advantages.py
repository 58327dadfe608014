"""How much better a token or a response was than expected: pure functions of tensors.

Dimension key
    B   responses
    T   tokens of the longest
    G   responses to one prompt

A response that could not be scored has the score NaN: it is in no baseline, and its advantage is
0, to be left out of the batch and never to be learnt from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

GROUP_EPSILON = 1e-4  # added to a group's deviation (TRL)
WHITEN_EPSILON = 1e-8


def gae(
    rewards: Tensor, values: Tensor, is_action: Tensor, *, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantages and returns of tokens.

    d_t = r_t + gamma V_next - V_t and A_t = d_t + gamma lam A_next, where `next` is the next
    token that the policy wrote: at an observation both are carried through unchanged, since a
    value of 0 there would leak a wrong bootstrap. After the last action V and A are 0.

    Args:
        rewards: (B, T) for each token.
        values: (B, T) expected from before each token on.
        is_action: (B, T) whether the policy wrote it; not observations, not padding.
        gamma: Discount of later rewards.
        lam: 1 is Monte Carlo return minus value, 0 one-step temporal difference.

    Returns:
        (B, T) advantages and (B, T) returns, advantage plus value, before any whitening; both 0
        where nothing was written.

    Source: arXiv:1506.02438 eq. 16; observations as verl's compute_gae_advantage_return.
    """
    advantages = torch.zeros_like(values)
    ahead, next_value = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0])
    for t in range(values.shape[1] - 1, -1, -1):
        here = rewards[:, t] + gamma * next_value - values[:, t] + gamma * lam * ahead
        ahead = torch.where(is_action[:, t], here, ahead)
        next_value = torch.where(is_action[:, t], values[:, t], next_value)
        advantages[:, t] = torch.where(is_action[:, t], here, 0.0)
    return advantages, torch.where(is_action, advantages + values, 0.0)


def group_relative(scores: Tensor, groups: Tensor, *, by_deviation: bool) -> Tensor:
    """(B,) scores minus their group's mean, over its sample deviation where asked (GRPO).

    Args:
        scores: (B,) NaN where there is none.
        groups: (B,) whole numbers; responses to one prompt share one.
        by_deviation: Divide by deviation + 1e-4; Dr. GRPO does not (arXiv:2503.20783).

    Source: arXiv:2402.03300, 4.1.2.
    """
    sums, counts, places = _by_group(scores, groups)
    centred = scores - (sums / counts)[places]
    if by_deviation:
        squares, _, _ = _by_group(centred**2, groups)
        deviation = (squares / (counts - 1).clamp(min=1)).sqrt()
        centred = centred / (deviation[places] + GROUP_EPSILON)
    return centred.nan_to_num(0.0)


def leave_one_out(scores: Tensor, groups: Tensor) -> Tensor:
    """(B,) scores minus the mean of the others of their group; 0 for one alone (RLOO).

    The baseline does not depend on the response itself, so that the gradient is unbiased.

    Source: arXiv:2402.14740 eq. 8.
    """
    sums, counts, places = _by_group(scores, groups)
    count = counts[places]
    others = (sums[places] - scores) / (count - 1).clamp(min=1)
    return torch.where(count > 1, scores - others, 0.0).nan_to_num(0.0)


def equal_groups(scores: Tensor, groups: Tensor) -> Tensor:
    """(B,) whether all scores of a response's group are the same: nothing is learnt from them."""
    highest, lowest = scores.clone(), scores.clone()
    for group in groups.unique():
        mine = scores[groups == group]
        mine = mine[~mine.isnan()]
        if len(mine):
            highest[groups == group], lowest[groups == group] = mine.max(), mine.min()
    return ~(highest - lowest > 1e-9)


def whiten(values: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Values at deviation 1; at mean 0 (advantages), or with their mean kept (rewards)."""
    mean, variance = values.mean(), values.var(correction=0)
    whitened = (values - mean) * torch.rsqrt(variance + WHITEN_EPSILON)
    return whitened if shift_mean else whitened + mean


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and summed squared deviations of all numbers seen, in parts or at once."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: Sequence[float]) -> "Moments":
        """The moments of some numbers."""
        if not values:
            return cls()
        mean = math.fsum(values) / len(values)
        return cls(len(values), mean, math.fsum((one - mean) ** 2 for one in values))

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both together, whichever process saw which (Chan et al., 1979)."""
        count = self.count + other.count
        if not count:
            return self
        gap = other.mean - self.mean
        return Moments(
            count,
            self.mean + gap * other.count / count,
            self.squares + other.squares + gap * gap * self.count * other.count / count,
        )

    @property
    def deviation(self) -> float:
        """Of the population; 1 until two different numbers were seen."""
        return math.sqrt(self.squares / self.count) if self.squares > 0 else 1.0

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"count": self.count, "mean": self.mean, "squares": self.squares}


def _by_group(values: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums and counts of the numbers of each group, and each element's place in them."""
    found, places = groups.unique(return_inverse=True)
    known = (~values.isnan()).to(values.dtype)
    zeros = values.new_zeros(len(found))
    sums = zeros.index_add(0, places, values.nan_to_num(0.0))
    return sums, zeros.index_add(0, places, known), places
