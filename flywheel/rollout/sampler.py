"""Sampling from a policy, in this process or on a server, on token ids from end to end.

In this process every (row, position) has a random number of its own, drawn from the seed before
anything is sampled, so that what a row answers does not depend on the rows beside it. A prompt
that several rows continue is read once, and rows that have ended leave the batch.

Dimension key
    R   rows that are still being continued
    V   vocabulary
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flywheel.datasets.render import render_prompts
from flywheel.errors import SettingsError
from flywheel.records.message import Conversation
from flywheel.rollout.decoder import Decoder, going_on
from flywheel.rollout.lean import LeanDecoder
from flywheel.rollout.llama import layers_of
from flywheel.rollout.policy import Policy, Response, text_of
from flywheel.rollout.server import ServerPolicy

AT_ONCE = 256  # rows
LEAVE_FRAC = 1 / 8  # of the rows must have ended before the others go on without them


def sample(
    policy: Policy | ServerPolicy, prompts: Sequence[Conversation], **options: Any
) -> list[list[Response]]:
    """Answer conversations that end in a user or tool turn; the options are `sample_ids`'s."""
    return sample_ids(policy, render_prompts(policy.tokenizer, prompts), **options)


@torch.no_grad()
def sample_ids(
    policy: Policy | ServerPolicy,
    prompts: Sequence[Sequence[int]],
    *,
    samples: int = 1,
    temperature: float = 1.0,
    max_new_tokens: int = 256,
    seed: int | Sequence[int] = 0,
    batch: int = AT_ONCE,
    top_p: float = 1.0,
    top_k: int = 0,
) -> list[list[Response]]:
    """Continue every prompt `samples` times.

    Args:
        policy: Who answers; a model in training is put back into training mode afterwards.
        prompts: Token ids, as `render_prompts` gives them.
        samples: Answers per prompt.
        temperature: 0 takes the likeliest token at every position.
        max_new_tokens: Longest answer; one cut off there, or where the model's positions end,
            has not `ended`.
        seed: Same seed, same answers. Of all prompts, or one for each: then what a prompt is
            answered depends on no other.
        batch: Rows at once in this process; a server forms its own.
        top_p: Only 1; see Raises.
        top_k: Only 0; see Raises.

    Raises:
        SettingsError: A number is out of range; a prompt fills all positions that the model has;
            or the distribution is to be cut (top_p, top_k): the log-probabilities of what is
            left are not the policy's, and a ratio to them is off by the mass that was cut.
        RolloutError: A server refuses, does not answer, or answers what cannot be used.
    """
    if temperature < 0 or samples < 1 or max_new_tokens < 1:
        raise SettingsError(
            f"temperature must be at least 0, samples and max_new_tokens at least 1; got "
            f"{temperature}, {samples}, {max_new_tokens}"
        )
    if top_p != 1 or top_k != 0:
        raise SettingsError(
            f"top_p {top_p} and top_k {top_k} would cut the distribution, whose log-probabilities "
            f"are then not the policy's; use 1 and 0, and a lower temperature instead"
        )
    if isinstance(policy, ServerPolicy):
        return policy.complete(
            prompts,
            samples=samples,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            seed=seed,
        )
    if not prompts:
        return []
    rows = [list(ids) for ids in prompts for _ in range(samples)]
    seeds, shape = (
        ([seed], (len(rows), max_new_tokens))
        if isinstance(seed, int)
        else (seed, (samples, max_new_tokens))
    )
    noise = np.concatenate([np.random.default_rng(s).random(shape, np.float32) for s in seeds])
    noise *= 1 - 2**-22  # never so near to 1 that no token's share holds it
    room = _room(policy.model, rows, max_new_tokens)
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    answers: dict[int, Response] = {}
    was_training = policy.model.training
    policy.model.eval()  # no dropout, and a cache even where activations are recomputed
    try:
        for start in range(0, len(order), batch):
            places = order[start : start + batch]
            given, limits = [rows[place] for place in places], [room[place] for place in places]
            numbers = torch.from_numpy(noise[places])
            found = _continued(policy, given, numbers, temperature, limits)
            answers.update(zip(places, found, strict=True))
    finally:
        policy.model.train(was_training)
    flat = [answers[place] for place in range(len(rows))]
    return [flat[place : place + samples] for place in range(0, len(flat), samples)]


def _room(model: Any, rows: Sequence[Sequence[int]], max_new_tokens: int) -> list[int]:
    """Tokens that each row may still take: what is asked for, or what the positions allow."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if not limit:
        return [max_new_tokens] * len(rows)
    room = [min(max_new_tokens, limit - len(row)) for row in rows]
    if rows and min(room) < 1:
        raise SettingsError(
            f"a prompt of {max(map(len, rows))} tokens leaves no room for an answer: the model "
            f"has {limit} positions; shorten the prompt, or choose a model with more"
        )
    return room


def _continued(
    policy: Policy,
    given: Sequence[Sequence[int]],
    noise: Tensor,
    temperature: float,
    room: Sequence[int],
) -> list[Response]:
    """Continue rows until each has ended, or has taken the `room` that it has."""
    device = policy.device
    decoder = _decoder(policy.model, given, max(room))
    logits, noise = decoder.read(), noise.to(device)
    is_stop = torch.zeros(logits.shape[-1], dtype=torch.bool, device=device)
    is_stop[[stop for stop in policy.stop_ids if stop < len(is_stop)]] = True
    rows, limits = torch.arange(len(given), device=device), torch.tensor(room, device=device)
    done = torch.zeros(len(given), dtype=torch.bool, device=device)
    drawn: list[tuple[Tensor, ...]] = []
    for step in range(max(room)):
        tokens, *logps = _draw(logits, temperature, noise[rows, step])
        drawn.append((rows, tokens, *logps))
        done = done | is_stop[tokens]
        if step + 1 >= min(room):
            done |= limits[rows] <= step + 1
        left = len(done) - int(done.sum())
        if not left:
            break
        if left <= (1 - LEAVE_FRAC) * len(done):
            keep = going_on(done)
            decoder.keep(keep)
            rows, tokens, done = rows[keep], tokens[keep], done[keep]
        logits = decoder.step(tokens)
    return _responses(policy, drawn, is_stop, limits)


def _decoder(model: Any, given: Sequence[Sequence[int]], most_new: int) -> Decoder | LeanDecoder:
    """The lean one where the model allows it."""
    layers = layers_of(model, max(map(len, given)) + most_new)
    return (
        LeanDecoder(model, layers, given, most_new) if layers else Decoder(model, given, most_new)
    )


def _draw(logits: Tensor, temperature: float, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(R,) tokens, their log-probabilities where they were drawn from, and at temperature 1.

    A token is the likeliest at temperature 0, and else the one whose share of the distribution
    holds its number.
    """
    plain = torch.log_softmax(logits, -1)
    if temperature == 0:
        tokens = logits.argmax(-1)
        scaled = plain
    else:
        scaled = plain if temperature == 1 else torch.log_softmax(logits / temperature, -1)
        shares = scaled.exp().cumsum(-1)
        places = torch.searchsorted(shares, numbers[:, None] * shares[:, -1:], right=True)[:, 0]
        tokens = places.clamp(max=logits.shape[-1] - 1)
    at = tokens[:, None]
    return tokens, scaled.gather(-1, at)[:, 0], plain.gather(-1, at)[:, 0]


def _responses(
    policy: Policy, drawn: Sequence[tuple[Tensor, ...]], is_stop: Tensor, limits: Tensor
) -> list[Response]:
    """What every row said up to its first stop; what was drawn for it beyond that is dropped."""
    columns = [torch.cat(column) for column in zip(*drawn, strict=True)]
    counts = torch.tensor([len(rows) for rows, *_ in drawn], device=limits.device)
    steps = torch.arange(len(drawn), device=limits.device).repeat_interleave(counts)
    tokens, scaled, plain = (
        column.new_zeros(len(limits), len(drawn)).index_put((columns[0], steps), column)
        for column in columns[1:]
    )
    stops = is_stop[tokens]
    first = torch.where(stops.any(1), stops.int().argmax(1) + 1, limits + 1)
    return [
        Response(
            text=text_of(policy.tokenizer, policy.stop_ids, ids[:count]),
            token_count=count,
            ended=ended,
            logprob=sum(at_one[:count]),
            token_ids=tuple(ids[:count]),
            logprobs=tuple(logps[:count]),
        )
        for ids, logps, at_one, count, ended in zip(
            tokens.tolist(),
            scaled.tolist(),
            plain.tolist(),
            torch.minimum(first, limits).tolist(),
            (first <= limits).tolist(),
            strict=True,
        )
    ]
