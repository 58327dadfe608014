"""Which prompts are asked next, and which of the answers there is something to learn from.

Prompts come in an endless stream of seeded orders, and the noise that one is answered with
depends on its place there alone. A response without a reward leaves its group. A group whose
rewards are all equal says nothing about what was better: it is kept, with advantages of 0,
dropped, or replaced by further prompts (arXiv:2503.14476, 3.2).
"""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from flywheel.datasets.render import Rendered
from flywheel.errors import TrainingError
from flywheel.rollout import Response
from flywheel.train.advantages import Moments, equal_groups
from flywheel.train.config_reinforce import OnPolicySettings
from flywheel.train.rewards import Reward
from flywheel.train.rollouts import Learner, Prompt, Rollout
from flywheel.train.source import Shuffled

ROUNDS = 10  # of asking for a batch that teaches; after them nothing is left to learn
ENDLESS = 1e6  # orders of the prompts: dropped groups ask for more than `epochs` of them
TRAIN_NOISE, HELD_OUT_NOISE = 0, 1

Answer = tuple[Response, Reward]


class Asker:
    """Asks the policy, judges what it says, and keeps what teaches.

    Attributes:
        counts: Responses sampled and unscorable, groups and equal ones, of the whole run.
    """

    def __init__(self, learner: Learner, settings: OnPolicySettings) -> None:
        self._learner, self._settings = learner, settings
        self.prompts = learner.prompts("train", settings.limit)
        self._stream = Shuffled(self.prompts, replace(settings, batch=1, epochs=ENDLESS))
        self.counts: Counter[str] = Counter()
        self._moments = Moments()
        self._asked = 0

    def batch(self) -> tuple[list[Rollout], dict[str, float]]:
        """Scored rollouts of whole groups, and what was seen on the way; none where 10 rounds
        of asking brought only groups that are to be dropped.

        Raises:
            TrainingError: Not one response to as many prompts as a batch has could be scored.
        """
        kept: list[Rollout] = []
        scores: list[float] = []
        answers: list[Answer] = []
        equal = rounds = 0
        while rounds < ROUNDS and (not kept or self._settings.equal_groups == "resample"):
            need = self._settings.prompts - len({one.group for one in kept})
            if not need:
                break
            rounds += 1
            said, found = self._round(need)
            answers += said
            scores += [one.score for one in found]
            if not scores:  # of all the prompts of a batch: the first round asks as many
                raise unscorable(self._learner, len(answers))
            teaching, more = self._teaching(found)
            kept += teaching
            equal += more
        groups, lost = len(answers) // self._settings.samples, len(answers) - len(scores)
        self.counts.update(sampled=len(answers), unscorable=lost, groups=groups, equal_groups=equal)
        return kept, {
            "reward_mean": statistics.fmean(scores),
            "reward_std": statistics.pstdev(scores),
            "unscorable_frac": lost / len(answers),
            "equal_groups_frac": equal / groups,
            "rounds": float(rounds),
            **seen(answers),
        }

    def state(self) -> dict[str, Any]:
        """What `restore` needs to ask on alike."""
        return {
            "asked": self._asked,
            "moments": self._moments.state(),
            "counts": dict(self.counts),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self._asked, self._moments = state["asked"], Moments(**state["moments"])
        self.counts = Counter(state["counts"])

    def record_uids(self) -> set[str]:
        """Landed records whose prompts were asked."""
        places = range(min(self._asked, len(self.prompts)))  # the first order has each once
        asked = [self._stream.draw(place)[0][0] for place in places]
        return {uid for prompt in asked for uid in prompt.record_uids}

    def _round(self, need: int) -> tuple[list[Answer], list[Rollout]]:
        """Ask the next `need` prompts: every answer, and those that could be scored."""
        places = range(self._asked, self._asked + need)
        self._asked += need
        prompts = [self._stream.draw(place)[0][0] for place in places]
        seeds = [noise_of(self._settings.seed, TRAIN_NOISE, place) for place in places]
        rows = self._learner.answers(prompts, seeds, self._settings.samples)
        found = [
            rollout
            for place, prompt, row in zip(places, prompts, rows, strict=True)
            for answer in row
            if (rollout := rollout_of(place, prompt, answer))
        ]
        if self._settings.normalise_reward and found:
            self._moments = self._moments.merge(Moments.of([one.score for one in found]))
            found = [replace(one, score=one.score / self._moments.deviation) for one in found]
        return [answer for row in rows for answer in row], found

    def _teaching(self, found: list[Rollout]) -> tuple[list[Rollout], int]:
        """Those to learn from, and how many groups have rewards that are all equal."""
        if self._settings.samples == 1 or not found:
            return found, 0
        scores = torch.tensor([one.score for one in found], dtype=torch.float64)
        flat = equal_groups(scores, torch.tensor([one.group for one in found])).tolist()
        pairs = list(zip(found, flat, strict=True))
        equal = len({one.group for one, is_flat in pairs if is_flat})
        if self._settings.equal_groups == "keep":
            return found, equal
        return [one for one, is_flat in pairs if not is_flat], equal


def noise_of(*numbers: int) -> int:
    """A seed that is a function of some numbers, far from those of their neighbours."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def rollout_of(group: int, prompt: Prompt, answer: Answer) -> Rollout | None:
    """A scored answer as a rollout; None where it has no reward."""
    response, reward = answer
    if reward.total is None:
        return None
    return Rollout(
        text=Rendered(ids=[*prompt.ids, *response.token_ids], start=len(prompt.ids)),
        group=group,
        score=reward.total,
        sampled=torch.tensor(response.logprobs),
        record_uids=prompt.record_uids,
    )


def seen(answers: Sequence[Answer], prefix: str = "") -> dict[str, float]:
    """Mean length, share that ended, and of each part of the reward its mean and its share of all
    that parts came to, in absolute terms; a part that nobody weighs has no share."""
    parts: dict[str, list[float]] = {}
    weighed: dict[str, float] = {}
    for _, reward in answers:
        for name, part in reward.parts.items():
            if part is not None:
                parts.setdefault(name, []).append(part)
        for name, added in reward.shares.items():
            weighed[name] = weighed.get(name, 0.0) + abs(added)
    mass = math.fsum(weighed.values()) or 1.0
    return {
        f"{prefix}response_tokens": mean(response.token_count for response, _ in answers),
        f"{prefix}ended_frac": mean(response.ended for response, _ in answers),
        **{f"{prefix}{name}_mean": mean(values) for name, values in parts.items()},
        **{f"{prefix}{name}_share": added / mass for name, added in weighed.items()},
    }


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean as a float, of booleans too."""
    return statistics.fmean(float(one) for one in values)


def unscorable(learner: Learner, count: int) -> TrainingError:
    """The error where not one response of `count` has a reward."""
    fault = learner.rewards.last_fault or "a part was None or NaN"
    return TrainingError(
        f"none of {count} responses could be scored ({fault}), and no score is never taken for a "
        f"score of 0; mend the verifier or the reward model, or raise max_tokens"
    )
