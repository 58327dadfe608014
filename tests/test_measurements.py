"""What an evaluation measured, as rows and on the page: counts of its own, nothing from nothing."""

import json
from math import nan
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flywheel.evaluate.graders.graders import Asked
from flywheel.evaluate.measured import of_contest
from flywheel.evaluate.measurements import write_measurements
from flywheel.evaluate.outside.results import Outside
from flywheel.evaluate.report.others import others_told
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.evaluate.statistics.ratings import rated
from flywheel.evaluate.versus import Answers, compare
from flywheel.lineage.card import metrics_of
from flywheel.records.message import prompt_of
from flywheel.rollout import Response

NAMES = ("generation", "base", "sft", "policy", "reward_model")
DATASETS = ("evaluation_dataset", "preference_dataset", "demonstration_dataset")

PARTS: dict[str, Any] = {"": 0.1, "_ci": [0.0, 0.2], "_se": 0.1}
RATE = {"accuracy": 0.5, "ci": [0.4, 0.6], "se": 0.1}
REWARD = RATE | {
    "pairs": 4,
    "groups": 4,
    "over_length": {"baseline": "longest_wins", "difference": 0.1, "ci": [0.0, 0.2], "se": 0.1},
    "by_domain": {},
    "calibration": {"pairs": 4, "groups": 4}
    | {f"{name}{part}": value for name in ("ece", "temperature") for part, value in PARTS.items()},
    "traps": {},
}
JUDGE: dict[str, Any] = {
    "judge": "big-judge",
    "content_hash": "j",
    "agreement": 0.75,
    "agreement_ci": [0.7, 0.8],
    "annotator_ceiling": 0.8,
    "annotator_ceiling_ci": [0.75, 0.85],
    "pairs": 100,
    "unread": 4,
    "orders_disagree": 7,
    "probed": 40,
    "fooled": 1,
}
WON = {"win_rate": 0.7, "ci": [0.6, 0.8], "se": 0.05}
PEOPLE: dict[str, Any] = WON | {
    "outcomes": [1.0, 0.4],
    "prompts": 3,
    "judgements": 5,
    "annotators": 2,
    "grader_agrees": {"agreement": 0.9, "ci": [0.8, 1.0], "prompts": 2},
}
SETS = [
    WON
    | {"name": name, "version": 2, "content_hash": f"hash of {name}", "opponent": "base"}
    | {"graders": ["exact"], "prompts": 9, "compared": count, "groups": count}
    for name, count in (("desk", 4), ("mail", 0))
]
OTHERS: dict[str, Any] = {
    "judge": JUDGE,
    "people": {"base": PEOPLE},
    "evaluation_sets": SETS,
    "no_say": [],
    "broken_invariants": {"rule no_links": "3 of 9 answers <break> it"},
}
EMPTY_HANDED: dict[str, Any] = {"judge": None, "people": {}, "evaluation_sets": []}


def settings_of(**changes: Any) -> EvaluateSettings:
    return EvaluateSettings(
        **dict.fromkeys(NAMES + DATASETS, "g0001") | {"resamples": 50} | changes
    )


def asked_of(count: int, grader: str, **more: Any) -> list[Asked]:
    return [
        Asked(f"k{at}", f"g{at // 2}", prompt_of("hi"), grader, None, "desk", **more)
        for at in range(count)
    ]


def answers_of(name: str, scores: list[float], lost: list[float | None] | None = None) -> Answers:
    responses = [Response(f"{name} {at}", 3, True, -1.0) for at in range(len(scores))]
    return Answers(responses, scores, lost or [])


def test_a_win_rate_counts_its_own_outcomes_and_none_is_no_row() -> None:
    unscored = [nan] * 10
    answers = {
        "base": answers_of("base", unscored, [1.0] * 4 + [None] * 6),
        "sft": answers_of("sft", unscored, [0.0] * 8 + [None] * 2),
        "champion": answers_of("champion", unscored, [None] * 10),
        "policy": answers_of("policy", unscored),
    }
    rows = list(of_contest(compare(answers, asked_of(10, "people"), settings_of())))
    told = {
        row["against"]: (row["value"], row["observation_count"], row["cluster_count"])
        for row in rows
        if row["metric"] == "win_rate"
    }
    assert told == {"base": (1.0, 4, 2), "sft": (0.0, 8, 4)}, "nobody judged the champion"


def test_a_card_counts_what_each_win_rate_rests_on_and_tells_none_of_nothing() -> None:
    unscored = [nan] * 10
    answers = {
        "base": answers_of("base", unscored, [1.0] * 4 + [None] * 6),
        "champion": answers_of("champion", unscored, [None] * 10),
        "policy": answers_of("policy", unscored),
    }
    policy = compare(answers, asked_of(10, "people"), settings_of()) | {"grader": "people"}
    card = metrics_of("policy", {"policy": policy, "reward_model": None}, {})
    assert "| preferred over base | 1.000" in card and "| 4 |" in card
    assert "over champion" not in card


def evaluate(
    folder: Path,
    answers: dict[str, Answers],
    asked: list[Asked],
    settings: EvaluateSettings,
    **told: Any,
) -> tuple[Path, Path]:
    """Write what an evaluation of these answers measured; the two files."""
    contest = compare(answers, asked, settings)
    greedy = contest | {"versus": {}, "slices": []}
    result = {
        "policy": contest | {"greedy": greedy, "proxy": None, "best_of_n": None, "strayed": None},
        "reward_model": REWARD,
        "demonstrations": None,
        "look": "seed 0",
        **{f"{name}_content_hash": name[0] for name in (*answers, "reward_model")},
        **EMPTY_HANDED,
    }
    measurements, outcomes = write_measurements(
        folder, result | told, settings, asked, {1.0: answers}
    )
    return measurements, outcomes


def written(folder: Path, won: float, **changes: Any) -> str:
    """Evaluate where the base scores a half; the id."""
    answers = {"base": answers_of("base", [0.5] * 4), "policy": answers_of("policy", [won] * 4)}
    return evaluate(folder, answers, asked_of(4, "exact"), settings_of(**changes))[0].stem


def test_found_alike_is_one_evaluation_of_a_generation_and_none_of_another(tmp_path: Path) -> None:
    one = written(tmp_path / "g0001", 1.0)
    assert written(tmp_path / "g0001", 1.0) == one
    assert len(list((tmp_path / "g0001" / "outcomes").iterdir())) == 1
    assert written(tmp_path / "g0002", 1.0, generation="g0002") != one


def test_what_is_found_again_after_something_else_is_the_newest(tmp_path: Path) -> None:
    ids = [written(tmp_path, won) for won in (1.0, 0.0, 1.0, 1.0)]
    assert len(set(ids)) == 3 and ids[2] == ids[3]
    times = {
        path.stem: pq.read_table(path)["evaluated_at"][0].as_py()
        for path in (tmp_path / "measurements").iterdir()
    }
    assert max(times, key=lambda name: times[name]) == ids[-1]


def test_rows_name_the_version_of_the_set_and_what_the_grader_was(tmp_path: Path) -> None:
    answers = {"base": answers_of("base", [0.5] * 4), "policy": answers_of("policy", [1.0] * 4)}
    asked = asked_of(4, "reward_model", evaluation_set="desk")
    desk = {"name": "desk", "version": 2, "content_hash": "h2"}
    paths = evaluate(tmp_path, answers, asked, settings_of(), evaluation_sets=[desk])
    for path in paths:
        rows = pq.read_table(path).to_pylist()
        told = [row for row in rows if row["evaluation_set"] == "desk"]
        assert told
        for row in told:
            assert (row["evaluation_set_version"], row["evaluation_set_hash"]) == (2, "h2")
            assert row["grader_identity"] == "r"


@pytest.mark.parametrize(("content_hash", "identity"), [("j", "j"), ("", "big-judge")])
def test_what_a_judge_says_of_two_answers_is_stored_and_rated(
    tmp_path: Path, content_hash: str, identity: str
) -> None:
    unscored = [nan] * 6
    answers = {
        "base": answers_of("base", unscored, [1.0] * 3 + [0.0, 0.5, None]),
        "policy": answers_of("policy", unscored),
    }
    settings = settings_of(judge="big-judge")
    judge = JUDGE | {"content_hash": content_hash}
    paths = evaluate(tmp_path, answers, asked_of(6, "judge"), settings, judge=judge)
    rows = pq.read_table(paths[1]).to_pylist()
    told = [row for row in rows if row["against"]]
    assert [row["outcome"] for row in told] == [1.0, 1.0, 1.0, 0.0, 0.5]
    assert {row["grader_identity"] for row in rows} == {identity}
    assert {(row["content_hash"], row["against_content_hash"]) for row in told} == {("p", "b")}
    best, base = rated(rows, resamples=5)
    assert best["content_hash"] == "p" and best["rating"] > base["rating"] == 1000
    assert best["comparison_count"] == 5


def test_judge_people_sets_and_other_tools_are_rows(tmp_path: Path) -> None:
    answers = {"base": answers_of("base", [0.5] * 4), "policy": answers_of("policy", [1.0] * 4)}
    by_tool = Outside(
        by="lm_eval 0.4",
        task="gsm8k",
        task_version="3",
        metric="exact_match",
        value=0.25,
        stderr=0.02,
        samples=50,
        attempts=50,
        left_out={},
        cut_off=0,
    )
    (tmp_path / "outside").mkdir()
    for name, weights in (("now", "p"), ("before", "old")):
        told = {"at": "2026-01-01", "content_hash": weights, "results": [by_tool]}
        (tmp_path / "outside" / f"{name}.json").write_text(json.dumps(told))
    asked = asked_of(4, "exact", evaluation_set="desk")
    path, _ = evaluate(tmp_path, answers, asked, settings_of(), **OTHERS)
    told = ("value", "low", "observation_count", "content_hash", "evaluation_set_version")
    ours = {
        (row["metric"], row["evaluation_set"], row["against"]): tuple(row[name] for name in told)
        for row in pq.read_table(path).to_pylist()
        if row["model"] == "judge"
        or row["grader"] in ("people", "lm_eval 0.4")
        or (row["metric"], row["value"]) == ("win_rate", 0.7)
    }
    assert ours == {
        ("judge_agreement", "held-out pairs", None): (0.75, 0.7, 96, "j", None),
        ("judge_annotator_ceiling", "held-out pairs", None): (0.8, 0.75, None, "j", None),
        ("people_win_rate", "desk", "base"): (0.7, 0.6, 3, "p", 2),
        ("win_rate", "desk", "base"): (0.7, 0.6, 4, "p", 2),
        ("exact_match", "gsm8k 3", None): (0.25, None, 50, "p", None),
    }, "nobody compared a prompt of the set mail, and the old weights are another checkpoint"


def test_a_page_tells_of_judge_people_sets_invariants_and_other_tools() -> None:
    tool = {"task": "gsm8k", "task_version": "3", "by": "lm_eval 0.4", "metric": "exact_match"}
    tool |= {"value": 0.25, "stderr": None, "samples": 50, "is_current": False}
    page = others_told(OTHERS, [tool])
    for words in (
        "one annotator with another",
        "0.750",
        "0.900 (0.800 to 1.000)",
        "desk version 2 (hash of desk)",
        "4 of 9",
        "0 of 9",
        "rule no_links</b>: 3 of 9 answers &lt;break&gt; it",
        "lm_eval 0.4",
        "of other weights than these",
    ):
        assert words in page
    nothing = EMPTY_HANDED | {"no_say": ["judge x has no say"], "broken_invariants": {}}
    assert "judge x has no say" in others_told(nothing, [])


def test_a_card_tells_of_judge_people_and_sets() -> None:
    policy = {"versus": {}, "grader": "several"}
    card = metrics_of("policy", OTHERS | {"policy": policy, "reward_model": None}, {})
    assert "| preferred by 2 people over base | 0.700 (0.600 to 0.800) | 3 |" in card
    assert "| on set desk version 2 | 0.700" in card and "mail" not in card
    assert "| its judge agrees with people on held-out pairs | 0.750" in card
