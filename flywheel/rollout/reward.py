"""A reward model ready to score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch

from flywheel.datasets.render import render
from flywheel.models.load import load_tokenizer
from flywheel.models.logps import pad
from flywheel.models.reward import RewardHead, load_reward
from flywheel.records.message import Conversation
from flywheel.rollout.policy import by_length


@dataclass(frozen=True, slots=True)
class RewardModel:
    """Scores whole responses; the responses annotators preferred average 0."""

    module: RewardHead
    tokenizer: Any
    stop_ids: list[int]
    shift: float

    @classmethod
    def load(cls, folder: str) -> Self:
        """Read a published reward model."""
        tokenizer = load_tokenizer(folder)
        module, shift, stop_ids = load_reward(folder)
        module = module.to("cuda" if torch.cuda.is_available() else "cpu")
        return cls(module, tokenizer, stop_ids, shift)

    @torch.no_grad()
    def score(
        self,
        prompts: Sequence[Conversation],
        responses: Sequence[Conversation],
        *,
        max_tokens: int = 1024,
        micro_tokens: int = 16384,
    ) -> list[float | None]:
        """One score per response; None where it is longer than `max_tokens`."""
        rows = [
            render(self.tokenizer, p, r, max_tokens=max_tokens, stop_ids=self.stop_ids)
            for p, r in zip(prompts, responses, strict=True)
        ]
        device = self.module.head.weight.device
        found: list[float | None] = [None] * len(rows)
        for places in by_length(rows, micro_tokens):
            batch = [row for place in places if (row := rows[place])]
            ids, _ = pad(batch, device)
            lengths = torch.tensor([len(row.ids) for row in batch], device=device)
            for place, score in zip(places, self.module(ids, lengths).tolist(), strict=True):
                found[place] = score - self.shift
        return found
