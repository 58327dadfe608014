"""A reward model from preferences, all those of a prompt in one element.

Each response of a prompt goes forward once, however many pairs it stands in, and a prompt counts
by the weights of its pairs together: a comparison 1, a ranking of K, whose pairs weigh 1 / (K - 1),
K / 2. Where all have one K that is arXiv:2203.02155 eq. 1. Bradley-Terry takes every pair with
its soft label. Plackett-Luce takes the order of a prompt's responses, where all pairs among them
were judged; other prompts are learnt by pairs, and counted.

Published scores count from demonstrations: their mean becomes 0 (arXiv:2203.02155, 3.5). Where
the recipe is given none, from the responses that a label prefers.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import comb
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any, TypeVar

import torch
from torch import Tensor

from flywheel.datasets.ceiling import annotator_ceiling
from flywheel.datasets.render import Rendered
from flywheel.models.load import load_backbone, load_causal, load_tokenizer, stop_ids_of
from flywheel.models.lora import merged, with_lora
from flywheel.models.reward import RewardHead, last_token, save_reward, scores_at
from flywheel.process.worker import start, use_threads
from flywheel.train.batches import held_out_batches
from flywheel.train.config import HELD_OUT_FRAC, RunSettings
from flywheel.train.config_reward import RewardSettings
from flywheel.train.data import Group, Reader, limited, needed, records_of
from flywheel.train.engine import Engine
from flywheel.train.finish import finish
from flywheel.train.loop import Objective, Stats, fit
from flywheel.train.losses import preference_loss, right_share
from flywheel.train.reward_losses import off_centre, plackett_luce_loss
from flywheel.train.source import Shuffled

E = TypeVar("E")


def run(settings: RewardSettings, run_dir: Path) -> dict[str, Any]:
    """Fit a reward model on a preference dataset and publish it."""
    tokenizer = load_tokenizer(settings.model)
    stop_ids = stop_ids_of(load_causal(settings.model), tokenizer)
    backbone = load_backbone(settings.model)
    use_threads(backbone.num_parameters(), settings.threads)
    reader = Reader(settings.dataset, tokenizer, stop_ids, settings.max_tokens)
    read = partial(
        reader.groups, max_responses=settings.max_responses, with_ties=settings.ties == "soft"
    )
    found = needed(read("train"), reader, "preference")
    groups = limited(found, settings.limit, settings.seed)
    held_out = limited(read("validation"), settings.held_out_limit, settings.seed)
    print(f"{len(groups)} prompts, {len(held_out)} held out, {reader.counts()}")
    texts = level_texts(settings, groups, tokenizer, stop_ids)
    module = RewardHead(with_lora(backbone, settings.lora_rank, settings.seed), settings.seed)
    engine, objective = Engine(module, settings), judged(settings)
    result = fit(engine, Shuffled(groups, settings), objective, settings.for_steps(), run_dir)
    result |= reader.counts() | measure(engine, held_out, objective, settings, "pairs")
    result["validation_annotator_accuracy_frac"], _ = annotator_ceiling(
        Path(settings.dataset), "validation"
    )
    if settings.loss == "plackett_luce":
        result["prompts_without_order"] = sum(ranks_of(group) is None for group in groups)
    shift, deviation = level(engine, texts, settings)

    def write(folder: Path) -> None:
        merged(backbone)
        scale = deviation if settings.unit_std else 1.0
        save_reward(module, folder, shift=shift, scale=scale, stop_ids=stop_ids)
        tokenizer.save_pretrained(folder)

    return finish(
        settings,
        engine,
        kind="reward_model",
        write=write,
        record_uids=records_of(groups),
        result=result | {"shift": shift, "deviation": deviation},
    )


def judged(settings: RewardSettings) -> Objective[Group]:
    """The objective that the settings choose."""
    if settings.loss == "plackett_luce":
        return plackett_luce(settings.centering)
    return bradley_terry(settings.margin, settings.centering)


def bradley_terry(margin: float = 0.0, centering: float = 0.0) -> Objective[Group]:
    """Mean loss of pairs by their weights.

    Args:
        margin: By how much a certain label wants its response ahead, in nats; one of probability
            p wants `margin * |2p - 1|`, so that a tie wants none (arXiv:2307.09288, 3.2.2).
        centering: Weight of (r_a + r_b)^2.
    """

    def loss(engine: Engine, groups: Sequence[Group]) -> tuple[Tensor, Stats]:
        a, b, labels, weights = pairs_of(scores(engine, texts_of(groups)), groups)
        total = preference_loss(a - b - margin * (2 * labels - 1), labels, weights)
        total = total + centering * off_centre(a, b, weights)
        return total, {"accuracy_frac": right_share((a - b).detach(), labels)}

    return _over_prompts(loss)


def plackett_luce(centering: float = 0.0) -> Objective[Group]:
    """Loss of the orders of prompts, or of their pairs where there is no order, over all weights.

    An order of K that weighs K / 2, as a ranking does, counts once, and a comparison too; both are
    divided by the weights of all pairs, as with `bradley_terry`.
    """

    def loss(engine: Engine, groups: Sequence[Group]) -> tuple[Tensor, Stats]:
        found = [(group, ranks_of(group)) for group in groups]
        ordered = [(group, ranks) for group, ranks in found if ranks]
        groups = [group for group, _ in ordered] + [group for group, ranks in found if not ranks]
        rewards = scores(engine, texts_of(groups))
        a, b, labels, weights = pairs_of(rewards, groups)
        paired = sum(len(group.pairs) for group, _ in ordered)
        total = preference_loss(a[paired:] - b[paired:], labels[paired:], weights[paired:])
        places = [
            (rank, owner, 2 * group.share / len(group.texts))
            for owner, (group, ranks) in enumerate(ordered)
            for rank in ranks
        ]
        facts = torch.tensor(places, device=a.device).reshape(-1, 3).unbind(1)
        total = total + plackett_luce_loss(rewards[: len(places)], *facts)
        total = total + centering * off_centre(a, b, weights)
        return total, {"accuracy_frac": right_share((a - b).detach(), labels)}

    return _over_prompts(loss)


def _over_prompts(
    loss: Callable[[Engine, Sequence[Group]], tuple[Tensor, Stats]],
) -> Objective[Group]:
    return Objective(
        loss=loss,
        count=lambda group: group.share,
        shape=lambda group: (len(group.texts), max(len(text.ids) for text in group.texts)),
        tokens=lambda group: sum(len(text.ids) for text in group.texts),
        record_uids=lambda group: group.record_uids,
    )


def texts_of(groups: Sequence[Group]) -> list[Rendered]:
    """All responses, group after group."""
    return [text for group in groups for text in group.texts]


def scores(engine: Engine, texts: Sequence[Rendered]) -> Tensor:
    """(B,) scores of rendered responses."""
    return scores_at(engine, texts, [last_token(text) for text in texts], engine.device)


def pairs_of(rewards: Tensor, groups: Sequence[Group]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scores of both sides, label and weight of every pair, (P,) each.

    The weights of a group add up to its share. `rewards` are those of `texts_of(groups)`.
    """
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
    return rewards[a], rewards[b], labels[0], labels[1]


def ranks_of(group: Group) -> list[float] | None:
    """Rank of each response, smaller is better; None where some pair was not judged.

    Responses are ordered by their expected wins over the others: the sum of the probabilities of
    being better. Equal sums are tied, those of a circle too.
    """
    if len({frozenset((pair.a, pair.b)) for pair in group.pairs}) < comb(len(group.texts), 2):
        return None
    wins = [0.0] * len(group.texts)
    for pair in group.pairs:
        wins[pair.a] += pair.probability
        wins[pair.b] += 1 - pair.probability
    return [-round(one, 6) for one in wins]


@torch.no_grad()
def measure(
    engine: Engine,
    elements: Sequence[E],
    objective: Objective[E],
    settings: RunSettings,
    what: str,
) -> dict[str, float | None]:
    """Share of what held-out labels decide that is scored as labelled, and the mean loss.

    Both are None where validation has none, which it often has where little has landed.
    """
    count, right, decided, loss = 0.0, 0.0, 0.0, 0.0
    for batch in held_out_batches(elements, objective.shape, settings, HELD_OUT_FRAC / 2):
        lost, stats = objective.loss(engine, batch)
        loss += float(lost)
        right += stats["accuracy_frac"][0]
        decided += stats["accuracy_frac"][1]
        count += sum(objective.count(one) for one in batch)
    return {
        f"validation_{what}": int(decided),
        "validation_accuracy_frac": right / decided if decided else None,
        "validation_loss": loss / count if count else None,
    }


def level_texts(
    settings: RewardSettings, groups: Sequence[Group], tokenizer: Any, stop_ids: Sequence[int]
) -> list[Rendered]:
    """The responses whose mean score is to be 0: demonstrations, or else what labels prefer."""
    most = settings.held_out_limit
    if settings.demonstrations:
        reader = Reader(settings.demonstrations, tokenizer, stop_ids, settings.max_tokens)
        rows = needed(reader.demonstrations("train"), reader, "demonstration")
        return [row.text for row in limited(rows, most, settings.seed)]
    return [
        group.texts[pair.a if pair.probability > 0.5 else pair.b]
        for group in groups[:most]
        for pair in group.pairs
        if pair.probability != 0.5
    ]


@torch.no_grad()
def level(
    engine: Engine, texts: Sequence[Rendered], settings: RewardSettings
) -> tuple[float, float]:
    """Mean and standard deviation of the scores of texts; 0 and 1 where none can be had."""
    found: list[float] = []
    for batch in held_out_batches(
        texts, lambda text: (1, len(text.ids)), settings, HELD_OUT_FRAC / 2
    ):
        found += scores(engine, batch).tolist()
    mean, deviation = (fmean(found), pstdev(found)) if found else (0.0, 0.0)
    return mean, deviation or 1.0


if __name__ == "__main__":
    start(run, RewardSettings)
