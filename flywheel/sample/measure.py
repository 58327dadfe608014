"""Gold of what a checkpoint answers, and intervals over prompts and over seeds.

For the reports of the sample world (`seeds`, `headline`); the wheel itself judges in
`flywheel.evaluate`. Prompts are the delivery's own evaluation prompts, which nobody trains on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import mean, stdev

from flywheel.evaluate.statistics.stats import outcomes, rate
from flywheel.records.message import prompt_of
from flywheel.sample.deliver import KINDS
from flywheel.sample.gold import grade
from flywheel.sample.world import Request, read_request

MAX_REPLY_TOKENS = 40  # a correct reply has at most 18 words, a padded one 30
T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # .975, df 1..9
NORMAL_QUANTILE = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def evaluation_requests(seed: int) -> list[Request]:
    """The evaluation prompts of one seed's delivery."""
    count, make = KINDS["evaluation_prompts"]
    found = [
        read_request(str(one.prompt)) for one in make(Random(f"{seed}:evaluation_prompts"), count)
    ]
    return [one for one in found if one is not None]


def answer(
    checkpoint: Path, requests: Sequence[Request], *, temperature: float, seed: int
) -> list[float]:
    """Gold of one reply of this policy to each request."""
    from flywheel.rollout import Policy, sample  # brings torch, which the code location must not

    responses = sample(
        Policy.load(str(checkpoint)),
        [prompt_of(request.text) for request in requests],
        samples=1,
        temperature=temperature,
        max_new_tokens=MAX_REPLY_TOKENS,
        seed=seed,
    )
    return [
        grade(request, reply.text, ended=reply.ended).score
        for request, (reply,) in zip(requests, responses, strict=True)
    ]


def wins(golds: Sequence[float], others: Sequence[float]) -> Estimate:
    """Share of prompts on which the first reply has more gold, ties half."""
    found = rate(outcomes(golds, others), range(len(golds)))
    return Estimate(value=found.value, low=found.low, high=found.high)


def average(values: Sequence[float]) -> Estimate:
    """Mean over prompts; one prompt is one observation."""
    middle = mean(values)
    half = NORMAL_QUANTILE * stdev(values) / len(values) ** 0.5
    return Estimate(value=middle, low=middle - half, high=middle + half)


def pool(estimates: Sequence[Estimate]) -> Estimate:
    """Mean over seeds, with the wider of two intervals: over prompts, and over seeds (Student)."""
    count, middle = len(estimates), mean(one.value for one in estimates)
    half = sum(((one.high - one.low) / 2) ** 2 for one in estimates) ** 0.5 / count
    if count > 1:
        quantile = T_QUANTILES[min(count - 2, len(T_QUANTILES) - 1)]
        half = max(half, quantile * stdev(one.value for one in estimates) / count**0.5)
    return Estimate(value=middle, low=middle - half, high=middle + half)
