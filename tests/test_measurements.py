"""What an evaluation measured, as rows: counts that are its own, and no number from nothing."""

from math import nan
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from flywheel.evaluate.graders import Asked
from flywheel.evaluate.measured import of_contest
from flywheel.evaluate.measurements import write_measurements
from flywheel.evaluate.settings import EvaluateSettings
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


def written(folder: Path, won: float, **changes: Any) -> str:
    """Evaluate with so many wins of four; the id."""
    asked = asked_of(4, "exact")
    answers = {
        name: answers_of(name, [score] * 4)
        for name, score in (("base", 0.5), ("sft", 0.5), ("policy", won))
    }
    settings = settings_of(**changes)
    contest = compare(answers, asked, settings)
    greedy = contest | {"versus": {}, "slices": []}
    result = {
        "policy": contest | {"greedy": greedy, "proxy": None, "best_of_n": None, "strayed": None},
        "reward_model": REWARD,
        "demonstrations": None,
        "look": "seed 0",
        **{f"{name}_content_hash": name for name in ("base", "sft", "policy", "reward_model")},
        **EMPTY_HANDED,
    }
    path, _ = write_measurements(folder, result, settings, asked, {1.0: answers})
    return path.stem


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
