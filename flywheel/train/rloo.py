"""REINFORCE leave-one-out: a response is reinforced by what it has over the mean of its siblings.

The whole response is one action (arXiv:2402.14740): one ratio, of summed log-probabilities. Its
reward is its score less the cost of straying from the starting policy.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flywheel.process.worker import start
from flywheel.train.advantages import leave_one_out
from flywheel.train.config_reinforce import RlooSettings
from flywheel.train.engine import Engine
from flywheel.train.loop import Objective, Stats
from flywheel.train.on_policy import OnPolicy, reinforce
from flywheel.train.policy_losses import clipped_count, clipped_loss, response_means, response_sums
from flywheel.train.rollouts import Learner, Rollout, inputs, joined, lengths_of


def run(settings: RlooSettings, run_dir: Path) -> dict[str, Any]:
    """Train a policy on rewards of what it samples, and publish it."""
    learner = Learner.load(settings)
    source = OnPolicy(learner, settings, credit)
    return reinforce(learner, source, whole_responses(settings), settings, run_dir)


def credit(rollouts: Sequence[Rollout], beta: float) -> list[tuple[Tensor, Tensor]]:
    """Score less beta k1, less the same of the other responses to the prompt."""
    scores = torch.tensor(
        [one.score - beta * float((one.old - one.reference).sum()) for one in rollouts],
        dtype=torch.float64,
    )
    found = leave_one_out(scores, torch.tensor([one.group for one in rollouts]))
    return [
        (torch.full_like(one.old, float(advantage)), torch.zeros_like(one.old))
        for one, advantage in zip(rollouts, found, strict=True)
    ]


def whole_responses(settings: RlooSettings) -> Objective[Rollout]:
    """Mean over responses of the clipped loss of their ratio."""
    clips = {"low": settings.clip_low, "high": settings.clip_high}

    def loss(engine: Engine, rollouts: Sequence[Rollout]) -> tuple[Tensor, Stats]:
        texts = [one.text for one in rollouts]
        logps, entropies, _ = engine(*inputs(texts, engine, settings.temperature))
        lengths = lengths_of(rollouts, engine.device)
        ratios = response_sums(logps - joined(rollouts, "old", engine.device), lengths)
        advantages = response_means(joined(rollouts, "advantages", engine.device), lengths)
        clipped = clipped_count(ratios, advantages, **clips)
        return clipped_loss(ratios, advantages, torch.ones_like(ratios), **clips), {
            "clip_frac": (clipped, float(len(ratios))),
            "entropy": (float(entropies.sum()), float(len(entropies))),
        }

    return Objective(
        loss=loss,
        count=lambda one: 1.0,
        shape=lambda one: (1, len(one.text.ids)),
        tokens=lambda one: len(one.text.ids),
        record_uids=lambda one: one.record_uids,
    )


if __name__ == "__main__":
    start(run, RlooSettings)
