"""Which candidates to judge next: the least certain, and some at random.

The uncertainty of a prompt is how near its best two candidates are under the reward model: the
variance p(1 - p) of the comparison it would predict. The random arm is always on: what is
measured on it is unbiased, and its probability stands beside every line.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Choice:
    """A prompt to be judged.

    Attributes:
        place: Place of the prompt among those considered.
        reason: "uncertain" or "random".
        probability: Probability that the random arm alone would have chosen it.
        uncertainty: p(1 - p) of its closest comparison, at most 0.25.
    """

    place: int
    reason: str
    probability: float
    uncertainty: float


def uncertainty_of(scores: Sequence[float]) -> float:
    """p(1 - p) between the two best candidates, where p is a logistic of their gap."""
    first, second = sorted(scores, reverse=True)[:2]
    p = 1 / (1 + np.exp(-(first - second)))
    return float(p * (1 - p))


def choose(
    scores: Sequence[Sequence[float]], *, length: int, random_frac: float, seed: int
) -> list[Choice]:
    """Choose up to `length` prompts: the random arm first, then the least certain of the rest."""
    count = len(scores)
    length = min(length, count)
    blind = max(1, round(length * random_frac)) if length else 0
    drawn = np.random.default_rng(seed).permutation(count)[:blind].tolist()
    uncertain = [uncertainty_of(one) for one in scores]
    rest = sorted(set(range(count)) - set(drawn), key=lambda place: (-uncertain[place], place))
    chosen = [(place, "random") for place in drawn]
    chosen += [(place, "uncertain") for place in rest[: length - blind]]
    probability = blind / count if count else 0.0
    return [Choice(place, reason, probability, uncertain[place]) for place, reason in chosen]
