"""A policy ready to answer: weights, tokenizer, and where its turns end."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch

from flywheel.datasets.render import Rendered, render
from flywheel.models.load import load_causal, load_tokenizer, stop_ids_of
from flywheel.models.logps import ResponseLogps, check_head, pad, row_sums
from flywheel.records.message import Conversation, Message


@dataclass(frozen=True, slots=True)
class Response:
    """What a policy answered.

    Attributes:
        text: The reply, without its end-of-turn token.
        token_count: Tokens sampled, the end of turn included.
        ended: Whether it ended by itself, and not at the limit.
        logprob: Log-probability of the sampled tokens at temperature 1, in nats.
        token_ids: The tokens sampled, the end of turn included.
        logprobs: Log-probability of each at the temperature of sampling, in nats.
    """

    text: str
    token_count: int
    ended: bool
    logprob: float
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()

    @property
    def conversation(self) -> Conversation:
        """The reply as one assistant turn."""
        return (Message(role="assistant", content=self.text),)


@dataclass(frozen=True, slots=True)
class Policy:
    """A causal language model that answers."""

    model: Any
    tokenizer: Any
    stop_ids: list[int]

    @classmethod
    def load(cls, name: str) -> Self:
        """Read a Hugging Face folder or hub name; on a GPU in bf16 where there is one."""
        tokenizer = load_tokenizer(name)
        on_gpu = torch.cuda.is_available()
        model = load_causal(name, dtype=torch.bfloat16 if on_gpu else torch.float32).eval()
        return cls(model.to("cuda" if on_gpu else "cpu"), tokenizer, stop_ids_of(model, tokenizer))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device


@torch.no_grad()
def response_nll(
    policy: Policy,
    prompts: Sequence[Conversation],
    responses: Sequence[Conversation],
    *,
    max_tokens: int = 1024,
    micro_tokens: int = 16384,
) -> list[tuple[float, int] | None]:
    """Negative log-probability of given responses.

    Returns:
        For each, (nats, tokens); None where the response is longer than `max_tokens`.
    """
    check_head(policy.model)
    rows = [
        render(policy.tokenizer, p, r, max_tokens=max_tokens, stop_ids=policy.stop_ids)
        for p, r in zip(prompts, responses, strict=True)
    ]
    found: list[tuple[float, int] | None] = [None] * len(rows)
    module = ResponseLogps(policy.model)
    for places in by_length(rows, micro_tokens):
        batch = [row for place in places if (row := rows[place])]
        sums = row_sums(module(*pad(batch, policy.device)), batch)
        for place, row, total in zip(places, batch, sums.tolist(), strict=True):
            found[place] = (-total, row.response_tokens)
    return found


def by_length(rows: Sequence[Rendered | None], micro_tokens: int) -> list[list[int]]:
    """Places of rows, longest first, cut at `micro_tokens` padded tokens; gaps are left out."""
    order = sorted(
        (place for place, row in enumerate(rows) if row),
        key=lambda p: -len(rows[p].ids),  # type: ignore[union-attr]
    )
    batches: list[list[int]] = []
    for place in order:
        width = len(rows[batches[-1][0]].ids) if batches else 0  # type: ignore[union-attr]
        if not batches or (len(batches[-1]) + 1) * width > micro_tokens:
            batches.append([])
        batches[-1].append(place)
    return batches
