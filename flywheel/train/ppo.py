"""Proximal policy optimisation with a learnt value model, and InstructGPT's pull to demonstrations.

Policy and value model are one module under one engine, with backbones of their own: the value
model starts from the reward model, whose decoder already knows what is good, and its head from 0.

With `ptx_weight` g a step holds two kinds of elements, rollouts and demonstrations (or pages),
and its gradient is that of the PPO loss per rollout token plus g times that of -log pi per
demonstration token (arXiv:2203.02155 eq. 2, with the mean over tokens of the step, which the
paper does not tell). The loop divides by the rollout tokens R; a demonstration token is weighed
g R / D, with D demonstration tokens in the step, so that both denominators are whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from flywheel.datasets.render import Rendered, page_of
from flywheel.errors import SettingsError, TrainingError
from flywheel.models.actor import Critic
from flywheel.models.load import load_backbone, load_tokenizer
from flywheel.models.logps import pad
from flywheel.models.lora import with_lora
from flywheel.process.worker import start
from flywheel.train.advantages import gae, whiten
from flywheel.train.config_reinforce import PpoSettings
from flywheel.train.data import Reader, needed
from flywheel.train.engine import Engine
from flywheel.train.loop import Objective, Stats
from flywheel.train.on_policy import Credit, OnPolicy, reinforce
from flywheel.train.policy_losses import clipped_count, clipped_loss, value_loss
from flywheel.train.rollouts import Learner, Rollout, joined
from flywheel.train.source import Shuffled


@dataclass(frozen=True, slots=True)
class Pull:
    """A text to imitate beside the rollouts of a step, and the weight of each of its tokens."""

    text: Rendered
    weight: float
    record_uids: tuple[str, ...] = ()


def run(settings: PpoSettings, run_dir: Path) -> dict[str, Any]:
    """Train a policy on rewards of what it samples, and publish it."""
    learner = Learner.load(settings, critic_of(settings))
    source = OnPolicy(learner, settings, token_credit(settings))
    if not settings.ptx_weight:
        return reinforce(learner, source, proximal(settings), settings, run_dir)
    mixed = WithPulls(source, pulls(learner, settings), settings)
    return reinforce(learner, mixed, proximal(settings), settings, run_dir)


def critic_of(settings: PpoSettings) -> Critic:
    """A value model on the reward model's decoder, or on the policy's where there is none.

    Raises:
        SettingsError: The reward model reads other tokens than the policy.
    """
    origin = settings.reward_model or settings.model
    ours, theirs = (load_tokenizer(name).get_vocab() for name in (settings.model, origin))
    if ours != theirs:
        raise SettingsError(
            f"the value model starts from {origin}, whose tokens are not those of "
            f"{settings.model}; train the reward model from this policy, or use grpo or rloo"
        )
    return Critic(with_lora(load_backbone(origin), settings.lora_rank, settings.seed))


def token_credit(settings: PpoSettings) -> Credit:
    """Whitened generalised advantages, and returns before whitening."""

    def credit(rollouts: Sequence[Rollout], beta: float) -> list[tuple[Tensor, Tensor]]:
        rewards = [-beta * (one.old - one.reference) for one in rollouts]
        for own, one in zip(rewards, rollouts, strict=True):
            own[-1] += one.score
        lengths = [len(own) for own in rewards]
        is_action = pad_sequence([torch.ones(n, dtype=torch.bool) for n in lengths], True)
        advantages, returns = gae(
            pad_sequence(rewards, True),
            pad_sequence([one.values for one in rollouts], True),
            is_action,
            gamma=settings.gamma,
            lam=settings.lam,
        )
        flat = whiten(advantages[is_action]).split(lengths)
        return list(zip(flat, returns[is_action].split(lengths), strict=True))

    return credit


def proximal(settings: PpoSettings) -> Objective[Rollout | Pull]:
    """Policy and value loss per rollout token, with what pulls towards demonstrations."""
    clips = {"low": settings.clip_low, "high": settings.clip_high}

    def loss(engine: Engine, batch: Sequence[Rollout | Pull]) -> tuple[Tensor, Stats]:
        rolled = [one for one in batch if isinstance(one, Rollout)]
        pulled = [one for one in batch if isinstance(one, Pull)]
        texts = [*(one.text for one in rolled), *(one.text for one in pulled)]
        heat = [settings.temperature] * len(rolled) + [1.0] * len(pulled)
        ids, is_target = pad(texts, engine.device)
        found = engine(ids, is_target, torch.tensor(heat, device=engine.device))
        own = sum(one.text.response_tokens for one in rolled)
        logps, entropies, values = (side[:own] for side in found)
        total = 0.0 * found[2].sum()  # every weight is in every backward
        none = (0.0, 0.0)
        stats: Stats = dict.fromkeys(("clip_frac", "entropy", "value_loss", "ptx_nats"), none)
        if rolled:
            old, advantages, before, returns = (
                joined(rolled, name, engine.device)
                for name in ("old", "advantages", "values", "returns")
            )
            ratios, even = logps - old, torch.ones_like(logps)
            total = total + clipped_loss(ratios, advantages, even, dual=settings.dual_clip, **clips)
            missed = value_loss(values, before, returns, clip=settings.value_clip)
            total = total + settings.value_weight * missed
            clipped = clipped_count(ratios, advantages, **clips)
            stats |= {
                "clip_frac": (clipped, float(own)),
                "entropy": (float(entropies.sum()), float(own)),
                "value_loss": (float(missed.detach()), float(own)),
            }
        if pulled:
            weights = torch.tensor([one.weight for one in pulled], device=engine.device)
            lengths = torch.tensor(
                [one.text.response_tokens for one in pulled], device=engine.device
            )
            imitated = found[0][own:]
            total = total - (torch.repeat_interleave(weights, lengths) * imitated).sum()
            stats["ptx_nats"] = (float(-imitated.detach().sum()), float(len(imitated)))
        return total, stats

    return Objective(
        loss=loss,
        count=lambda one: float(one.text.response_tokens) if isinstance(one, Rollout) else 0.0,
        shape=lambda one: (1, len(one.text.ids)),
        tokens=lambda one: len(one.text.ids),
        record_uids=lambda one: one.record_uids,
    )


class WithPulls:
    """The rollouts of a step, and `ptx_batch` texts to be pulled towards, in seeded order."""

    def __init__(self, source: OnPolicy, texts: Sequence[Pull], settings: PpoSettings) -> None:
        self._source, self._weight, self.steps = source, settings.ptx_weight, source.steps
        epochs = source.steps * settings.ptx_batch / len(texts)
        self._pulls = texts
        self._texts = Shuffled(texts, replace(settings, batch=settings.ptx_batch, epochs=epochs))

    def draw(self, step: int) -> tuple[list[Rollout | Pull], dict[str, float]]:
        """Both kinds; none where the run should end."""
        rolled, facts = self._source.draw(step)
        if not rolled:
            return [], facts
        chosen = weighed(rolled, self._texts.draw(step)[0], self._weight)
        return [*rolled, *chosen], facts

    def state(self) -> dict[str, Any] | None:
        """That of the rollouts: the step says which texts come next."""
        return self._source.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self._source.restore(state)

    def report(self) -> dict[str, Any]:
        """That of the rollouts."""
        return self._source.report()

    def record_uids(self) -> set[str]:
        """Landed records whose prompts were asked, and those of every text to be pulled to."""
        pulled = {uid for one in self._pulls for uid in one.record_uids}
        return self._source.record_uids() | pulled


def weighed(rolled: Sequence[Rollout], chosen: Sequence[Pull], weight: float) -> list[Pull]:
    """Texts with the weight that makes a step's pull `weight` times their mean per token.

    The loop divides by the tokens of the rollouts, R; so a token weighs weight R / D, with D the
    weighted tokens of the texts.
    """
    rollout_tokens = sum(one.text.response_tokens for one in rolled)
    mass = sum(one.weight * one.text.response_tokens for one in chosen)
    scale = weight * rollout_tokens / mass
    return [replace(one, weight=one.weight * scale) for one in chosen]


def pulls(learner: Learner, settings: PpoSettings) -> list[Pull]:
    """Pages of the corpus where there is one, else the demonstrations; each weighed by itself.

    Raises:
        TrainingError: There are none that fit.
    """
    tokenizer = learner.policy.tokenizer
    if not settings.corpus:
        reader = Reader(
            settings.demonstrations, tokenizer, learner.policy.stop_ids, settings.max_tokens
        )
        rows = needed(reader.demonstrations("train"), reader, "demonstration")
        return [Pull(row.text, row.weight, row.record_uids) for row in rows]
    pages = pq.read_table(settings.corpus, columns=["text"])["text"].to_pylist()
    rows = [page_of(tokenizer, page, settings.max_tokens) for page in pages]
    fitting = [Pull(row, 1.0) for row in rows if row]
    if not fitting:
        raise TrainingError(
            f"{settings.corpus} has no page of at most {settings.max_tokens} tokens to pull "
            f"towards; cut its pages, or raise max_tokens"
        )
    return fitting


if __name__ == "__main__":
    start(run, PpoSettings)
