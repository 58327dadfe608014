"""A reward model: Bradley-Terry on soft labels, all pairs of a prompt in one element.

Each response of a prompt goes forward once, however many pairs it stands in, and a prompt counts
once however many responses it has (arXiv:2203.02155 eq. 1).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flywheel.datasets.render import Rendered
from flywheel.models.load import load_backbone, load_causal, load_tokenizer, stop_ids_of
from flywheel.models.logps import pad
from flywheel.models.lora import merged, with_lora
from flywheel.models.reward import RewardHead, save_reward
from flywheel.process.worker import start, use_threads
from flywheel.train.batches import held_out_batches
from flywheel.train.config import HELD_OUT_FRAC
from flywheel.train.config_reward import RewardSettings
from flywheel.train.data import Group, Reader, limited, needed, records_of
from flywheel.train.engine import Engine
from flywheel.train.finish import finish
from flywheel.train.loop import Objective, Stats, fit
from flywheel.train.losses import preference_loss, right_share
from flywheel.train.source import Shuffled


def run(settings: RewardSettings, run_dir: Path) -> dict[str, Any]:
    """Fit a reward model on a preference dataset and publish it."""
    tokenizer = load_tokenizer(settings.model)
    stop_ids = stop_ids_of(load_causal(settings.model), tokenizer)
    backbone = load_backbone(settings.model)
    use_threads(backbone.num_parameters(), settings.threads)
    reader = Reader(settings.dataset, tokenizer, stop_ids, settings.max_tokens)
    found = needed(
        reader.groups("train", max_responses=settings.max_responses), reader, "preference"
    )
    groups = limited(found, settings.limit, settings.seed)
    unseen = reader.groups("validation", max_responses=settings.max_responses)
    held_out = limited(unseen, settings.held_out_limit, settings.seed)
    print(f"{len(groups)} prompts, {len(held_out)} held out, {reader.counts()}")
    module = RewardHead(with_lora(backbone, settings.lora_rank, settings.seed), settings.seed)
    engine = Engine(module, settings)
    result = fit(engine, Shuffled(groups, settings), bradley_terry(), settings.for_steps(), run_dir)
    result |= reader.counts() | measure(engine, held_out, settings)
    shift = preferred_mean(engine, groups[: settings.held_out_limit], settings)

    def write(folder: Path) -> None:
        merged(backbone)
        save_reward(module, folder, shift=shift, stop_ids=stop_ids)
        tokenizer.save_pretrained(folder)

    return finish(
        settings,
        engine,
        kind="reward_model",
        write=write,
        record_uids=records_of(groups),
        result=result | {"shift": shift},
    )


def bradley_terry() -> Objective[Group]:
    """Mean over prompts of the weighted mean loss of their pairs."""

    def loss(engine: Engine, groups: Sequence[Group]) -> tuple[Tensor, Stats]:
        margins, probabilities, weights = margins_of(engine, groups)
        right, decided = right_share(margins.detach(), probabilities)
        return (
            preference_loss(margins, probabilities, weights),
            {"accuracy_frac": (right, decided)},
        )

    return Objective(
        loss=loss,
        count=lambda group: group.share,
        shape=lambda group: (len(group.texts), max(len(text.ids) for text in group.texts)),
        tokens=lambda group: sum(len(text.ids) for text in group.texts),
        record_uids=lambda group: group.record_uids,
    )


def scores(engine: Engine, texts: Sequence[Rendered]) -> Tensor:
    """(B,) scores of rendered responses."""
    ids, _ = pad(texts, engine.device)
    return engine(ids, torch.tensor([len(text.ids) for text in texts], device=engine.device))


def margins_of(engine: Engine, groups: Sequence[Group]) -> tuple[Tensor, Tensor, Tensor]:
    """Margins, labels and weights of every pair; those of a group add up to its share."""
    rewards = scores(engine, [text for group in groups for text in group.texts])
    a, b, probabilities, weights, offset = [], [], [], [], 0
    for group in groups:
        mass = sum(pair.weight for pair in group.pairs)
        for pair in group.pairs:
            a.append(offset + pair.a)
            b.append(offset + pair.b)
            probabilities.append(pair.probability)
            weights.append(group.share * pair.weight / mass)
        offset += len(group.texts)
    labels = torch.tensor([probabilities, weights], device=rewards.device)
    return rewards[a] - rewards[b], labels[0], labels[1]


@torch.no_grad()
def measure(
    engine: Engine, groups: Sequence[Group], settings: RewardSettings
) -> dict[str, float | None]:
    """Share of the decided held-out pairs ordered as labelled, and the mean loss of a prompt.

    Both are None where validation has none, which it often has where little has landed.
    """
    objective, seen = bradley_terry(), 0.0
    right = decided = loss = 0.0
    for batch in held_out_batches(groups, objective.shape, settings, HELD_OUT_FRAC / 2):
        lost, stats = objective.loss(engine, batch)
        loss += float(lost)
        right += stats["accuracy_frac"][0]
        decided += stats["accuracy_frac"][1]
        seen += sum(group.share for group in batch)
    return {
        "validation_pairs": int(decided),
        "validation_accuracy_frac": right / decided if decided else None,
        "validation_loss": loss / seen if seen else None,
    }


@torch.no_grad()
def preferred_mean(engine: Engine, groups: Sequence[Group], settings: RewardSettings) -> float:
    """Mean score of the responses that a label prefers: what the published scores count from."""
    total, count = 0.0, 0
    for batch in held_out_batches(groups, bradley_terry().shape, settings, HELD_OUT_FRAC / 2):
        preferred = [
            group.texts[pair.a if pair.probability > 0.5 else pair.b]
            for group in batch
            for pair in group.pairs
            if pair.probability != 0.5
        ]
        if preferred:
            total += float(scores(engine, preferred).sum())
            count += len(preferred)
    return total / count if count else 0.0


if __name__ == "__main__":
    start(run, RewardSettings)
