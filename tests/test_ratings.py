"""Ratings of checkpoints: by hand, recovered, over generations, and where nothing connects."""

import math
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.evaluate.statistics.ratings import POINTS, rate_checkpoints, rated
from flywheel.lake import EVALUATION, write_table
from flywheel.layout import Layout

Row = dict[str, Any]


def answered(prompt: str, model: str, content: str, score: float | None, **more: Any) -> Row:
    return {
        "evaluation_id": "e1",
        "generation": "g0001",
        "model": model,
        "content_hash": content,
        "evaluation_set": "desk",
        "prompt_key": prompt,
        "group_id": prompt,
        "grader": "exact",
        "temperature": 1.0,
        "score": score,
        "evaluated_at": datetime(2026, 1, 1),
        **more,
    }


def ratings(rows: list[Row], **options: Any) -> dict[str, Row]:
    return {row["content_hash"]: row for row in rated(rows, **options)}


def duel(wins: int, losses: int, ties: int = 0, **more: Any) -> list[Row]:
    """The base (b) against the policy (p), which wins so often."""
    scores = [(0.0, 1.0)] * wins + [(1.0, 0.0)] * losses + [(1.0, 1.0)] * ties
    return [
        row
        for number, (base, policy) in enumerate(scores)
        for row in (
            answered(f"q{number}", "base", "b", base, **more),
            answered(f"q{number}", "policy", "p", policy, **more),
        )
    ]


def test_two_checkpoints_are_apart_by_the_odds_of_their_wins() -> None:
    found = ratings(duel(wins=3000, losses=1000), resamples=20)
    assert (found["b"]["rating"], found["b"]["low"], found["b"]["high"]) == (1000, 1000, 1000)
    assert found["p"]["rating"] - 1000 == pytest.approx(400 * math.log10(3), abs=0.1)
    assert (found["p"]["comparison_count"], found["p"]["prompt_count"]) == (4000, 4000)
    with_ties = ratings(duel(wins=3000, losses=1000, ties=2000), resamples=20)
    assert with_ties["p"]["rating"] == pytest.approx(found["p"]["rating"], abs=1)


def test_ratings_that_are_known_are_found_within_their_intervals() -> None:
    rng = np.random.default_rng(3)
    true = {"b": 0.0, "s": 0.6, "p": 1.1, "c": 0.8, "d": -0.5}
    inside = 0
    for seed in range(8):
        rows = []
        for number in range(300):
            gumbel = {name: one + rng.gumbel() for name, one in true.items()}  # Luce's choice
            for model, name in zip(("base", "sft", "policy", "champion", "sft"), true, strict=True):
                rows.append(answered(f"q{number}", model, name, gumbel[name]))
        found = ratings(rows, resamples=100, seed=seed)
        for name in ("s", "p", "c", "d"):
            row = found[name]
            assert row["rating"] == pytest.approx(1000 + POINTS * true[name], abs=90)
            inside += row["low"] <= 1000 + POINTS * true[name] <= row["high"]
    assert inside >= 27, "of 32, of which .95 is 30"


def test_near_repeats_of_a_prompt_are_one_prompt_to_the_interval() -> None:
    once = duel(wins=60, losses=40)
    again = [row | {"prompt_key": f"{row['prompt_key']} {n}"} for row in once for n in range(9)]
    alone, together = (ratings(rows)["p"] for rows in (once, again))
    assert together["standard_error"] == pytest.approx(alone["standard_error"], rel=0.1)


def test_generations_are_tied_by_the_prompts_that_both_ask() -> None:
    """The second generation's policy never met the first's base; both met the prompts."""
    later = {"generation": "g0002", "evaluation_id": "e2", "evaluated_at": datetime(2026, 2, 1)}
    rows = duel(wins=60, losses=40)
    rows += [answered(f"q{n}", "champion", "p", float(n < 60), **later) for n in range(80)]
    rows += [answered(f"q{n}", "policy", "q", 2.0 if n % 4 else -1, **later) for n in range(80)]
    found = ratings(rows)
    assert found["q"]["name"] == "g0002 policy" and found["q"]["opponent_count"] == 2
    assert found["p"]["models"] == "g0001 policy, g0002 champion"
    assert found["p"]["comparison_count"] == 100 + 80, "two answers to a prompt weigh as one"
    assert found["q"]["rating"] > found["p"]["rating"] > found["b"]["rating"] == 1000


def test_what_nothing_connects_has_no_rating() -> None:
    other = {"generation": "g0002", "evaluation_id": "e2"}
    apart = [
        answered(f"z{number}", model, content, float(model == "policy"), **other)
        for number in range(20)
        for model, content in (("base", "b2"), ("policy", "p2"))
    ]
    found = ratings([*duel(wins=6, losses=4), *apart])
    assert found["p"]["is_connected"] and found["p"]["rating"]
    for name in ("b2", "p2"):
        assert not found[name]["is_connected"] and found[name]["rating"] is None
        assert found[name]["comparison_count"] == 20


@pytest.mark.parametrize(
    "change",
    [
        {"grader": "numeric_answer"},
        {"temperature": 0.5},
        {"score": None},
        {"grader": "reward_model", "grader_identity": "another"},
        {"grader": "my:passes", "grader_identity": "edited"},
        {"evaluation_set_hash": "v2"},
    ],
)
def test_only_answers_to_one_prompt_by_one_grader_alike_are_compared(change: Row) -> None:
    same = {"grader": change["grader"]} if "grader_identity" in change else {}
    rows = [
        answered(f"q{number}", model, content, **{"score": 1.0, **more})
        for number in range(9)
        for model, content, more in (("base", "b", same), ("policy", "p", change))
    ]
    assert not any(row["is_connected"] or row["comparison_count"] for row in rated(rows))


def compared(prompt: str, outcome: float, **more: Any) -> Row:
    """The policy (p) against the base (b), by who compares two answers."""
    told = {"grader": "judge", "grader_identity": "j", "against": "base"}
    told |= {"against_content_hash": "b", "outcome": outcome}
    return answered(prompt, "policy", "p", None, **told | more)


def test_what_a_judge_or_people_prefer_counts_as_wins() -> None:
    """Three of four, where people were torn on some: a share for either side."""
    said = [1.0] * 1400 + [0.0] * 400 + [0.8] * 200
    base = [answered("q0", "base", "b", None, grader="judge")]
    rows = base + [compared(f"q{number}", one) for number, one in enumerate(said)]
    found = ratings(rows, resamples=20)
    won = 1400 + 160
    expected = 1000 + 400 * math.log10(won / (2000 - won))
    assert found["p"]["rating"] == pytest.approx(expected, abs=0.2)
    assert (found["p"]["comparison_count"], found["b"]["prompt_count"]) == (2000, 2000)


def test_two_comparisons_of_one_prompt_share_its_weight_and_two_judges_have_one_each() -> None:
    base = [answered("q0", "base", "b", None, grader="judge")]
    once = base + [compared(f"q{number}", 1.0) for number in range(9)]
    again = once + [row | {"evaluation_id": "e2"} for row in once[1:]]
    other = once + [row | {"grader_identity": "k"} for row in once[1:]]
    counts = [ratings(rows, resamples=5)["p"]["comparison_count"] for rows in (once, again, other)]
    assert counts == [9, 9, 18]


def test_one_that_never_loses_has_a_finite_rating() -> None:
    assert 1000 < ratings(duel(wins=50, losses=0))["p"]["rating"] < 5000


def test_ratings_of_a_home_are_those_of_all_its_evaluations(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert rate_checkpoints(layout) == []
    rows = duel(wins=6, losses=4)
    for generation, content in (("g0001", "p"), ("g0002", "p2")):
        mine = [
            row
            | {"generation": generation, "content_hash": row["content_hash"].replace("p", content)}
            for row in rows
        ]
        path = layout.evaluation(generation) / "outcomes" / "e.parquet"
        write_table(pa.Table.from_pylist(mine, EVALUATION["outcomes"]), path)
    assert [row["name"] for row in rate_checkpoints(layout)][2:] == ["g0001 base"]
    written = pq.read_table(layout.derived("checkpoint_ratings"))
    assert written["content_hash"].to_pylist()[2:] == ["b"] and written.num_rows == 3


STRENGTHS = {"b": 0.0, "s": 0.5, "c": 0.9, "p": 1.2, "q": 1.6}  # in log-odds, the first base's 0
WHO = {"b": "base", "s": "sft", "c": "champion"}


def judged_duels(grader: str, seed: int, *, votes: int, prompts: int = 400) -> list[Row]:
    """Two generations whose challengers p and q are compared with others by judge or people.

    Of `votes` votes on a pair the share for the challenger is told; of a single one, a fifth are
    ties, as a judge's that contradicts itself in the other order.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for number, (mine, generation) in enumerate((("p", "g0001"), ("q", "g0002"))):
        others = ("b", "s", "c") if mine == "p" else ("b", "s", "p")
        for at in range(prompts):
            common = {"grader": grader, "grader_identity": grader, "generation": generation}
            common |= {"evaluation_id": f"e{number}", "evaluated_at": datetime(2026, 1, 1 + number)}
            for other in others:
                chance = 1 / (1 + math.exp(STRENGTHS[other] - STRENGTHS[mine]))
                won = rng.binomial(votes, chance) / votes
                if votes == 1 and rng.random() < 0.2:
                    won = 0.5
                role = WHO.get(other, "champion")
                rows.append(answered(f"q{at}", role, other, None, **common))
                rows.append(
                    answered(f"q{at}", "policy", mine, None, **common)
                    | {"against": role, "against_content_hash": other, "outcome": won}
                )
    return rows


@pytest.mark.parametrize(("grader", "votes"), [("judge", 1), ("people", 3)])
def test_strengths_that_judge_or_people_tell_of_are_found_over_generations(
    grader: str, votes: int
) -> None:
    inside = 0
    for seed in range(6):
        rows = judged_duels(grader, seed, votes=votes)
        found = ratings(rows, resamples=100, seed=seed)
        assert [row for row in found if found[row]["is_connected"]] == [*"qpcsb"]
        for name in "scpq":
            true = 1000 + POINTS * STRENGTHS[name]
            assert found[name]["rating"] == pytest.approx(true, abs=70)
            inside += found[name]["low"] <= true <= found[name]["high"]
        assert found["q"]["models"] == "g0002 policy" and found["q"]["opponent_count"] == 3
        assert found["p"]["models"] == "g0001 policy, g0002 champion"
        assert found["p"]["comparison_count"] == 4 * 400, "three of its own, one as champion"
    assert inside >= 20, "of 24, of which .95 is 23"


def test_more_votes_on_a_pair_make_narrower_intervals_and_no_more_comparisons() -> None:
    one, nine = (
        ratings(judged_duels("people", 3, votes=votes), resamples=100)["q"] for votes in (2, 18)
    )
    assert nine["standard_error"] < 0.7 * one["standard_error"]
    assert nine["comparison_count"] == one["comparison_count"]


def test_judge_and_people_who_differ_are_averaged_and_neither_is_a_score() -> None:
    for_p, for_b = 700, 300
    base = [answered("q0", "base", "b", None, grader=one) for one in ("judge", "people")]
    judge = [compared(f"q{at}", float(at < for_p)) for at in range(1000)]
    people = [
        compared(f"q{at}", float(at < for_b), grader="people", grader_identity=None)
        for at in range(1000)
    ]
    found = ratings([*base, *judge, *people], resamples=20)
    assert found["p"]["rating"] == pytest.approx(1000, abs=1) and found["p"]["prompt_count"] == 1000
    alone = ratings([*base, *judge], resamples=20)
    assert alone["p"]["rating"] - 1000 == pytest.approx(400 * math.log10(7 / 3), abs=0.5)
