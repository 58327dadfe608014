"""What a reward model is worth is measured once for the same facts, and again for any other."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flywheel.datasets.manifest import read_split
from flywheel.evaluate import kept
from flywheel.evaluate.kept import FILE_NAME, measured_once
from flywheel.evaluate.reward.accuracy import measure_reward
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.records.message import dump, prompt_of, response_of
from flywheel.rollout import RewardModel
from tests.models_for_tests import COLOURS, freeze, reward_of, tiny


def pair(number: int) -> dict[str, Any]:
    colour = COLOURS[number % 4]
    return {
        "prompt": dump(prompt_of(f"say {colour}")),
        "response_a": dump(response_of("no" if number % 3 else "no , it")),
        "response_b": dump(response_of(f"{colour} it is .")),
        "group_id": str(number),
        "probability_a": 0.9 if number % 2 else 0.1,
        "votes_a": 1,
        "votes_b": 0,
        "ties": 0,
        "domain": None,
    }


def settings_of(folder: Path) -> EvaluateSettings:
    tiny(folder / "base")
    return EvaluateSettings(
        generation="g0001",
        **dict.fromkeys(("base", "sft", "policy"), str(folder / "base")),
        reward_model=reward_of(folder / "base", folder / "reward"),
        preference_dataset=freeze(folder / "pairs", train=[], test=[pair(n) for n in range(12)]),
        **dict.fromkeys(("evaluation_dataset", "demonstration_dataset"), ""),
        resamples=50,
    )


def counted(numbers: list[int]) -> Callable[[], dict[str, Any]]:
    """Says how often it has been called."""

    def measure() -> dict[str, Any]:
        numbers.append(len(numbers) + 1)
        return {"accuracy": float(len(numbers)), "ci": (0.1, 1 / 3)}

    return measure


def test_what_was_kept_is_what_is_measured_afresh(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    reward = RewardModel.load(settings.reward_model)
    pairs = read_split(Path(settings.preference_dataset), "test")

    def measure() -> dict[str, Any]:
        return measure_reward(pairs, reward, settings)

    first = measured_once(measure, settings, tmp_path, "cpu")
    again = measured_once(pytest.fail, settings, tmp_path, "cpu")
    assert again == first == json.loads(json.dumps(measure()))


@pytest.mark.parametrize("changed", ["seed", "pair_limit", "trap_limit", "max_tokens", "resamples"])
def test_another_setting_is_measured_again(tmp_path: Path, changed: str) -> None:
    settings, calls = settings_of(tmp_path), list[int]()
    measured_once(counted(calls), settings, tmp_path, "cpu")
    measured_once(counted(calls), settings, tmp_path, "cpu")
    assert len(calls) == 1
    other = replace(settings, **{changed: getattr(settings, changed) + 1})
    assert measured_once(counted(calls), other, tmp_path, "cpu")["accuracy"] == 2


def test_other_weights_pairs_or_code_are_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, calls = settings_of(tmp_path), list[int]()
    measured_once(counted(calls), settings, tmp_path, "cpu")
    tiny(tmp_path / "other", seed=1)
    reward_of(tmp_path / "other", tmp_path / "reward")
    measured_once(counted(calls), settings, tmp_path, "cpu")
    freeze(tmp_path / "pairs", train=[], test=[pair(n) for n in range(13)])
    measured_once(counted(calls), settings, tmp_path, "cpu")
    assert len(calls) == 3
    monkeypatch.setattr(kept, "code_hash", lambda: "other")
    measured_once(counted(calls), settings, tmp_path, "cpu")
    assert len(calls) == 4
    measured_once(pytest.fail, replace(settings, policy="another challenger"), tmp_path, "cpu")
    measured_once(counted(calls), settings, tmp_path, "cuda")
    assert len(calls) == 5, "another kind of device rounds otherwise"


def test_a_changed_file_and_a_budget_keep_nothing(tmp_path: Path) -> None:
    settings, calls = settings_of(tmp_path), list[int]()
    measured_once(counted(calls), settings, tmp_path, "cpu")
    path = tmp_path / FILE_NAME
    whole = path.read_text()
    for broken in (whole.replace("1.0", "0.9"), whole[:-40], "[]", ""):
        path.write_text(broken)
        measured_once(counted(calls), settings, tmp_path, "cpu")
    assert len(calls) == 5
    hurried = replace(settings, budget_seconds=1.0)
    measured_once(counted(calls), hurried, tmp_path, "cpu")
    named = replace(settings, reward_model="someone/reward")
    measured_once(counted(calls), named, tmp_path, "cpu")
    assert len(calls) == 7
