"""A process reward model: how likely each step of a trajectory is good (arXiv:2305.20050).

It learns from ratings of steps, and from outcomes: each step of an attempt that passed is then
labelled good and each of one that failed bad, so that what it says of a step is how often attempts
that took it pass. Attempts that were cut off, broke or were never scored say nothing.

A step ends with its turn, and its score is read at that token. All rated steps of an optimizer
step count alike, but for their weights, however they spread over trajectories.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flywheel.errors import TrainingError
from flywheel.models.load import load_backbone, load_causal, load_tokenizer, stop_ids_of
from flywheel.models.lora import merged, with_lora
from flywheel.models.reward import STEP_REWARD, RewardHead, save_reward, scores_at
from flywheel.process.worker import start, use_threads
from flywheel.train.config_reward import StepRewardSettings
from flywheel.train.data import Reader, Steps, limited, records_of
from flywheel.train.engine import Engine
from flywheel.train.finish import finish
from flywheel.train.loop import Objective, Stats, fit
from flywheel.train.losses import preference_loss, right_share
from flywheel.train.reward import measure
from flywheel.train.source import Shuffled


def run(settings: StepRewardSettings, run_dir: Path) -> dict[str, Any]:
    """Fit a process reward model on rated steps and outcomes, and publish it."""
    tokenizer = load_tokenizer(settings.model)
    stop_ids = stop_ids_of(load_causal(settings.model), tokenizer)
    backbone = load_backbone(settings.model)
    use_threads(backbone.num_parameters(), settings.threads)
    rated, attempts = (
        Reader(folder, tokenizer, stop_ids, settings.max_tokens)
        for folder in (settings.dataset, settings.trajectories)
    )

    def read(split: str) -> list[Steps]:
        found = rated.step_ratings(split) if settings.dataset else []
        if settings.trajectories and settings.outcome_weight:
            found += attempts.outcomes(split, settings.outcome_weight)
        return found

    train = limited(read("train"), settings.limit, settings.seed)
    held_out = limited(read("validation"), settings.held_out_limit, settings.seed)
    counts = {"ratings": rated.counts(), "outcomes": attempts.counts()}
    if not train:
        raise TrainingError(
            f"no step of {settings.dataset or 'no dataset'} is rated and no attempt of "
            f"{settings.trajectories or 'no dataset'} passed or failed ({counts}); land step "
            f"ratings or trajectories with outcomes, or raise max_tokens"
        )
    print(f"{len(train)} trajectories, {len(held_out)} held out, {counts}")
    module = RewardHead(with_lora(backbone, settings.lora_rank, settings.seed), settings.seed)
    engine = Engine(module, settings)
    result = fit(engine, Shuffled(train, settings), judged_steps(), settings.for_steps(), run_dir)
    result |= {**counts, "rated_steps": sum(len(one.places) for one in train)}
    result |= measure(engine, held_out, judged_steps(), settings, "steps")

    def write(folder: Path) -> None:
        merged(backbone)
        save_reward(module, folder, shift=0.0, stop_ids=stop_ids, kind=STEP_REWARD)
        tokenizer.save_pretrained(folder)

    return finish(
        settings,
        engine,
        kind=STEP_REWARD,
        write=write,
        record_uids=records_of(train),
        result=result,
    )


def judged_steps() -> Objective[Steps]:
    """Weighted mean over steps of the cross-entropy of sigmoid(score) against their labels."""

    def loss(engine: Engine, batch: Sequence[Steps]) -> tuple[Tensor, Stats]:
        places = [one.places for one in batch]
        found = scores_at(engine, [one.text for one in batch], places, engine.device)
        labels = torch.tensor([x for one in batch for x in one.labels], device=found.device)
        weights = torch.tensor([x for one in batch for x in one.weights], device=found.device)
        total = preference_loss(found, labels, weights)
        return total, {"accuracy_frac": right_share(found.detach(), labels)}

    return Objective(
        loss=loss,
        count=lambda one: sum(one.weights),
        shape=lambda one: (1, len(one.text.ids)),
        tokens=lambda one: len(one.text.ids),
        record_uids=lambda one: one.record_uids,
    )


if __name__ == "__main__":
    start(run, StepRewardSettings)
