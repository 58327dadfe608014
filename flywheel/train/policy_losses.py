"""Losses that reinforce what was sampled: pure functions of tensors, no model, no logging.

Dimension key
    B   responses
    N   response tokens that carry loss, of all responses, one after the other
    E   elements of a loss: tokens or responses

Each returns the *sum* over its elements; the loop divides by the count of the whole optimizer
step. Which method is which call, and what it is divided by:

    PPO          clipped_loss over tokens, weight 1                 tokens of the step
    GRPO         clipped_loss over tokens, weight 1 / length        responses
    Dr. GRPO     clipped_loss over tokens, weight 1                 responses * longest allowed
    DAPO         clipped_loss over tokens, weight 1, high > low     tokens
    CISPO        capped_loss over tokens, weight 1                  tokens
    GSPO         clipped_loss over responses, mean log-ratio        responses
    RLOO         clipped_loss over responses, summed log-ratio      responses
    value model  value_loss over tokens                             tokens

Where policy and old policy are one, every ratio is 1 and the gradient of each is REINFORCE's.
"""

import torch
from torch import Tensor

MOST_LOG_RATIO = 20.0  # e^20 is finite in every precision; beyond it no gradient flows


def clipped_loss(
    log_ratios: Tensor,
    advantages: Tensor,
    weights: Tensor,
    *,
    low: float,
    high: float,
    dual: float = 0.0,
) -> Tensor:
    """Weighted sum of PPO's pessimistic loss, max(-A r, -A clip(r, 1 - low, 1 + high)).

    Args:
        log_ratios: (E,) log-probability under the policy minus that under the old policy, in nats.
        advantages: (E,) of each element.
        weights: (E,) of each element.
        low: How far below 1 a ratio may fall before its gradient stops.
        high: How far above 1 it may rise.
        dual: Bound -c A on the loss where A < 0, c > 1; 0 sets none (3 in arXiv:1912.09729).

    Returns:
        Scalar; -sum(weights * advantages) where all ratios are 1.

    Source: arXiv:1707.06347 eq. 7; apart low and high: arXiv:2503.14476.
    """
    ratios = ratios_of(log_ratios)
    losses = torch.maximum(-advantages * ratios, -advantages * ratios.clamp(1.0 - low, 1.0 + high))
    if dual:
        losses = torch.where(advantages < 0, torch.minimum(losses, -dual * advantages), losses)
    return (weights * losses).sum()


def clipped_count(log_ratios: Tensor, advantages: Tensor, *, low: float, high: float) -> float:
    """How many elements' gradients the clip of `clipped_loss` stops."""
    ratios = ratios_of(log_ratios.detach())
    below, above = (ratios < 1.0 - low) & (advantages < 0), (ratios > 1.0 + high) & (advantages > 0)
    return float((below | above).sum())


def capped_loss(
    logps: Tensor, log_ratios: Tensor, advantages: Tensor, weights: Tensor, *, high: float
) -> Tensor:
    """Weighted sum of -sg(min(r, 1 + high)) A logp: every token keeps its gradient (CISPO).

    All are (N,). Source: arXiv:2506.13585 eq. 4, without the lower bound, as there.
    """
    capped = ratios_of(log_ratios).clamp(max=1.0 + high).detach()
    return -(weights * capped * advantages * logps).sum()


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float) -> Tensor:
    """Half the sum of the worse of two squared errors: as predicted, and near the old prediction.

    Args:
        values: (N,) predicted now.
        old_values: (N,) predicted when the responses were sampled.
        returns: (N,) what they should be.
        clip: How far from the old prediction a value is believed; 0 does not clip.

    Source: arXiv:2403.17031, detail 24 and its `ppo.py`.
    """
    errors = (values - returns) ** 2
    if clip:
        near = old_values + (values - old_values).clamp(-clip, clip)
        errors = torch.maximum(errors, (near - returns) ** 2)
    return 0.5 * errors.sum()


def ratios_of(log_ratios: Tensor) -> Tensor:
    """exp of log-ratios clamped to +-20."""
    return log_ratios.clamp(-MOST_LOG_RATIO, MOST_LOG_RATIO).exp()


def response_sums(values: Tensor, lengths: Tensor) -> Tensor:
    """(B,) sums of (N,) values, response by response; `lengths` (B,) are their tokens."""
    rows = torch.repeat_interleave(torch.arange(len(lengths), device=values.device), lengths)
    return values.new_zeros(len(lengths)).index_add(0, rows, values)


def response_means(values: Tensor, lengths: Tensor) -> Tensor:
    """(B,) means of (N,) values; of log-ratios, GSPO's (arXiv:2507.18071 eq. 7)."""
    return response_sums(values, lengths) / lengths
