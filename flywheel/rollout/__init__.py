"""Sampling from a policy and scoring with a reward model."""

from flywheel.rollout.policy import Policy, Response, rendered_logprobs, response_nll
from flywheel.rollout.reward import (
    RememberingRewardModel,
    RewardModel,
    StepRewardModel,
    aggregate,
)
from flywheel.rollout.sampler import sample, sample_ids
from flywheel.rollout.server import ServerPolicy
from flywheel.rollout.verifier import verifier_of

__all__ = [
    "Policy",
    "RememberingRewardModel",
    "Response",
    "RewardModel",
    "ServerPolicy",
    "StepRewardModel",
    "aggregate",
    "rendered_logprobs",
    "response_nll",
    "sample",
    "sample_ids",
    "verifier_of",
]
