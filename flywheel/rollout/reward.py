"""Reward models ready to score: whole responses, or each step of a trajectory."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from flywheel.datasets.render import Rendered, render_all
from flywheel.datasets.tools import render_with_tools
from flywheel.errors import SettingsError
from flywheel.models.load import load_tokenizer
from flywheel.models.reward import STEP_REWARD, RewardHead, last_token, load_reward, scores_at
from flywheel.records.message import Conversation, dump
from flywheel.rollout.llama import layers_of
from flywheel.rollout.policy import by_length
from flywheel.rollout.reading import states_at


@dataclass(frozen=True, slots=True)
class RewardModel:
    """Scores whole responses; demonstrations, or else preferred responses, average 0."""

    module: RewardHead
    tokenizer: Any
    stop_ids: list[int]
    shift: float
    scale: float = 1.0

    @classmethod
    def load(cls, folder: str) -> Self:
        """Read a published reward model."""
        module, facts = load_reward(folder)
        module = _placed(module)
        return cls(module, load_tokenizer(folder), facts.stop_ids, facts.shift, facts.scale)

    def score(
        self,
        prompts: Sequence[Conversation],
        responses: Sequence[Conversation],
        tools: Sequence[str | None] = (),
        *,
        max_tokens: int = 1024,
    ) -> list[float | None]:
        """One score per response, to prompts with or without `tools`; None where it is longer
        than `max_tokens`."""
        options: dict[str, Any] = {"max_tokens": max_tokens, "stop_ids": self.stop_ids}
        rows = render_with_tools(self.tokenizer, prompts, responses, tools, **options)
        return self.score_rendered(rows)

    def score_rendered(self, rows: Sequence[Rendered | None]) -> list[float | None]:
        """One score per row of token ids, read at its last token; gaps stay.

        A row that stands at several places (the same object) is read once.
        """
        places = {id(row): at for at, row in enumerate(rows)}
        once = [row if places[id(row)] == at else None for at, row in enumerate(rows)]
        read = _read(self.module, once, last_token)
        found = [read[places[id(row)]] for row in rows]
        return [None if one is None else (one[0] - self.shift) / self.scale for one in found]


@dataclass(frozen=True, slots=True)
class RememberingRewardModel(RewardModel):
    """One that remembers what it said of each text, for as long as an evaluation takes.

    Many parts of it ask about the same response, and a trained policy repeats itself.

    Attributes:
        said: Scores by hash of the text.
        before: As `said`, of what may still be asked again.
    """

    said: dict[str, float | None] = field(default_factory=dict, repr=False, compare=False)
    before: dict[str, float | None] = field(default_factory=dict, repr=False, compare=False)

    def score(
        self,
        prompts: Sequence[Conversation],
        responses: Sequence[Conversation],
        tools: Sequence[str | None] = (),
        *,
        max_tokens: int = 1024,
    ) -> list[float | None]:
        """As `RewardModel.score`."""
        asked = [*zip(prompts, responses, tools or [None] * len(prompts), strict=True)]
        texts = [
            f"{max_tokens}\n{dump(prompt)}\n{dump(response)}" + (f"\n{given}" if given else "")
            for prompt, response, given in asked
        ]
        keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        self.said.update((key, self.before[key]) for key in keys if key in self.before)
        new = {key: one for key, one in zip(keys, asked, strict=True) if key not in self.said}
        two = ([one[0] for one in new.values()], [one[1] for one in new.values()])
        given = [one[2] for one in new.values()]
        scores = RewardModel.score(self, *two, tools=given, max_tokens=max_tokens)
        self.said.update(zip(new, scores, strict=True))
        return [self.said[key] for key in keys]


@dataclass(frozen=True, slots=True)
class StepRewardModel:
    """Says of every turn of the assistant how likely it is a good step (arXiv:2305.20050)."""

    module: RewardHead
    tokenizer: Any
    stop_ids: list[int]

    @classmethod
    def load(cls, folder: str) -> Self:
        """Read a published process reward model."""
        module, facts = load_reward(folder, STEP_REWARD)
        return cls(_placed(module), load_tokenizer(folder), facts.stop_ids)

    def score_steps(
        self,
        prompts: Sequence[Conversation],
        trajectories: Sequence[Conversation],
        *,
        max_tokens: int = 1024,
    ) -> list[list[float] | None]:
        """Probabilities, one a turn of the assistant; None where the trajectory does not render.

        What a step is worth is read with all before it, and with nothing after it.
        """
        rows = render_all(
            self.tokenizer, prompts, trajectories, max_tokens=max_tokens, stop_ids=self.stop_ids
        )
        found = _read(self.module, rows, lambda row: row.ends)
        return [one and torch.tensor(one).sigmoid().tolist() for one in found]


def aggregate(steps: Sequence[float], how: str) -> float:
    """One number for a trajectory from the probabilities of its steps.

    Args:
        steps: At least one.
        how: `product`, that all are good, as arXiv:2305.20050 ranks solutions; `min`, that of the
            weakest, which does not fall with length; `last`, which has seen all the others.

    Raises:
        SettingsError: `how` is none of these.
    """
    if how == "product":
        return math.prod(steps)
    if how == "min":
        return min(steps)
    if how == "last":
        return steps[-1]
    raise SettingsError(f"steps are aggregated by product, min or last; got {how!r}")


def _placed(module: RewardHead) -> RewardHead:
    return module.to("cuda" if torch.cuda.is_available() else "cpu")


@torch.no_grad()
def _read(
    module: RewardHead,
    rows: Sequence[Rendered | None],
    places_of: Callable[[Rendered], Sequence[int]],
) -> list[list[float] | None]:
    """Raw scores of each row at its places, whatever rows stand beside it; gaps stay."""
    found: list[list[float] | None] = [None] * len(rows)
    kept = [at for at, row in enumerate(rows) if row]
    texts = [row.ids for row in rows if row]
    layers = layers_of(module.backbone, max(map(len, texts), default=0))
    if layers and texts:
        asked = [places_of(row) for row in rows if row]
        for order, states in states_at(module.backbone, layers, texts, asked):
            numbers = iter(module.head(states)[:, 0].tolist())
            for at in order:
                found[kept[at]] = [next(numbers) for _ in asked[at]]
        return found
    for batch in by_length(rows):
        some = [row for at in batch if (row := rows[at])]
        places = [places_of(row) for row in some]
        numbers = iter(scores_at(module, some, places, module.head.weight.device).tolist())
        for at, wanted in zip(batch, places, strict=True):
            found[at] = [next(numbers) for _ in wanted]
    return found
