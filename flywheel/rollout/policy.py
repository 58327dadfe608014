"""A policy ready to answer: weights, tokenizer, and where its turns end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor

from flywheel.datasets.render import Rendered
from flywheel.datasets.tools import render_with_tools
from flywheel.models.cuts import batch_tokens, cheapest_cuts, read_tokens
from flywheel.models.load import load_causal, load_tokenizer, stop_ids_of
from flywheel.models.logps import ResponseLogps, check_head, pad, row_sums, targets_of
from flywheel.records.message import Conversation, Message
from flywheel.rollout.llama import Layer, layers_of
from flywheel.rollout.reading import states_at

PIECE = 512  # states whose logits are held at once


@dataclass(frozen=True, slots=True)
class Response:
    """What a policy answered.

    Attributes:
        text: The reply, without its end-of-turn token.
        token_count: Tokens sampled, the end of turn included.
        ended: Whether it ended by itself, and not at the limit.
        logprob: Log-probability of the sampled tokens at temperature 1, in nats; NaN where a
            server does not tell it.
        token_ids: The tokens as sampled, the end of turn included.
        logprobs: Of each token where it was drawn from, in nats: at the temperature of the
            sampling, and at 1 where the likeliest was taken.
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


def text_of(tokenizer: Any, stop_ids: Sequence[int], tokens: Sequence[int]) -> str:
    """Sampled tokens as a reply, without its end of turn."""
    kept = tokens[:-1] if tokens and tokens[-1] in stop_ids else tokens
    return str(tokenizer.decode(kept, skip_special_tokens=True)).strip()


@torch.no_grad()
def response_nll(
    policy: Policy,
    prompts: Sequence[Conversation],
    responses: Sequence[Conversation],
    tools: Sequence[str | None] = (),
    *,
    max_tokens: int = 1024,
) -> list[tuple[float, int] | None]:
    """Negative log-probability of given responses, to prompts with or without `tools`.

    Returns:
        For each, (nats, tokens); None where the response is longer than `max_tokens`.
    """
    check_head(policy.model)
    options: dict[str, Any] = {"max_tokens": max_tokens, "stop_ids": policy.stop_ids}
    rows = render_with_tools(policy.tokenizer, prompts, responses, tools, **options)
    kept = [row for row in rows if row]
    sums = iter(rendered_logprobs(policy, kept))
    return [(-next(sums), row.response_tokens) if row else None for row in rows]


@torch.no_grad()
def rendered_logprobs(policy: Policy, rows: Sequence[Rendered]) -> list[float]:
    """Log-probability of the tokens that carry loss, in nats, of each row of token ids."""
    found = [0.0] * len(rows)
    layers = layers_of(policy.model, max((len(row.ids) for row in rows), default=0))
    for places, sums in _sums_read(policy, layers, rows) if layers else _sums(policy, rows):
        for place, total in zip(places, sums.tolist(), strict=True):
            found[place] = total
    return found


def _sums(policy: Policy, rows: Sequence[Rendered]) -> Iterator[tuple[list[int], Tensor]]:
    """Places of a batch of rows, and their log-probabilities, by the model itself."""
    module = ResponseLogps(policy.model)
    for places in by_length(rows):
        batch = [rows[place] for place in places]
        yield places, row_sums(module(*pad(batch, policy.device)), batch)


def _sums_read(
    policy: Policy, layers: Sequence[Layer], rows: Sequence[Rendered]
) -> Iterator[tuple[list[int], Tensor]]:
    """As `_sums`, where `layers_of` knows the model."""
    if not rows:
        return
    texts, targets = [row.ids for row in rows], [targets_of(row) for row in rows]
    before = [[at - 1 for at in mine] for mine in targets]
    for places, states in states_at(policy.model.model, layers, texts, before):
        said = [rows[place].ids[at] for place in places for at in targets[place]]
        tokens = torch.tensor(said, device=states.device)
        pieces = zip(states.split(PIECE), tokens.split(PIECE), strict=True)
        logps = [_told(policy.model.lm_head(some).float(), told) for some, told in pieces]
        yield places, row_sums(torch.cat(logps), [rows[place] for place in places])


def _told(logits: Tensor, tokens: Tensor) -> Tensor:
    """(N,) log-probabilities of tokens, of (N, V) logits."""
    return logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)


def by_length(rows: Sequence[Rendered | None]) -> list[list[int]]:
    """Places of rows, longest first, cut where reading them is cheapest; gaps are left out."""
    found = [(len(row.ids), place) for place, row in enumerate(rows) if row]
    found.sort(key=lambda one: -one[0])
    cuts = cheapest_cuts([(1, length) for length, _ in found], read_tokens(), batch_tokens())
    order = [place for _, place in found]
    return [order[first:end] for first, end in pairwise([0, *cuts])]
