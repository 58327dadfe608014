"""One evaluation whose prompts have graders of every kind, from datasets to page and verdict."""

import json
import math
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flywheel.evaluate.graders.taught import without_its_teacher
from flywheel.evaluate.run import prompts_of, run
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.models.load import load_tokenizer
from flywheel.promotion import GateSettings, decide
from flywheel.records.message import dump, prompt_of
from tests.models_for_tests import COLOURS, chatml, freeze, reward_of, tiny
from tests.test_evaluate import datasets, read_pairs
from tests.test_invariants import checkpoint
from tests.test_judge import JudgeServer

COUNT = 20
GRADERS = ("exact", "reward_model", "judge", "people")


def colourful(first: str, second: str) -> str:
    """Prefers the answer that names more colours, as people do in these pairs."""
    mine, other = (sum(word in COLOURS for word in text.split()) for text in (first, second))
    return "[[TIE]]" if mine == other else "[[A]]" if mine > other else "[[B]]"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    names = ("base", "sft", "policy", "champion")
    found = {name: tiny(folder / name, seed=seed) for seed, name in enumerate(names)}
    return found | {"reward_model": reward_of(folder / "base", folder / "reward")}


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Settings of a judge behind a server."""
    folder = chatml(tmp_path_factory.mktemp("judge"))
    server = JudgeServer(load_tokenizer(folder), colourful)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    yield {"judge": "colourful", "judge_url": url, "judge_tokenizer": folder}
    server.shutdown()
    server.server_close()


def mixed(folder: Path, graders: tuple[str, ...] = GRADERS) -> dict[str, str]:
    """Prompts that take turns in their graders, and pairs enough to know a judge by."""
    found = datasets(folder)
    pairs = [
        row | {"group_id": f"{row['group_id']} {at}"}
        for at in range(10)
        for row in read_pairs(found)[:4]
    ]
    prompts = [
        {
            "prompt": dump(prompt_of(f"say {COLOURS[at % 4]} , number {at}")),
            "prompt_key": f"k{at:02}",
            "group_id": f"g{at}",
            "grader": graders[at % len(graders)],
            "reference": "red it is .",
            "domain": "colours",
            "source": "test",
        }
        for at in range(COUNT)
    ]
    return found | {
        "evaluation_dataset": freeze(folder / "mixed", test=prompts),
        "preference_dataset": freeze(folder / "many", test=pairs),
    }


def settings_of(models: dict[str, str], found: dict[str, str], **changes: Any) -> EvaluateSettings:
    few = {"max_new_tokens": 6, "resamples": 40, "trap_limit": 8, "best_of_samples": 4}
    return EvaluateSettings(generation="g0001", **{**models, **found, **few, **changes})


def test_programs_models_and_people_grade_side_by_side(
    models: dict[str, str], judge: dict[str, Any], tmp_path: Path
) -> None:
    result = run(settings_of(models, mixed(tmp_path), **judge), tmp_path)
    policy = result["policy"]
    assert policy["grader"] == "several" and policy["judged_by_model"]
    assert policy["prompts"] == COUNT * 3 // 4  # people have said nothing yet
    assert result["judge"]["on_prompts"]["champion"]["pairs"] == COUNT // 4
    (reason,) = result["no_say"]
    assert reason.startswith("5 prompts are left to people")
    assert policy["best_of_n"]["prompts"] == COUNT // 4  # those with a program for gold
    assert all(math.isfinite(one["gold"]) for one in policy["best_of_n"]["points"])
    assert "nan" not in (tmp_path / "report.html").read_text()
    (path,) = (tmp_path / "measurements").glob("*.parquet")
    assert not any(map(math.isnan, pq.read_table(path)["value"].drop_null().to_pylist()))
    assert decide(result, GateSettings(least_prompts=2)).decision in ("HOLD", "REJECT")


def test_rules_are_held_against_the_answers_that_there_was_time_for(
    models: dict[str, str], tmp_path: Path
) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps({"says nothing": {"forbid": "zzz|.", "example": "zzz"}}))
    settings = settings_of(
        models, mixed(tmp_path, ("exact",)), rules=str(rules), budget_seconds=1e-6
    )
    result = run(settings, tmp_path)
    assert result["policy"]["prompts"] == 16 < COUNT  # one piece
    told = result["broken_invariants"]["rule says nothing"]
    assert told.startswith("16 of 16 answers break it")


@pytest.mark.parametrize("by", ["itself", "its ancestor"])
def test_a_reward_model_has_no_say_on_whom_it_taught_and_other_graders_have(
    models: dict[str, str], tmp_path: Path, by: str
) -> None:
    taught = mine = checkpoint(
        tmp_path / "grpo" / "g0001",
        model=models["policy"],
        records={},
        parents=[models["sft"], models["reward_model"]],
    )
    if by == "its ancestor":
        mine = checkpoint(
            tmp_path / "dpo" / "g0001", model=models["policy"], records={}, parents=[taught]
        )
    elsewhere = shutil.copytree(models["reward_model"], tmp_path / "moved")
    chosen = models | {"policy": mine, "reward_model": str(elsewhere)}
    result = run(settings_of(chosen, mixed(tmp_path, GRADERS[:2])), tmp_path)
    policy = result["policy"]
    assert policy["prompts"] == policy["groups"] == COUNT // 2  # by the other grader
    assert policy["versus"]["sft"]["prompts"] == COUNT // 2 and policy["proxy"]
    (reason,) = result["no_say"]
    assert reason.startswith(f"10 of {COUNT} prompts are judged by the reward model")
    assert "trained on or chosen by" in reason and "another grader" in reason
    result["reward_model"]["over_length"]["ci"] = [0.01, 0.2]  # else it has a reason of its own
    found = decide(result, GateSettings(least_prompts=COUNT))
    assert found.decision == "HOLD" and found.reasons[0] == reason


def test_a_reward_model_that_taught_no_ancestor_has_its_say(
    models: dict[str, str], tmp_path: Path
) -> None:
    mine = checkpoint(tmp_path / "dpo", model=models["policy"], records={}, parents=[models["sft"]])
    settings = settings_of(models | {"policy": mine}, mixed(tmp_path, GRADERS[:2]))
    asked, _ = prompts_of(settings)
    assert without_its_teacher(asked, settings) == (asked, [])
