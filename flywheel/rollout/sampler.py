"""Sampling in this process: a KV cache, rows of like length together, each stopped on its own.

Every (row, position) has a random number of its own, drawn from the seed before anything is
sampled, so that what a row answers does not depend on the rows beside it. There is no top-p and
no top-k: their log-probabilities would not be those of the policy.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flywheel.datasets.render import render_prompt
from flywheel.errors import SettingsError
from flywheel.records.message import Conversation
from flywheel.rollout.policy import Policy, Response


@torch.no_grad()
def sample(
    policy: Policy,
    prompts: Sequence[Conversation],
    *,
    samples: int = 1,
    temperature: float = 1.0,
    max_new_tokens: int = 256,
    seed: int = 0,
    batch: int = 256,
) -> list[list[Response]]:
    """Answer every prompt `samples` times.

    Args:
        policy: Who answers.
        prompts: Conversations that end in a user or tool turn.
        samples: Answers per prompt.
        temperature: 0 takes the likeliest token at every position.
        max_new_tokens: Longest answer; one cut off there has not `ended`.
        seed: Same seed, same answers.
        batch: Rows at once.

    Raises:
        SettingsError: A number is out of range.
    """
    rendered = [render_prompt(policy.tokenizer, prompt) for prompt in prompts]
    return sample_ids(
        policy,
        rendered,
        samples=samples,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        seed=seed,
        batch=batch,
    )


@torch.no_grad()
def sample_ids(
    policy: Policy,
    rendered: Sequence[list[int]],
    *,
    samples: int = 1,
    temperature: float = 1.0,
    max_new_tokens: int = 256,
    seed: int | Sequence[int] = 0,
    batch: int = 256,
) -> list[list[Response]]:
    """Answer every prompt `samples` times, as `sample`, given the prompts as token ids.

    Args:
        policy: Who answers.
        rendered: Token ids of each prompt.
        samples: Answers per prompt.
        temperature: 0 takes the likeliest token at every position.
        max_new_tokens: Longest answer.
        seed: Of all prompts, or one for each: then what a prompt is answered depends on no other.
        batch: Rows at once.

    Raises:
        SettingsError: A number is out of range.
    """
    if temperature < 0 or samples < 1 or max_new_tokens < 1:
        raise SettingsError(
            f"temperature must be at least 0, samples and max_new_tokens at least 1; got "
            f"{temperature}, {samples}, {max_new_tokens}"
        )
    rows = [ids for ids in rendered for _ in range(samples)]
    seeds = [seed] if isinstance(seed, int) else seed
    shape = (len(rows) // max(1, len(seeds)), max_new_tokens)
    noise = np.concatenate([np.random.default_rng(s).random(shape, np.float32) for s in seeds])
    answers: list[Response | None] = [None] * len(rows)
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        given = [rows[place] for place in places]
        numbers = torch.from_numpy(noise[places])
        found = _decode(policy, given, numbers, temperature, max_new_tokens)
        for place, answer in zip(places, found, strict=True):
            answers[place] = answer
    whole = [answer for answer in answers if answer is not None]
    return [whole[place : place + samples] for place in range(0, len(whole), samples)]


def _decode(
    policy: Policy,
    given: list[list[int]],
    noise: Tensor,
    temperature: float,
    max_new_tokens: int,
) -> list[Response]:
    """Continue rows padded on the left; rows that have ended leave the batch by halves."""
    from transformers import DynamicCache

    device = policy.device
    width = max(map(len, given))
    ids = torch.zeros(len(given), width, dtype=torch.long)
    mask = torch.zeros(len(given), width, dtype=torch.long)
    for place, row in enumerate(given):
        ids[place, width - len(row) :] = torch.tensor(row)
        mask[place, width - len(row) :] = 1
    ids, mask, noise = ids.to(device), mask.to(device), noise.to(device)
    padded = bool((mask == 0).any())
    stops = torch.tensor(policy.stop_ids, device=device)
    tokens: list[list[int]] = [[] for _ in given]
    logprob = [0.0] * len(given)
    logprobs: list[list[float]] = [[] for _ in given]
    ended = [False] * len(given)
    alive = list(range(len(given)))
    position = (mask.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache(config=policy.model.config)
    step_ids, done = ids, torch.zeros(len(given), dtype=torch.bool, device=device)
    for step in range(max_new_tokens):
        options: dict[str, Any] = (
            {"attention_mask": mask, "position_ids": position} if padded else {}
        )
        output = policy.model(
            input_ids=step_ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **options
        )
        logits = output.logits[:, -1].float()
        chosen = _choose(logits, temperature, noise[:, step])
        logps = torch.log_softmax(logits, -1).gather(-1, chosen[:, None])[:, 0]
        scaled = torch.log_softmax(logits / (temperature or 1.0), -1)
        told = scaled.gather(-1, chosen[:, None])[:, 0].tolist()
        stopped = torch.isin(chosen, stops)
        for place, token, lp, said, stop, was_done in zip(
            alive,
            chosen.tolist(),
            logps.tolist(),
            told,
            stopped.tolist(),
            done.tolist(),
            strict=True,
        ):
            if not was_done:
                tokens[place].append(token)
                logprob[place] += lp
                logprobs[place].append(said)
                ended[place] = stop
        done |= stopped
        if bool(done.all()):
            break
        keep = (~done).nonzero()[:, 0]
        if len(keep) <= len(done) // 2:  # half have ended: go on with the others
            cache.batch_select_indices(keep)
            alive = [alive[kept] for kept in keep.tolist()]
            chosen, mask, position, noise = chosen[keep], mask[keep], position[keep], noise[keep]
            done = done[keep]
        step_ids, position = chosen[:, None], position[:, -1:] + 1
        if padded:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    return [
        Response(_text(policy, row), len(row), stop, lp, tuple(row), tuple(each))
        for row, stop, lp, each in zip(tokens, ended, logprob, logprobs, strict=True)
    ]


def _choose(logits: Tensor, temperature: float, numbers: Tensor) -> Tensor:
    """The likeliest token, or the one whose share of the distribution holds the number."""
    if temperature == 0:
        return logits.argmax(-1)
    shares = torch.softmax(logits / temperature, -1).cumsum(-1)
    place = torch.searchsorted(shares, numbers[:, None] * shares[:, -1:], right=True)[:, 0]
    return place.clamp(max=logits.shape[-1] - 1)


def _text(policy: Policy, tokens: list[int]) -> str:
    kept = tokens[:-1] if tokens and tokens[-1] in policy.stop_ids else tokens
    return str(policy.tokenizer.decode(kept, skip_special_tokens=True)).strip()
