"""Losses on a pair of responses under a policy: one function each, on tensors alone.

Dimension key
    P   pairs, the first response of each called a and the second b

A loss is made of two pieces. The *margin* says by how much the policy puts a above b, more than
its reference does where there is one. The *penalty* says what a margin costs if a is the better
one. With a soft label a pair costs `p * penalty(margin) + (1 - p) * penalty(-margin)`, which is the
cross-entropy against p for the sigmoid penalty, and the published loss of each at p = 1. All values
are in nats.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from flywheel.errors import ShapeError


@dataclass(frozen=True, slots=True, kw_only=True)
class Logps:
    """What policy and reference give the responses of one side.

    Attributes:
        policy: (P,) sums of log-probabilities over the response's tokens.
        reference: (P,) the same under the reference; zeros where a loss has none.
        lengths: (P,) tokens that carry loss.
    """

    policy: Tensor
    reference: Tensor
    lengths: Tensor

    def __post_init__(self) -> None:
        shapes = {tuple(one.shape) for one in (self.policy, self.reference, self.lengths)}
        if len(shapes) != 1 or self.policy.ndim != 1:
            raise ShapeError(f"expected three tensors of one shape (P,), got {sorted(shapes)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The numbers in a penalty: `beta`, `smoothing` (label noise, below 1/2) and `gamma`."""

    beta: float
    smoothing: float = 0.0
    gamma: float = 0.0


def log_ratio(a: Logps, b: Logps) -> Tensor:
    """(P,) difference of the log-ratios to the reference, of sums; 0 where policy = reference.

    Source: arXiv:2305.18290 eq. 7.
    """
    return (a.policy - a.reference) - (b.policy - b.reference)


def log_ratio_per_token(a: Logps, b: Logps) -> Tensor:
    """(P,) difference of the log-ratios to the reference, each a mean over its tokens.

    Source: arXiv:2411.15124, and arXiv:2310.12036 as its authors confirmed to TRL.
    """
    return (a.policy - a.reference) / a.lengths - (b.policy - b.reference) / b.lengths


def log_mean(a: Logps, b: Logps) -> Tensor:
    """(P,) difference of the mean log-probabilities of a token; no reference.

    Source: arXiv:2405.14734 eq. 4.
    """
    return a.policy / a.lengths - b.policy / b.lengths


def log_odds(a: Logps, b: Logps) -> Tensor:
    """(P,) log of the ratio of the odds p / (1 - p), p the mean probability of a token.

    Source: arXiv:2403.07691 eq. 4 and 7.
    """
    means = a.policy / a.lengths, b.policy / b.lengths
    return (means[0] - means[1]) - (_log1mexp(means[0]) - _log1mexp(means[1]))


def sigmoid(margins: Tensor, shape: Shape) -> Tensor:
    """-log sigmoid(beta margin): log 2 at 0 (arXiv:2305.18290 eq. 7)."""
    return F.softplus(-shape.beta * margins)


def conservative(margins: Tensor, shape: Shape) -> Tensor:
    """The sigmoid penalty if a share `smoothing` of labels is turned round (cDPO, Mitchell 2023);
    least at the margin log((1 - s) / s) / beta."""
    right, wrong = sigmoid(margins, shape), sigmoid(-margins, shape)
    return (1 - shape.smoothing) * right + shape.smoothing * wrong


def robust(margins: Tensor, shape: Shape) -> Tensor:
    """Unbiased under a share `smoothing` of turned labels; may be negative (arXiv:2403.00409)."""
    right, wrong = sigmoid(margins, shape), sigmoid(-margins, shape)
    return ((1 - shape.smoothing) * right - shape.smoothing * wrong) / (1 - 2 * shape.smoothing)


def ipo(margins: Tensor, shape: Shape) -> Tensor:
    """(margin - 1 / (2 beta))^2: a target, not a push without end (arXiv:2310.12036 eq. 17)."""
    return (margins - 1 / (2 * shape.beta)) ** 2


def hinge(margins: Tensor, shape: Shape) -> Tensor:
    """max(0, 1 - beta margin) (SLiC, arXiv:2305.10425)."""
    return F.relu(1 - shape.beta * margins)


def simpo(margins: Tensor, shape: Shape) -> Tensor:
    """-log sigmoid(beta margin - gamma): the better one wins by gamma (arXiv:2405.14734 eq. 6)."""
    return F.softplus(-(shape.beta * margins - shape.gamma))


def orpo(margins: Tensor, shape: Shape) -> Tensor:
    """-beta log sigmoid(margin); the recipe adds the chosen's likelihood (arXiv:2403.07691)."""
    return shape.beta * F.softplus(-margins)


@dataclass(frozen=True, slots=True)
class Variant:
    """A published loss: its margin and its penalty."""

    margin: Callable[[Logps, Logps], Tensor]
    penalty: Callable[[Tensor, Shape], Tensor]


VARIANTS = {
    "sigmoid": Variant(log_ratio, sigmoid),
    "conservative": Variant(log_ratio, conservative),
    "robust": Variant(log_ratio, robust),
    "ipo": Variant(log_ratio_per_token, ipo),
    "hinge": Variant(log_ratio, hinge),
    "length_normalised": Variant(log_ratio_per_token, sigmoid),
    "simpo": Variant(log_mean, simpo),
    "orpo": Variant(log_odds, orpo),
}


def pair_losses(variant: Variant, margins: Tensor, probabilities: Tensor, shape: Shape) -> Tensor:
    """(P,) losses of pairs whose first response is the better one with `probabilities` (P,)."""
    if margins.shape != probabilities.shape or margins.ndim != 1:
        raise ShapeError(
            f"expected two tensors of one shape (P,), got {tuple(margins.shape)} and "
            f"{tuple(probabilities.shape)}"
        )
    right, wrong = variant.penalty(margins, shape), variant.penalty(-margins, shape)
    return probabilities * right + (1 - probabilities) * wrong


def _log1mexp(logps: Tensor) -> Tensor:
    """log(1 - exp(x)) for x < 0, exact near 0 and far below it (Maechler, 2012)."""
    logps = logps.clamp(max=-torch.finfo(logps.dtype).eps)  # a token that is certain
    near = logps > -math.log(2)
    return torch.where(
        near,
        torch.log(-torch.expm1(torch.where(near, logps, -1.0))),
        torch.log1p(-torch.exp(torch.where(near, -1.0, logps))),
    )
