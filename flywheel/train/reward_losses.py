"""Losses on scores beyond pairs: pure functions of tensors, no model, no device, no logging.

Dimension key
    P   pairs
    R   responses of all rankings

Each returns the *sum* over its elements; see `flywheel.train.losses`.
"""

import torch
from torch import Tensor

from flywheel.errors import ShapeError


def plackett_luce_loss(scores: Tensor, ranks: Tensor, owners: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of the negative log-probabilities, in nats, of rankings drawn best first.

    Responses of equal rank are each drawn from all that are not ranked before them (Breslow's
    form): two of them alone add log 4, at least, where their scores are equal.

    Args:
        scores: (R,) scores.
        ranks: (R,) rank of each in its ranking; smaller is better, equal is tied.
        owners: (R,) number of the ranking that each belongs to.
        weights: (R,) weight of its ranking.

    Returns:
        Scalar. A ranking of K without ties adds log K! where its scores are equal; with K = 2 it
        is Bradley-Terry.

    Raises:
        ShapeError: The four are not all of one shape (R,).

    Source: arXiv:2305.18290, appendix A.3.
    """
    shapes = {tuple(tensor.shape) for tensor in (scores, ranks, owners, weights)}
    if len(shapes) != 1 or scores.ndim != 1:
        raise ShapeError(f"expected four tensors of one shape (R,), got {sorted(shapes)}")
    is_left = (owners[:, None] == owners) & (ranks[:, None] <= ranks)  # (R, R), itself among them
    left = torch.where(is_left, scores, -torch.inf)
    return ((torch.logsumexp(left, dim=-1) - scores) * weights).sum()


def off_centre(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of (a + b)^2 over pairs of scores, all (P,): least where pairs balance at 0.

    Preferences leave the level of all scores open; this sets it (arXiv:2312.09244, eq. 2).
    """
    return ((a + b).square() * weights).sum()
