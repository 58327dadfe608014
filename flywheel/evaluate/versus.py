"""One policy against another on the same prompts: how often it is preferred, and where it is not.

What is told of each pair is a win rate with its interval, the same at equal length, and, for who
decides, the outcomes themselves: one a cluster of prompts that nearly repeat each other. Slices cut
the prompts along several axes; each is told with its outcomes too, so that who looks at all of them
can take into account that there are many.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flywheel.evaluate.graders.graders import BY_JUDGE, BY_REWARD, PAIRWISE, Asked
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.evaluate.statistics.length import SCALE, controlled
from flywheel.evaluate.statistics.stats import Rate, by_cluster, outcomes, rate, rates, ratios
from flywheel.records.message import text_of
from flywheel.rollout import Response

BY_MODEL = (BY_REWARD, BY_JUDGE)
LEAST_SLICE = 30  # groups of prompts; smaller slices are told together
PARTS = 3  # of prompts by length and by difficulty


@dataclass(frozen=True, slots=True)
class Answers:
    """What one policy answered at one temperature, and what it is worth.

    Attributes:
        lost: How far the challenger's answer is preferred over each, 1 wholly, by who compares two
            answers; None where nobody has. Empty where nobody compares.
    """

    responses: list[Response]
    scores: list[float]  # NaN where who grades says only which of two is better
    lost: list[float | None] = field(default_factory=list)

    @property
    def mean_score(self) -> float:
        """Mean over the prompts that are scored; NaN where none is."""
        scored = [one for one in self.scores if not math.isnan(one)]
        return sum(scored) / len(scored) if scored else math.nan

    @property
    def lengths(self) -> list[int]:
        """Sampled tokens of each answer."""
        return [one.token_count for one in self.responses]

    @property
    def mean_tokens(self) -> float:
        """Mean length, in sampled tokens."""
        return sum(self.lengths) / len(self.responses)

    @property
    def ended_frac(self) -> float:
        """Share of answers that end by themselves."""
        return sum(one.ended for one in self.responses) / len(self.responses)

    @property
    def distinct_frac(self) -> float:
        """Different answers, of all: near 0 where one answer is given to everything."""
        return len({one.text for one in self.responses}) / len(self.responses)


def compare(
    answers: dict[str, Answers], asked: list[Asked], settings: EvaluateSettings
) -> dict[str, Any]:
    """The challenger ("policy") against each of the others."""
    opponent = "champion" if "champion" in answers else "base"
    mine, other = answers["policy"], answers[opponent]
    versus = {
        name: against(mine, one, asked, settings)
        for name, one in answers.items()
        if name != "policy"
    }
    return {
        "opponent": opponent,
        **versus[opponent],
        "groups": len(versus[opponent]["outcomes"]),
        "mean_response_tokens": mine.mean_tokens,
        "opponent_response_tokens": other.mean_tokens,
        "judged_by_model": any(one.grader in BY_MODEL for one in asked),
        "ended_frac": mine.ended_frac,
        "distinct_frac": {name: one.distinct_frac for name, one in answers.items()},
        "versus": versus,
        **mean_scores(answers, asked, settings),
        "mean_tokens": {name: one.mean_tokens for name, one in answers.items()},
        "slices": slices(answers, asked, settings),
    }


def against(
    mine: Answers, other: Answers, asked: Sequence[Asked], settings: EvaluateSettings
) -> dict[str, Any]:
    """How often one is preferred over another.

    Returns:
        win_rate with its ci and its standard error se; outcomes, one a cluster; prompts with an
        outcome; length_controlled, the same at equal length, whose coefficients are fitted to
        these very outcomes: an estimate, and no evidence at a level; unread, as `_unread`. Where no
        prompt has an outcome nothing is known, and the interval is the whole scale.
    """
    places, won = outcomes_of(mine, other, asked)
    if not won:
        nothing = {"win_rate": 0.5, "ci": [0.0, 1.0], "se": None}
        return nothing | {
            "outcomes": [],
            "prompts": 0,
            "length_controlled": nothing,
            "unread": None,
        }
    groups = [asked[place].group for place in places]
    lengths, others = ([one.responses[at].token_count for at in places] for one in (mine, other))
    even = controlled(won, lengths, others, groups).tolist()
    options: dict[str, Any] = {"resamples": settings.resamples, "seed": settings.seed}
    plain, fair = rates([(won, (0.0, 1.0)), (even, SCALE)], groups, **options)
    return _told(plain, won, groups) | {
        "prompts": len(won),
        "length_controlled": {"win_rate": fair.value, "ci": fair.ci, "se": fair.standard_error},
        "unread": _unread(places, won, asked) if other.lost else None,
    }


def _unread(
    places: Sequence[int], won: Sequence[float], asked: Sequence[Asked]
) -> dict[str, Any] | None:
    """Prompts on which a judge came to no verdict, and the outcomes were they all lost.

    An answer that keeps a judge from a verdict must not be better than one that loses. None where
    all are read.
    """
    lost = [at for at, one in enumerate(asked) if one.grader == BY_JUDGE]
    lost = sorted(set(lost) - set(places))
    if not lost:
        return None
    groups = [asked[place].group for place in (*places, *lost)]
    return {"prompts": len(lost), "outcomes": _means([*won, *[0.0] * len(lost)], groups)}


def outcomes_of(
    mine: Answers, other: Answers, asked: Sequence[Asked]
) -> tuple[list[int], list[float]]:
    """Places of the prompts that have an outcome, and the outcomes: by scores, or by who compares.

    There is none where who grades has no say.

    Raises:
        EvaluationError: A score is not finite, of a prompt whose grader scores.
    """
    scored = [
        place for place, one in enumerate(asked) if one.grader not in PAIRWISE and one.has_say
    ]
    won = outcomes(*([one.scores[place] for place in scored] for one in (mine, other)))
    found = dict(zip(scored, won, strict=True))
    for place, one in enumerate(other.lost):
        if asked[place].grader in PAIRWISE and one is not None:
            found[place] = one
    places = sorted(found)
    return places, [found[place] for place in places]


def plainly(
    won: Sequence[float], groups: Sequence[str], settings: EvaluateSettings
) -> dict[str, Any]:
    """win_rate, ci, se and outcomes, whatever the lengths."""
    found = rate(won, groups, resamples=settings.resamples, seed=settings.seed)
    return _told(found, won, groups)


def _told(found: Rate, won: Sequence[float], groups: Sequence[str]) -> dict[str, Any]:
    told = {"win_rate": found.value, "ci": found.ci, "se": found.standard_error}
    return told | {"outcomes": _means(won, groups)}


def mean_scores(
    answers: dict[str, Answers], asked: Sequence[Asked], settings: EvaluateSettings
) -> dict[str, Any]:
    """mean_score of each, with `_ci` and `_se`; a score may have no ends, so that neither has."""
    options: dict[str, Any] = {"resamples": settings.resamples, "seed": settings.seed}
    groups = [one.group for one in asked]
    scores = {
        name: one.scores for name, one in answers.items() if not any(map(math.isnan, one.scores))
    }
    ones = [1.0] * len(groups)
    many = ratios([(one, ones) for one in scores.values()], groups, **options)
    found = dict(zip(scores, many, strict=True))
    return {
        "mean_score": {name: one.value for name, one in found.items()},
        "mean_score_ci": {name: one.ci for name, one in found.items()},
        "mean_score_se": {name: one.standard_error for name, one in found.items()},
    }


def slices(
    answers: dict[str, Answers], asked: Sequence[Asked], settings: EvaluateSettings
) -> list[dict[str, Any]]:
    """The challenger against its opponent, on parts of the prompts."""
    opponent = "champion" if "champion" in answers else "base"
    found = []
    for axis, name, places in cut(answers, asked):
        part = [asked[place] for place in places]
        mine, other = (taken(answers[who], places) for who in ("policy", opponent))
        told = against(mine, other, part, settings)
        found.append({"axis": axis, "name": name, "groups": len(told["outcomes"]), **told})
    return found


def cut(
    answers: dict[str, Answers], asked: Sequence[Asked]
) -> Iterator[tuple[str, str, list[int]]]:
    """Axis, name and places of every part of the prompts.

    Difficulty is what the base's own score on a prompt says: the base takes no part in a contest
    with a champion, and a prompt is not hard because the challenger fails on it.
    """
    axes: dict[str, Callable[[int], str]] = {
        "domain": lambda place: asked[place].domain or "no domain",
        "source": lambda place: asked[place].source or "no source",
        "set": lambda place: asked[place].evaluation_set or "no set",
        "prompt length": _parts(
            [len(text_of(one.prompt).split()) for one in asked], ("short", "middling", "long")
        ),
        "difficulty": _parts(
            [-one for one in answers["base"].scores], ("easy", "middling", "hard")
        ),
    }
    scored = not any(map(math.isnan, answers["base"].scores))
    if "champion" not in answers or not scored:
        del axes["difficulty"]  # who is easy to beat where it is weak says nothing of the other
    for axis, name_of in axes.items():
        parts: dict[str, list[int]] = defaultdict(list)
        for place in range(len(asked)):
            parts[name_of(place)].append(place)
        if len(parts) < 2:
            continue  # all prompts: no slice
        for name, places in sorted(_pooled(parts, asked).items()):
            yield axis, name, places


def _pooled(parts: dict[str, list[int]], asked: Sequence[Asked]) -> dict[str, list[int]]:
    """Parts, the small ones together: many small slices must not hide one that all of them make."""
    found: dict[str, list[int]] = defaultdict(list)
    for name, places in parts.items():
        is_small = len({asked[place].group for place in places}) < LEAST_SLICE
        found["small ones together" if is_small else name] += places
    return found


def _parts(values: Sequence[float], names: Sequence[str]) -> Callable[[int], str]:
    """Name of the third of `values` that each place lies in; equal values lie in one."""
    ends = np.quantile(values, [part / PARTS for part in range(1, PARTS)])
    return lambda place: names[int(np.searchsorted(ends, values[place], side="left"))]


def taken(answers: Answers, places: Sequence[int]) -> Answers:
    """What was answered at some places."""
    return Answers(
        [answers.responses[place] for place in places],
        [answers.scores[place] for place in places],
        [answers.lost[place] for place in places] if answers.lost else [],
    )


def _means(values: Sequence[float], clusters: Sequence[str]) -> list[float]:
    sums, sizes = by_cluster(clusters, values, np.ones(len(values)))
    return [round(float(one), 6) for one in sums / sizes]
