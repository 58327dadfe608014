"""Losses on preferences: pure functions of tensors, no model, no device, no logging.

Dimension key
    P   pairs
    N   response tokens

Each returns the *sum* over its elements: the loop divides by the count of the whole optimizer
step, so that no cut into micro-batches or processes changes a gradient. All values are in nats.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from flywheel.errors import ShapeError


def preference_loss(margins: Tensor, probabilities: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of the cross-entropy of sigmoid(`margins`) against soft labels.

    With probability 1 this is Bradley-Terry, -log sigmoid(margin); at 0.5, a tie, it is least
    where the margin is 0.

    Args:
        margins: (P,) reward of the first response minus that of the second.
        probabilities: (P,) probability that the first is better.
        weights: (P,) weight of each pair.

    Returns:
        Scalar. Each pair adds weight * log 2 where its margin is 0.

    Raises:
        ShapeError: The three are not all of one shape (P,).

    Source: arXiv:2203.02155 eq. 1, arXiv:2305.18290 eq. 7; soft labels as in cDPO.
    """
    shapes = {tuple(tensor.shape) for tensor in (margins, probabilities, weights)}
    if len(shapes) != 1 or margins.ndim != 1:
        raise ShapeError(f"expected three tensors of one shape (P,), got {sorted(shapes)}")
    losses = F.binary_cross_entropy_with_logits(margins, probabilities, reduction="none")
    return (losses * weights).sum()


def right_share(margins: Tensor, probabilities: Tensor) -> tuple[float, float]:
    """How many decided pairs are ordered as labelled (an equal score is half), and how many are."""
    decided = probabilities != 0.5
    signs = torch.sign(margins[decided]) * torch.sign(probabilities[decided] - 0.5)
    return float(((signs + 1) / 2).sum()), float(decided.sum())
