"""How far a policy is from its reference: estimators, the term in a loss, and its coefficient.

`x` is the log-probability of a sampled token or response under the policy minus that under the
reference, in nats. That an estimator has the right value does not mean that its gradient is that
of the divergence (arXiv:2506.09477). Of a term in the loss of responses just sampled, expected:

    k1                   no gradient at all
    k2 of the response   grad KL(policy || reference)
    k2 token by token    the same without credit for what a token leads to
    k3 (one token)       grad KL(reference || policy), the other direction
    k1 in the reward     grad KL(policy || reference), with return-to-go undiscounted

On responses of an older policy the last two fail, and `ratio * k3`, its gradient through both, is
exact for one token. So k1 goes into rewards and `loss_term` into losses.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from flywheel.errors import SettingsError
from flywheel.train.policy_losses import MOST_LOG_RATIO, ratios_of

MOST_NATS = 10.0  # of one token: one outlier must not own a step (verl, core_algos.py)
MOST_ERROR = 0.2  # of an adaptive coefficient at once (arXiv:1909.08593, 2.2)


def k1(x: Tensor) -> Tensor:
    """x: unbiased, signed."""
    return x


def k2(x: Tensor) -> Tensor:
    """Half of x squared: biased, never negative."""
    return x.clamp(-MOST_LOG_RATIO, MOST_LOG_RATIO) ** 2 / 2


def k3(x: Tensor) -> Tensor:
    """exp(-x) - 1 + x: unbiased, never negative (joschu.net/blog/kl-approx.html)."""
    x = x.clamp(-MOST_LOG_RATIO, MOST_LOG_RATIO)
    return (-x).exp() - 1 + x


def loss_term(logps: Tensor, old: Tensor, reference: Tensor, estimator: str) -> Tensor:
    """What a token adds to a loss for straying from the reference.

    Args:
        logps: (N,) under the policy.
        old: (N,) under the policy that sampled.
        reference: (N,) under the reference.
        estimator: "k3" is ratio * k3, gradient through both; "k2" is ratio * k2, the ratio held.
            For one token the gradient of either is that of KL(policy || reference), on- and
            off-policy; token by token, both leave out what the token leads to.

    Returns:
        (N,), each at most 10 nats before the ratio.
    """
    x, ratios = logps - reference, ratios_of(logps - old)
    if estimator == "k3":
        return ratios * k3(x).clamp(max=MOST_NATS)
    return ratios.detach() * k2(x).clamp(max=MOST_NATS)


@dataclass(slots=True)
class KlCoefficient:
    """What a nat of divergence costs: fixed, or steered so that a response strays `target` nats.

    Attributes:
        beta: Reward per nat.
        target: Nats per response; 0 keeps beta as it is.
        horizon: Responses over which a lasting error of 20 % moves beta by 20 %.

    Source: arXiv:1909.08593, 2.2; as in verl's AdaptiveKLController.
    """

    beta: float
    target: float = 0.0
    horizon: float = 10_000.0

    def __post_init__(self) -> None:
        if self.beta < 0 or self.target < 0 or self.horizon <= 0:
            raise SettingsError(
                f"a KL coefficient and its target must not be negative, its horizon must be "
                f"positive; got {self.beta}, {self.target}, {self.horizon}"
            )

    def update(self, nats: float, responses: int) -> None:
        """Steer by what a rollout batch of `responses` strayed on average."""
        if self.target:
            error = min(MOST_ERROR, max(-MOST_ERROR, nats / self.target - 1))
            self.beta *= 1 + error * responses / self.horizon

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"beta": self.beta}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.beta = float(state["beta"])
