"""Sampling from a policy and scoring with a reward model."""

from flywheel.rollout.policy import Policy, Response, response_nll
from flywheel.rollout.reward import RewardModel, StepRewardModel, aggregate
from flywheel.rollout.sampler import sample

__all__ = [
    "Policy",
    "Response",
    "RewardModel",
    "StepRewardModel",
    "aggregate",
    "response_nll",
    "sample",
]
