"""Sampling from a policy and scoring with a reward model."""

from flywheel.rollout.policy import Policy, Response, response_nll
from flywheel.rollout.reward import RewardModel
from flywheel.rollout.sampler import sample, sample_ids

__all__ = ["Policy", "Response", "RewardModel", "response_nll", "sample", "sample_ids"]
