"""Sampling in this process against `generate` of Hugging Face: same model, same prompts."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from flywheel.rollout import Policy, sample_ids
from tests.benchmarks.measurement import Measurement

ROWS = 32
NEW_TOKENS = 40
REPEATS = 9
WORDS = {"38K": 400, "3.0M": 2000}
SHAPES = {"38K": (32, 2, 2, 88), "3.0M": (192, 6, 6, 512)}  # hidden, layers, heads, feed-forward


def sampling_vs_hf() -> list[Measurement]:
    """Two sizes, on one thread: ragged ends, no ends, and eight answers to each prompt."""
    torch.set_num_threads(1)
    return [
        _measured(size, samples=samples, is_greedy=is_greedy, has_ends=has_ends)
        for size in SHAPES
        for samples, is_greedy, has_ends in (
            (1, False, True),
            (8, False, True),
            (1, True, True),
            (1, True, False),
        )
    ]


def _measured(size: str, *, samples: int, is_greedy: bool, has_ends: bool) -> Measurement:
    policy = _policy(size, has_ends=has_ends)
    rng = np.random.default_rng(0)
    lengths = np.linspace(10, 60, ROWS // samples).astype(int)
    prompts = [rng.integers(WORDS[size] // 20, WORDS[size], size=n).tolist() for n in lengths]
    temperature = 0.0 if is_greedy else 1.0

    def ours() -> int:
        found = sample_ids(
            policy, prompts, samples=samples, temperature=temperature, max_new_tokens=NEW_TOKENS
        )
        return sum(one.token_count for row in found for one in row)

    def theirs() -> int:
        return _generate(policy, prompts, samples, is_greedy)

    value, peer_value = _seconds_per_token(ours, theirs)
    drawn = "greedy" if is_greedy else "sampled"
    ends = "ragged ends" if has_ends else "no ends"
    return Measurement(
        name=f"sampling_vs_hf: {size} parameters, {drawn}, {ends}, {samples} per prompt",
        value=value * 1e6,
        unit="CPU us per token",
        peer="transformers generate",
        peer_value=peer_value * 1e6,
        ratio=peer_value / value,
        conditions=f"{ROWS} rows, prompts 10..60, {NEW_TOKENS} new tokens, 1 thread, higher wins",
    )


def _seconds_per_token(*works: Callable[[], int]) -> list[float]:
    """Median CPU seconds per token of each, taking turns so that a busy host disturbs both."""
    seconds: list[list[float]] = [[] for _ in works]
    for _ in range(REPEATS + 1):
        for work, found in zip(works, seconds, strict=True):
            began = time.process_time()
            tokens = work()
            found.append((time.process_time() - began) / tokens)
    return [statistics.median(found[1:]) for found in seconds]  # the first one warms up


def _generate(policy: Policy, prompts: list[list[int]], samples: int, is_greedy: bool) -> int:
    """Tokens that Hugging Face says, its padding after an end left out."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in prompts])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts])
    drawn = {} if is_greedy else {"top_k": 0, "top_p": 1.0, "temperature": 1.0}
    said = policy.model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=NEW_TOKENS,
        do_sample=not is_greedy,
        num_return_sequences=samples,
        eos_token_id=policy.stop_ids,
        **drawn,
    )[:, width:]
    stops = torch.isin(said, torch.tensor(policy.stop_ids))
    return int(((stops.cumsum(1) - stops.int()) == 0).sum())


def _policy(size: str, *, has_ends: bool) -> Policy:
    """A random model; one word in twenty ends a turn, or one that it never says."""
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, layers, heads, feed_forward = SHAPES[size]
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=WORDS[size],
            hidden_size=hidden,
            intermediate_size=feed_forward,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            pad_token_id=0,
        )
    ).eval()
    return Policy(model, _Words(), list(range(WORDS[size] // 20)) if has_ends else [0])


class _Words:
    """A tokenizer that costs nothing: both sides are timed on token ids."""

    def decode(self, ids: list[int], **_: object) -> str:
        return ""
