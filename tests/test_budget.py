"""A budget: what does not fit into it is not done, what is done is a fair sample, and it is said.

Told in counts, not by a stopwatch: the least that every part does is one piece.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from flywheel.collect.settings import QueueSettings
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.process.clock import PIECE, pieces
from flywheel.process.launch import launch
from flywheel.records.message import dump, prompt_of, response_of
from flywheel.train.config import SftSettings
from flywheel.train.config_policy import DpoSettings
from flywheel.train.config_reward import RewardSettings
from tests.models_for_tests import COLOURS, freeze, reward_of, tiny

MANY = 3 * PIECE
HURRIED = 1e-6  # seconds


def many(folder: Path) -> str:
    """Pairs of as many prompts in each split, which are demonstrations and tests as well."""
    rows = [
        {
            "prompt_key": f"{number:03d}",
            "group_id": f"{number:03d}",
            "prompt": dump(
                prompt_of(" ".join(["say"] * (1 + number // 4) + [COLOURS[number % 4]]))
            ),
            "response": dump(response_of("it is .")),
            "response_a": dump(response_of("it is .")),
            "response_b": dump(response_of("no , it is not .")),
            "response_a_key": "a",
            "response_b_key": "b",
            "probability_a": 0.9,
            "votes_a": 1,
            "votes_b": 0,
            "ties": 0,
            "weight": 1.0,
            "grader": "exact",
            "reference": "it is .",
            "domain": None,
            "source": "test",
            "record_uids": [f"c-{number}"],
        }
        for number in range(MANY)
    ]
    return freeze(folder, train=rows, validation=rows, test=rows)


def run(module: str, settings: Any, folder: Path) -> dict[str, Any]:
    return launch(f"flywheel.{module}", settings, folder, log=lambda line: None)


def ticking(*times: float) -> Any:
    return iter(times).__next__


def test_the_piece_that_would_end_too_late_does_not_begin() -> None:
    # each takes 3 seconds: three of them end after 9, a fourth would after 12
    found = list(pieces(range(10 * PIECE), 11.0, clock=ticking(0, 3, 6, 9)))
    assert [one for piece in found for one in piece] == list(range(3 * PIECE))


def test_the_first_piece_comes_however_short_the_time() -> None:
    (found,) = pieces(range(10 * PIECE), 1e-9, clock=ticking(0, 1))
    assert len(found) == PIECE


def test_a_limited_time_takes_a_seeded_sample_and_an_unlimited_one_all_in_order() -> None:
    places = range(4 * PIECE)
    (first,) = pieces(places, 1.0, seed=1, clock=ticking(0, 2))
    (again,) = pieces(places, 1.0, seed=1, clock=ticking(0, 2))
    assert list(first) == list(again) != sorted(first) and max(first) > 2 * PIECE
    assert [list(piece) for piece in pieces(places, float("inf"), seed=1)] == [list(places)]


def test_dpo_asks_the_reference_about_no_more_pairs_than_there_is_time_for(tmp_path: Path) -> None:
    settings = DpoSettings(
        model=tiny(tmp_path / "base"),
        dataset=many(tmp_path / "preference"),
        output=str(tmp_path / "policy"),
        batch=4,
        budget_seconds=HURRIED,
    )
    result = run("train.dpo", settings, tmp_path / "run")
    assert (result["pairs"], result["pairs_without_time"]) == (PIECE, MANY - PIECE)
    assert result["validation_pairs"] == PIECE
    asked = list((tmp_path / "run" / "references").glob("*.parquet"))
    assert [pq.read_metadata(path).num_rows for path in asked] == [PIECE] * 2
    manifest = json.loads((tmp_path / "policy" / "manifest.json").read_text())
    assert manifest["records"]["count"] == PIECE  # the others taught nothing
    assert result["steps"] == 1

    whole = run("train.dpo", replace(settings, budget_seconds=0.0), tmp_path / "run")
    assert (whole["pairs"], whole["validation_pairs"], whole["steps"]) == (MANY, MANY, MANY // 4)


@pytest.mark.parametrize(
    ("module", "settings", "counted"),
    [
        ("train.sft", SftSettings, "validation_rows"),
        ("train.reward", RewardSettings, "validation_pairs"),
    ],
)
def test_what_is_held_out_is_measured_within_the_budget(
    tmp_path: Path, module: str, settings: Any, counted: str
) -> None:
    chosen = settings(
        model=tiny(tmp_path / "base"),
        dataset=many(tmp_path / "data"),
        output=str(tmp_path / "out"),
        budget_seconds=HURRIED,
    )
    result = run(module, chosen, tmp_path / "run")
    assert (result["steps"], result[counted]) == (1, PIECE)


def test_a_short_budget_asks_fewer_prompts_and_says_so(tmp_path: Path) -> None:
    settings = QueueSettings(
        generation="g0001",
        policy=tiny(tmp_path / "policy"),
        sft=tiny(tmp_path / "sft", seed=1),
        reward_model=reward_of(tmp_path / "policy", tmp_path / "reward"),
        preference_dataset=many(tmp_path / "preference"),
        output=str(tmp_path / "queue" / "g0001.jsonl"),
        max_new_tokens=6,
        budget_seconds=HURRIED,
    )
    result = run("collect.run", settings, tmp_path / "run")
    assert result["prompts_considered"] == PIECE
    assert result["prompts_without_time"] == MANY - PIECE
    assert 0 < result["lines"] <= PIECE
    whole = run("collect.run", replace(settings, budget_seconds=0.0), tmp_path / "run")
    assert (whole["prompts_considered"], whole["prompts_without_time"]) == (MANY, 0)


def test_an_evaluation_measures_what_it_has_time_for_and_says_what_it_left_out(
    tmp_path: Path,
) -> None:
    data = many(tmp_path / "data")
    settings = EvaluateSettings(
        generation="g0001",
        base=tiny(tmp_path / "base"),
        sft=tiny(tmp_path / "sft", seed=1),
        policy=tiny(tmp_path / "policy", seed=2),
        reward_model=reward_of(tmp_path / "base", tmp_path / "reward"),
        evaluation_dataset=data,
        preference_dataset=data,
        demonstration_dataset=data,
        max_new_tokens=6,
        resamples=100,
        budget_seconds=HURRIED,
    )
    result = run("evaluate.run", settings, tmp_path / "run")
    pairs, demonstrations = result["reward_model"], result["demonstrations"]
    assert (pairs["pairs"], pairs["without_time"]) == (PIECE, MANY - PIECE)
    assert (demonstrations["rows"], demonstrations["without_time"]) == (PIECE, MANY - PIECE)
    assert result["policy"]["prompts"] == PIECE


def test_the_shares_of_a_turn_leave_time_for_what_has_none() -> None:
    from assets.automation import turn
    from assets.definitions import defs
    from assets.drive import _run_config

    config = _run_config("a model", 0, 10.0)
    job = defs.resolve_job_def(turn.name)
    assert dg.validate_run_config(job, config)
    shares = {
        name: op["config"]["budget_seconds"] / 600
        for name, op in config["ops"].items()
        if "budget_seconds" in op["config"]
    }
    assert set(shares) == {
        "training__sft_policy",
        "training__reward_model",
        "training__policy",
        "evaluation__held_out_evaluation",
        "collection__annotation_queue",
    }
    assert sum(shares.values()) == pytest.approx(0.8)
