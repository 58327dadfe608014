"""Group-relative policy optimisation and its kin: what is better than its siblings is reinforced.

No value model: the baseline of a response is the mean reward of the responses to the same prompt.
`variant` chooses what a ratio is of, how it is clipped, and how tokens are averaged; see the table
in `policy_losses`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flywheel.process.worker import start
from flywheel.train.advantages import group_relative
from flywheel.train.config_reinforce import GrpoSettings
from flywheel.train.engine import Engine
from flywheel.train.kl import loss_term
from flywheel.train.loop import Objective, Stats
from flywheel.train.on_policy import Credit, OnPolicy, reinforce
from flywheel.train.policy_losses import capped_loss, clipped_count, clipped_loss, response_means
from flywheel.train.rollouts import Learner, Rollout, inputs, joined, lengths_of


def run(settings: GrpoSettings, run_dir: Path) -> dict[str, Any]:
    """Train a policy on rewards of what it samples, and publish it."""
    learner = Learner.load(settings)
    source = OnPolicy(learner, settings, group_credit(settings))
    return reinforce(learner, source, grouped(settings, source), settings, run_dir)


def group_credit(settings: GrpoSettings) -> Credit:
    """Advantages relative to the group, the same for every token of a response."""

    def credit(rollouts: Sequence[Rollout], beta: float) -> list[tuple[Tensor, Tensor]]:
        scores = torch.tensor([one.score for one in rollouts], dtype=torch.float64)
        groups = torch.tensor([one.group for one in rollouts])
        found = group_relative(scores, groups, by_deviation=settings.variant != "dr_grpo")
        if settings.kl_in == "reward":  # a nat costs beta, however far the scores lie apart
            nats = [float((one.old - one.reference).sum()) for one in rollouts]
            strayed = torch.tensor(nats, dtype=torch.float64)
            found = found - beta * group_relative(strayed, groups, by_deviation=False)
        return [
            (torch.full_like(one.old, float(advantage)), torch.zeros_like(one.old))
            for one, advantage in zip(rollouts, found, strict=True)
        ]

    return credit


def grouped(settings: GrpoSettings, source: OnPolicy) -> Objective[Rollout]:
    """The loss of the variant, with its KL term where that is in the loss."""
    per_response = settings.variant in ("grpo", "gspo")

    def loss(engine: Engine, rollouts: Sequence[Rollout]) -> tuple[Tensor, Stats]:
        texts = [one.text for one in rollouts]
        logps, entropies, _ = engine(*inputs(texts, engine, settings.temperature))
        old, advantages, reference = (
            joined(rollouts, name, engine.device) for name in ("old", "advantages", "reference")
        )
        lengths = lengths_of(rollouts, engine.device)
        weights = torch.ones_like(logps)
        if per_response:
            weights = torch.repeat_interleave(1 / lengths, lengths)
        total, clipped = reinforced(settings, logps, old, advantages, weights, lengths)
        beta = source.kl.beta if settings.kl_in == "loss" else 0.0
        if beta:
            strayed = loss_term(logps, old, reference, settings.kl_estimator)
            total = total + beta * (weights * strayed).sum()
        return total, {"clip_frac": clipped, "entropy": whole(entropies)}

    return Objective(
        loss=loss,
        count=lambda one: count_of(settings, one),
        shape=lambda one: (1, len(one.text.ids)),
        tokens=lambda one: len(one.text.ids),
        record_uids=lambda one: one.record_uids,
    )


def reinforced(
    settings: GrpoSettings,
    logps: Tensor,
    old: Tensor,
    advantages: Tensor,
    weights: Tensor,
    lengths: Tensor,
) -> tuple[Tensor, tuple[float, float]]:
    """The sum of the variant's policy losses; how many of its elements were clipped, of how many.

    Args:
        settings: Variant and clips.
        logps: (N,) under the policy.
        old: (N,) under the policy that sampled.
        advantages: (N,) equal within a response.
        weights: (N,) of each token in the sum.
        lengths: (B,) tokens of each response.
    """
    clips = {"low": settings.clip_low, "high": settings.clip_high}
    ratios = logps - old
    if settings.variant == "gspo":
        ratios, advantages = response_means(ratios, lengths), response_means(advantages, lengths)
        weights = torch.ones_like(ratios)
    if settings.variant == "cispo":
        above = float((ratios.detach().exp() > 1 + settings.clip_high).sum())
        total = capped_loss(logps, ratios, advantages, weights, high=settings.clip_high)
        return total, (above, float(len(ratios)))
    clipped = clipped_count(ratios, advantages, **clips)
    return clipped_loss(ratios, advantages, weights, **clips), (clipped, float(len(ratios)))


def count_of(settings: GrpoSettings, rollout: Rollout) -> float:
    """What a response adds to the denominator of its step."""
    if settings.variant in ("grpo", "gspo"):
        return 1.0
    if settings.variant == "dr_grpo":
        return float(settings.max_new_tokens)
    return float(rollout.text.response_tokens)


def whole(values: Tensor) -> tuple[float, float]:
    """Sum and count, as `Stats` takes them."""
    return float(values.detach().sum()), float(len(values))


if __name__ == "__main__":
    start(run, GrpoSettings)
