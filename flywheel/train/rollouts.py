"""Rollouts: prompts asked of the policy in training, answered, judged, and measured token by token.

Each process samples and judges its share of the prompts, then all of them hold all rollouts.
What a prompt is answered depends on its own seed and the weights, not on the prompts beside it
or the number of processes. Token ids are kept as they were sampled: text that is tokenised again
need not give the same ones.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from flywheel.datasets.manifest import read_split
from flywheel.datasets.render import Rendered, render_prompt
from flywheel.errors import TrainingError
from flywheel.models.actor import Actor, Critic
from flywheel.models.load import load_causal, load_tokenizer, stop_ids_of
from flywheel.models.logps import check_head, pad
from flywheel.models.lora import with_lora, without_adapters
from flywheel.process.worker import rank, use_threads, world
from flywheel.records.message import Conversation, load
from flywheel.rollout import Policy, Response, sample_ids
from flywheel.rollout.sampler import AT_ONCE
from flywheel.train.batches import micro_batches
from flywheel.train.config_reinforce import RewardedSettings
from flywheel.train.data import limited
from flywheel.train.engine import Engine
from flywheel.train.engine_config import keeps_bf16
from flywheel.train.footprint import cache_bytes
from flywheel.train.ranks import from_each
from flywheel.train.rewards import Reward, Rewards

T = TypeVar("T")
Facts = tuple[Tensor, Tensor, Tensor]  # log-probabilities, entropies, values of a row's tokens


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt of the dataset, as it is asked, and the landed records that it stands in."""

    conversation: Conversation
    ids: list[int]
    record_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A response that the policy sampled; every tensor is (N,), one number for each of its tokens.

    Attributes:
        text: Prompt and response as the token ids that were read and sampled.
        group: What the responses to one asking of a prompt share.
        score: Its reward, before any cost of straying.
        sampled: Log-probabilities that the sampler reported.
        old: The same under the training engine, before the first step on it.
        reference: The same under the policy that training started from.
        values: What the value model expected; zeros without one.
        advantages: What is reinforced.
        returns: What the value model should have expected.
    """

    text: Rendered
    group: int
    score: float
    sampled: Tensor
    old: Tensor = field(default_factory=lambda: torch.empty(0))
    reference: Tensor = field(default_factory=lambda: torch.empty(0))
    values: Tensor = field(default_factory=lambda: torch.empty(0))
    advantages: Tensor = field(default_factory=lambda: torch.empty(0))
    returns: Tensor = field(default_factory=lambda: torch.empty(0))
    record_uids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Learner:
    """A policy in training, what it started as, and who judges what it says.

    Attributes:
        engine: Trains an `Actor`.
        policy: The same weights, as a sampler takes them.
        start: Frozen copy of the starting policy; None where switching adapters off gives it, and
            where nobody asks.
        rewards: Who judges.
        settings: Of the run.
    """

    engine: Engine
    policy: Policy
    start: Actor | None
    rewards: Rewards
    settings: RewardedSettings

    @classmethod
    def load(
        cls,
        settings: RewardedSettings,
        critic: Critic | None = None,
        *,
        needs_start: bool = True,
    ) -> Self:
        """Read the policy that `settings` names, and put it under an engine."""
        tokenizer, model = load_tokenizer(settings.model), load_causal(settings.model)
        use_threads(model.num_parameters(), settings.threads)
        check_head(model)
        frozen = None
        if needs_start and not settings.lora_rank:
            frozen = Actor(copy.deepcopy(model)).requires_grad_(False)
        model = with_lora(model, settings.lora_rank, settings.seed)
        policy = Policy(model, tokenizer, stop_ids_of(model, tokenizer))
        rewards = Rewards(settings, tokenizer)
        is_bf16 = keeps_bf16(settings)
        asked = getattr(settings, "prompts", AT_ONCE) * settings.samples
        beside = rewards.held_bytes + cache_bytes(
            model.config,
            rows=min(AT_ONCE, math.ceil(asked / world())),
            tokens=settings.max_tokens,
            is_bf16=is_bf16,
        )
        if frozen is not None:
            beside += sum(weight.numel() for weight in frozen.parameters()) * (2 if is_bf16 else 4)
        engine = Engine(Actor(model, critic), settings, beside)
        if frozen is not None:  # in the precision of the policy: unmoved weights have no divergence
            precision = next(engine.engine.module.parameters()).dtype
            frozen = frozen.to(device=engine.device, dtype=precision).eval()
        return cls(engine, policy, frozen, rewards, settings)

    def prompts(self, split: str, limit: int) -> list[Prompt]:
        """Distinct prompts of a split of the dataset, a seeded choice of at most `limit`.

        Raises:
            TrainingError: The training split has none that leaves room for a response.
        """
        room = self.settings.max_tokens - self.settings.max_new_tokens
        uids: dict[str, list[str]] = {}
        for row in read_split(self.settings.dataset, split).to_pylist():
            if row["weight"] is None or row["weight"] > 0:
                uids.setdefault(row["prompt"], []).extend(row["record_uids"])
        found = [
            Prompt(load(text), render_prompt(self.policy.tokenizer, load(text)), tuple(those))
            for text, those in uids.items()
        ]
        fitting = [prompt for prompt in found if len(prompt.ids) <= room]
        long = len(found) - len(fitting)
        print(f"{len(fitting)} {split} prompts, {long} over {room} tokens left out")
        if split == "train" and not fitting:
            raise TrainingError(
                f"{self.settings.dataset} has no prompt to ask ({long} over {room} tokens); land "
                f"more feedback, or raise max_tokens above max_new_tokens"
            )
        return list(limited(fitting, limit, self.settings.seed))

    def answers(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], samples: int
    ) -> list[list[tuple[Response, Reward]]]:
        """Sample and judge `samples` responses to each prompt, with a seed for each prompt."""
        mine = range(rank(), len(prompts), world())
        with self.engine.gathered():
            found = sample_ids(
                self.policy,
                [prompts[place].ids for place in mine],
                samples=samples,
                temperature=self.settings.temperature,
                max_new_tokens=self.settings.max_new_tokens,
                seed=[seeds[place] for place in mine],
            )
        asked = [prompts[place] for place in mine for _ in range(samples)]
        given = [one.conversation for one in asked], [one.ids for one in asked]
        rewards = iter(self.rewards(*given, [one for row in found for one in row]))
        judged = [[(response, next(rewards)) for response in row] for row in found]
        shared = gathered(list(zip(mine, judged, strict=True)))
        return [row for _, row in sorted(shared, key=lambda one: one[0])]

    def facts(self, texts: Sequence[Rendered]) -> list[Facts]:
        """What the policy, and its value model, make of each row's tokens."""
        return self._forward(texts, self.engine)

    def reference(self, texts: Sequence[Rendered]) -> list[Tensor]:
        """(N,) log-probabilities of each row's tokens under the starting policy."""
        if self.start is None:
            with without_adapters(self.policy.model):
                return [one[0] for one in self._forward(texts, self.engine)]
        on_cpu = self.engine.device.type == "cpu"
        with torch.autocast("cpu", torch.bfloat16, enabled=on_cpu and self.engine.autocasts):
            return [one[0] for one in self._forward(texts, self.start)]

    @torch.no_grad()
    def _forward(self, texts: Sequence[Rendered], module: Callable[..., Facts]) -> list[Facts]:
        """Rows through a module, cut into the micro-batches that a step on them is cut into.

        So that the policy's numbers are, to the bit, those that the first step will see. Every
        process runs the same number of passes, as sharded weights need.
        """
        places = range(len(texts))
        shares = [places[r :: world()] or places[:1] for r in range(world())]
        cut = [
            micro_batches(share, lambda p: (1, len(texts[p].ids)), self.settings.micro_tokens)
            for share in shares
        ]
        mine, most = cut[rank()], max(map(len, cut))
        found: list[tuple[int, Facts]] = []
        for number in range(most):
            batch = mine[number] if number < len(mine) else mine[0]
            rows = [texts[place] for place in batch]
            sides = by_row(module(*inputs(rows, self.engine, self.settings.temperature)), rows)
            if number < len(mine):
                found += zip(batch, sides, strict=True)
        return [facts for _, facts in sorted(dict(gathered(found)).items())]


def inputs(
    rows: Sequence[Rendered], engine: Engine, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What an `Actor` takes of rows that were sampled at one temperature."""
    ids, is_target = pad(rows, engine.device)
    return ids, is_target, torch.full((len(rows),), temperature, device=engine.device)


def by_row(facts: Facts, rows: Sequence[Rendered]) -> list[Facts]:
    """Cut (N,) tensors at the ends of their rows, on the host."""
    lengths = [row.response_tokens for row in rows]
    sides = [side.detach().cpu().split(lengths) for side in facts]
    return list(zip(*sides, strict=True))


def gathered(mine: list[T]) -> list[T]:
    """The lists of all processes, one after the other."""
    return [one for share in from_each(mine) for one in share]


def joined(rollouts: Sequence[Rollout], name: str, device: Any) -> Tensor:
    """(N,) one of the tensors of some rollouts, one after the other."""
    return torch.cat([getattr(one, name) for one in rollouts]).to(device)


def lengths_of(rollouts: Sequence[Rollout], device: Any) -> Tensor:
    """(B,) response tokens of each."""
    return torch.tensor([one.text.response_tokens for one in rollouts], device=device)
