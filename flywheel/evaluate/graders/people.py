"""What people said of two answers, matched to the very answers that an evaluation compares.

A judgement names its prompt and both responses in full, so that nothing is taken on trust about who
wrote which: it counts for the policy that said these words. Several on one pair are averaged; a tie
is a half, and so are two answers alike, about which nobody needs be asked. Judgements of evaluation
prompts train nothing: their prompt overlaps itself.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pyarrow.parquet as pq

from flywheel.evaluate.graders.graders import BY_PEOPLE, PAIRWISE, Asked
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.evaluate.statistics.stats import outcomes, rate
from flywheel.evaluate.versus import Answers, plainly
from flywheel.records.message import load, text_of

Votes = dict[tuple[str, str, str], list[tuple[float, dict[str, Any]]]]


def read_votes(settings: EvaluateSettings) -> Votes:
    """The votes that an evaluation is given; none where nobody was asked."""
    return votes_of(pq.read_table(settings.judgements).to_pylist() if settings.judgements else [])


def votes_of(rows: Sequence[dict[str, Any]]) -> Votes:
    """Votes for the first of two responses to a prompt, by its key and the words of both.

    Those of persons: what a program or nobody knows who said is not the word of people.
    """
    found: Votes = defaultdict(list)
    for row in rows:
        if row["annotator_kind"] != "person":
            continue
        a, b = (text_of(load(row[f"response_{side}"])) for side in "ab")
        found[row["prompt_key"], a, b].append((row["vote"], row))
        found[row["prompt_key"], b, a].append((1 - row["vote"], row))
    return found


def judged_by_people(
    votes: Votes, mine: Answers, other: Answers, asked: Sequence[Asked], settings: EvaluateSettings
) -> tuple[list[float | None], dict[str, Any] | None]:
    """How far people prefer the challenger's answer over the other's.

    Returns:
        An outcome per prompt, None where nobody was asked, but a half where both answers to a
        prompt left to people are alike; and, where somebody was asked, the win rate with ties and
        its interval over groups of prompts, how many judged who have a pseudonym, prompts that wait
        for people, and how often the grader's outcome is theirs where there is one.
    """
    said = [
        votes.get((one.key, mine.responses[at].text, other.responses[at].text), [])
        for at, one in enumerate(asked)
    ]
    alike = [one.text == two.text for one, two in zip(mine.responses, other.responses, strict=True)]
    found = [
        sum(vote for vote, _ in some) / len(some)
        if some
        else 0.5
        if alike[at] and asked[at].grader == BY_PEOPLE
        else None
        for at, some in enumerate(said)
    ]
    places = [place for place, one in enumerate(found) if one is not None]
    if not any(said):
        return found, None
    won = [one for one in found if one is not None]
    rows = {row["judgement_id"]: row for some in said for _, row in some}
    waiting = sum(
        one.grader == BY_PEOPLE and vote is None for one, vote in zip(asked, found, strict=True)
    )
    return found, {
        **plainly(won, [asked[place].group for place in places], settings),
        "prompts": len(places),
        "judgements": len(rows),
        "annotators": len({row["voter"] for row in rows.values()} - {None}),
        "cost_usd": round(sum(row["cost_usd"] or 0.0 for row in rows.values()), 2),
        "waiting": waiting,
        "grader_agrees": _beside_grader(places, won, mine, other, asked, settings),
    }


def _beside_grader(
    places: Sequence[int],
    won: Sequence[float],
    mine: Answers,
    other: Answers,
    asked: Sequence[Asked],
    settings: EvaluateSettings,
) -> dict[str, Any] | None:
    """How often the outcome by scores is that of people, where both prefer one of the two."""
    scored = [(at, one) for at, one in zip(places, won, strict=True) if one != 0.5]
    scored = [(at, one) for at, one in scored if asked[at].grader not in PAIRWISE]
    graded = outcomes(*([one.scores[at] for at, _ in scored] for one in (mine, other)))
    both = [
        (float((grade > 0.5) == (one > 0.5)), asked[at].group)
        for (at, one), grade in zip(scored, graded, strict=True)
        if grade != 0.5
    ]
    if not both:
        return None
    hits, groups = zip(*both, strict=True)
    found = rate(hits, groups, resamples=settings.resamples, seed=settings.seed)
    return {"agreement": found.value, "ci": found.ci, "prompts": len(both)}
