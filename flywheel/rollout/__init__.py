"""Sampling from a policy and scoring with a reward model."""
