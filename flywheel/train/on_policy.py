"""A source that asks the policy in training: rollouts are sampled, judged, learnt from, forgotten.

A rollout batch is `prompts` prompts, each answered `samples` times. Scores become advantages over
whole groups, on every process alike; then the rollouts are handed out in `epochs_per_rollout`
seeded orders, `batch` a step. An interrupted run goes on between two rollout batches.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from flywheel.train.along import with_along
from flywheel.train.asking import ROUNDS, Asker, mean
from flywheel.train.config_reinforce import OnPolicySettings
from flywheel.train.finish import finish, policy_writer
from flywheel.train.held_out import HeldOut
from flywheel.train.kl import KlCoefficient, k3
from flywheel.train.loop import Objective, fit
from flywheel.train.rollouts import Learner, Rollout
from flywheel.train.source import Source

E = TypeVar("E")
E_co = TypeVar("E_co", covariant=True)

SAMPLER_GAP = 1.05  # mean exp|difference| of sampler and engine above which ratios mean little

# Rollouts of whole groups, and the cost of a nat, to (N,) advantages and (N,) returns of each.
Credit = Callable[[Sequence[Rollout], float], Sequence[tuple[Tensor, Tensor]]]


class OnPolicy:
    """Rollouts of the policy as it is.

    Args:
        learner: The policy, its start, and who judges.
        settings: Of the run.
        credit: What is reinforced, by how much.

    Attributes:
        steps: Optimizer steps planned.
        kl: The cost of a nat as it stands.
        asker: Where prompts and their answers come from.
        held_out: What was measured on held-out prompts.
        stopped: Why the run ended early; empty where it did not.
    """

    def __init__(self, learner: Learner, settings: OnPolicySettings, credit: Credit) -> None:
        self._learner, self._settings, self._credit = learner, settings, credit
        self.asker, self.held_out = Asker(learner, settings), HeldOut(learner, settings)
        self.kl = KlCoefficient(settings.kl_beta, settings.kl_target, settings.kl_horizon)
        self.stopped = ""
        self._minibatches = math.ceil(settings.prompts * settings.samples / settings.batch)
        self._steps_per_batch = self._minibatches * settings.epochs_per_rollout
        batches = math.ceil(len(self.asker.prompts) * settings.epochs / settings.prompts)
        self.steps = batches * self._steps_per_batch
        self._next = 0  # the step that comes next
        self._rollouts: list[Rollout] = []
        self._facts: dict[str, float] = {}  # of the rollout batch, told at each of its steps

    def draw(self, step: int) -> tuple[list[Rollout], dict[str, float]]:
        """The rollouts of a step; none where the run should end."""
        batch, turn = divmod(step, self._steps_per_batch)
        facts = dict(self._facts)
        if turn == 0:
            facts = {}
            if batch % self._settings.measure_every == 0:
                facts = self.held_out.measure(step)
                self.stopped = self.held_out.verdict()
            if not self.stopped:
                self._facts, seconds = self._roll(batch)
                facts |= self._facts | seconds
            if self.stopped:
                print(f"the run ends after step {step}: {self.stopped}", flush=True)
                return [], facts
        self._next = step + 1
        epoch, place = divmod(turn, self._minibatches)
        chosen = self._cut(batch, epoch, len(self._rollouts))[place]
        return [self._rollouts[one] for one in chosen], facts

    def state(self) -> dict[str, Any] | None:
        """Cost of a nat, stream of prompts, measurements; None amid a rollout batch."""
        if self._next % self._steps_per_batch:
            return None
        return {
            "next": self._next,
            "kl": self.kl.state(),
            "asker": self.asker.state(),
            "measured": self.held_out.measured,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self._next = state["next"]
        self.kl.restore(state["kl"])
        self.asker.restore(state["asker"])
        self.held_out.measured = list(state["measured"])

    def report(self) -> dict[str, Any]:
        """What a run's result says of its rollouts, after a last measurement."""
        counts = {f"{name}_count": count for name, count in self.asker.counts.items()}
        ended = {"stopped": self.stopped, "kl_beta": self.kl.beta}
        return ended | counts | self.held_out.report(self._next)

    def record_uids(self) -> set[str]:
        """Landed records whose prompts were asked."""
        return self.asker.record_uids()

    def _roll(self, batch: int) -> tuple[dict[str, float], dict[str, float]]:
        """Make a rollout batch, and tell how it came about and how long that took."""
        began = time.monotonic()
        known, facts = self.asker.batch()
        if not known:
            self.stopped = f"{ROUNDS} rounds of asking brought only groups of equal rewards"
            return facts, {}
        sampled_at = time.monotonic()
        for part in self._cut(batch, 0, len(known)):  # as the first steps are: ratios of exactly 1
            texts = [known[place].text for place in part]
            both = zip(self._learner.facts(texts), self._learner.reference(texts), strict=True)
            for place, ((logps, _, values), start) in zip(part, both, strict=True):
                known[place] = replace(known[place], old=logps, values=values, reference=start)
        credits = self._credit(known, self.kl.beta)
        self._rollouts = [
            replace(one, advantages=advantages, returns=returns)
            for one, (advantages, returns) in zip(known, credits, strict=True)
        ]
        facts |= _strays(self._rollouts) | {"kl_beta": self.kl.beta}
        seconds = {
            "sample_seconds": sampled_at - began,
            "logps_seconds": time.monotonic() - sampled_at,
        }
        if facts["sampler_gap"] > SAMPLER_GAP:
            print(f"sampler and engine differ: mean exp|gap| is {facts['sampler_gap']:.3f}")
        self.kl.update(facts["kl_k1_nats"], len(known))
        return facts, seconds

    def _cut(self, batch: int, epoch: int, count: int) -> list[list[int]]:
        """The places of each step of a pass over `count` rollouts, in an order of its own."""
        order = np.random.default_rng([self._settings.seed, batch, epoch]).permutation(count)
        parts = [one.tolist() for one in np.array_split(order, self._minibatches) if len(one)]
        return [parts[number % len(parts)] for number in range(self._minibatches)]


def _strays(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Divergences in nats a response, sampler against engine, and the spread of advantages."""
    gaps = torch.cat([one.old - one.sampled for one in rollouts])
    return {
        "kl_k1_nats": mean(float((one.old - one.reference).sum()) for one in rollouts),
        "kl_k3_nats": mean(float(k3(one.old - one.reference).sum()) for one in rollouts),
        "sampler_kl_nats": mean(float(k3(one.sampled - one.old).sum()) for one in rollouts),
        "sampler_gap": float(gaps.abs().exp().mean()),
        "advantage_std": float(torch.cat([one.advantages for one in rollouts]).std(correction=0)),
    }


class Rolling(Source[E_co], Protocol[E_co]):
    """A source that can say what it rolled out."""

    def report(self) -> dict[str, Any]:
        """What a run's result says of it."""

    def record_uids(self) -> set[str]:
        """Landed records behind it."""


def reinforce(
    learner: Learner,
    source: Rolling[E],
    objective: Objective[E],
    settings: OnPolicySettings,
    run_dir: Path,
) -> dict[str, Any]:
    """Train on what a source rolls out, and publish the policy."""
    policy, engine = learner.policy, learner.engine
    along = with_along(source, engine, policy.model, policy.tokenizer, settings, run_dir)
    result = fit(engine, along, objective, settings.for_steps(), run_dir)
    told = source.report() | {"along": along.kept()}
    return published(learner, result | told, source.record_uids())


def published(learner: Learner, result: dict[str, Any], record_uids: set[str]) -> dict[str, Any]:
    """Publish the policy alone: no reference, no value model, no adapter."""

    return finish(
        learner.settings,
        learner.engine,
        kind="policy",
        write=policy_writer(learner.policy.model, learner.policy.tokenizer),
        record_uids=record_uids,
        result=result,
    )
