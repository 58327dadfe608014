"""Policies on prompts that nothing was trained on: who is preferred, how often, over whom."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from flywheel.evaluate.graders import Asked, score_all
from flywheel.evaluate.settings import SAMPLING_FRAC, EvaluateSettings
from flywheel.evaluate.stats import outcomes, rate
from flywheel.process.clock import pieces
from flywheel.rollout import Policy, Response, RewardModel, sample

LEAST_SLICE = 20


@dataclass(frozen=True, slots=True)
class Answers:
    """What one policy answered at one temperature, and what it is worth."""

    responses: list[Response]
    scores: list[float]

    @property
    def mean_score(self) -> float:
        """Mean over prompts."""
        return sum(self.scores) / len(self.scores)

    @property
    def mean_tokens(self) -> float:
        """Mean length, in sampled tokens."""
        return sum(one.token_count for one in self.responses) / len(self.responses)

    @property
    def ended_frac(self) -> float:
        """Share of answers that end by themselves."""
        return sum(one.ended for one in self.responses) / len(self.responses)


def answer_all(
    names: dict[str, str],
    asked: list[Asked],
    reward: RewardModel,
    settings: EvaluateSettings,
    temperature: float,
) -> tuple[dict[str, Answers], list[Asked]]:
    """Let every policy answer the same prompts.

    Where the budget does not last, all of them are compared on the prompts that every one
    answered.
    """
    seconds = settings.seconds_of(SAMPLING_FRAC) / len(names)
    found: dict[str, list[Response]] = {}
    for place, (name, folder) in enumerate(names.items()):
        policy, answers = Policy.load(folder), list[Response]()
        for batch in pieces(asked, seconds):
            rows = sample(
                policy,
                [one.prompt for one in batch],
                temperature=temperature,
                max_new_tokens=settings.max_new_tokens,
                seed=settings.seed * 1009 + place * 101 + len(answers),
            )
            answers += [row[0] for row in rows]
        found[name] = answers
        print(f"{name}: {len(answers)} answers at temperature {temperature:g}", flush=True)
    common = min(map(len, found.values()))
    asked = asked[:common]
    limit = settings.max_tokens
    return {
        name: Answers(
            answers[:common], score_all(asked, answers[:common], reward, max_tokens=limit)
        )
        for name, answers in found.items()
    }, asked


def compare(
    answers: dict[str, Answers], asked: list[Asked], settings: EvaluateSettings
) -> dict[str, Any]:
    """The challenger ("policy") against each of the others."""
    opponent = "champion" if "champion" in answers else "base"
    groups = [one.group for one in asked]
    mine = answers["policy"]
    versus = {}
    for name, other in answers.items():
        if name != "policy":
            won = rate(
                outcomes(mine.scores, other.scores),
                groups,
                resamples=settings.resamples,
                seed=settings.seed,
            )
            versus[name] = {"win_rate": won.value, "ci": won.ci}
    return {
        "opponent": opponent,
        **versus[opponent],
        "prompts": len(asked),
        "groups": len(set(groups)),
        "mean_response_tokens": mine.mean_tokens,
        "opponent_response_tokens": answers[opponent].mean_tokens,
        "ended_frac": mine.ended_frac,
        "versus": versus,
        "mean_score": {name: one.mean_score for name, one in answers.items()},
        "mean_tokens": {name: one.mean_tokens for name, one in answers.items()},
        "by_domain": _slices(mine, answers[opponent], asked),
    }


def _slices(mine: Answers, other: Answers, asked: list[Asked]) -> dict[str, Any]:
    found = defaultdict(list)
    for one, won in zip(asked, outcomes(mine.scores, other.scores), strict=True):
        found[one.domain or "no domain"].append(won)
    return {
        name: {"win_rate": sum(won) / len(won), "prompts": len(won)}
        for name, won in sorted(found.items())
        if len(won) >= LEAST_SLICE
    }
