"""What a reward model is worth is measured once for the same facts, and again for any other."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flywheel.datasets.manifest import read_split
from flywheel.evaluate import demonstrations, kept
from flywheel.evaluate.demonstrations import demonstration_loss
from flywheel.evaluate.kept import FILE_NAME, SCORES, Keep
from flywheel.evaluate.reward.accuracy import measure_reward
from flywheel.evaluate.run import model_hashes
from flywheel.evaluate.settings import EvaluateSettings
from flywheel.records.message import dump, prompt_of, response_of
from flywheel.rollout import RememberingRewardModel, RewardModel
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


def keep(settings: EvaluateSettings, folder: Path, device: str = "cpu") -> Keep:
    return Keep(settings=settings, run_dir=folder, device=device, hashes=model_hashes(settings))


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

    first = keep(settings, tmp_path).measured_once(measure)
    again = keep(settings, tmp_path).measured_once(pytest.fail)
    assert again == first == json.loads(json.dumps(measure()))


@pytest.mark.parametrize("changed", ["seed", "pair_limit", "trap_limit", "max_tokens", "resamples"])
def test_another_setting_is_measured_again(tmp_path: Path, changed: str) -> None:
    settings, calls = settings_of(tmp_path), list[int]()
    keep(settings, tmp_path).measured_once(counted(calls))
    keep(settings, tmp_path).measured_once(counted(calls))
    assert len(calls) == 1
    other = replace(settings, **{changed: getattr(settings, changed) + 1})
    assert keep(other, tmp_path).measured_once(counted(calls))["accuracy"] == 2


def test_other_weights_pairs_or_code_are_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, calls = settings_of(tmp_path), list[int]()
    keep(settings, tmp_path).measured_once(counted(calls))
    tiny(tmp_path / "other", seed=1)
    reward_of(tmp_path / "other", tmp_path / "reward")
    keep(settings, tmp_path).measured_once(counted(calls))
    freeze(tmp_path / "pairs", train=[], test=[pair(n) for n in range(13)])
    keep(settings, tmp_path).measured_once(counted(calls))
    assert len(calls) == 3
    monkeypatch.setattr(kept, "code_hash", lambda: "other")
    keep(settings, tmp_path).measured_once(counted(calls))
    assert len(calls) == 4
    keep(replace(settings, policy="another challenger"), tmp_path).measured_once(pytest.fail)
    keep(settings, tmp_path, "cuda").measured_once(counted(calls))
    assert len(calls) == 5, "another kind of device rounds otherwise"


def test_of_a_model_that_was_replaced_meanwhile_nothing_is_kept(tmp_path: Path) -> None:
    settings, calls = settings_of(tmp_path), list[int]()
    measure = counted(calls)

    def replaced() -> dict[str, Any]:
        tiny(tmp_path / "other", seed=1)
        reward_of(tmp_path / "other", tmp_path / "reward")
        return measure()

    before = keep(settings, tmp_path)  # as when the old weights are hashed, and loaded after that
    before.measured_once(replaced)
    assert not (tmp_path / FILE_NAME).exists()
    before.measured_once(measure)
    keep(settings, tmp_path).measured_once(measure)
    assert len(calls) == 3


def test_a_changed_file_and_a_budget_keep_nothing(tmp_path: Path) -> None:
    settings, calls = settings_of(tmp_path), list[int]()
    keep(settings, tmp_path).measured_once(counted(calls))
    path = tmp_path / FILE_NAME
    whole = path.read_text()
    for broken in (whole.replace("1.0", "0.9"), whole[:-40], "[]", ""):
        path.write_text(broken)
        keep(settings, tmp_path).measured_once(counted(calls))
    assert len(calls) == 5
    hurried = replace(settings, budget_seconds=1.0)
    keep(hurried, tmp_path).measured_once(counted(calls))
    named = replace(settings, reward_model="someone/reward")
    keep(named, tmp_path).measured_once(counted(calls))
    assert len(calls) == 7


def test_losses_of_demonstrations_are_kept_of_whom_a_challenger_is_held_against(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(count: int) -> str:
        rows = [pair(number) for number in range(count)]
        return freeze(
            tmp_path / "shown", test=[one | {"response": one["response_b"]} for one in rows]
        )

    settings = replace(settings_of(tmp_path), demonstration_dataset=shown(6))
    settings = replace(settings, policy=tiny(tmp_path / "policy", seed=1))
    asked: list[str] = []
    load = demonstrations.loaded
    monkeypatch.setattr(demonstrations, "loaded", lambda one: asked.append(one) or load(one))

    def told(settings: EvaluateSettings) -> dict[str, Any] | None:
        asked.clear()
        return demonstration_loss(settings, keep(settings, tmp_path))

    first = told(settings)
    assert asked == [settings.base, settings.sft, settings.policy]
    assert told(settings) == first and asked == [settings.policy]
    fewer = told(replace(settings, demonstration_limit=3))
    assert fewer and fewer["rows"] == 3 and len(asked) == 3
    shown(4)
    other = told(settings)
    assert other and other["rows"] == 4 and len(asked) == 3
    tiny(tmp_path / "base", seed=2)
    changed = told(settings)
    assert changed and changed["base"] != other["base"] and len(asked) == 3
    told(replace(settings, budget_seconds=1e6))
    assert len(asked) == 3


def test_a_text_is_scored_once_and_found_again_by_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(tmp_path)
    folder = settings.reward_model
    prompts = [prompt_of(f"say {one}") for one in ("red", "blue", "red")]
    responses = [response_of(one) for one in ("red it is .", "no", "red it is .")]
    plain = RewardModel.load(folder).score(prompts, responses)
    read: list[int] = []
    score = RewardModel.score
    monkeypatch.setattr(
        RewardModel,
        "score",
        lambda self, asked, said, **options: (
            read.append(len(asked)) or score(self, asked, said, **options)
        ),
    )
    reward = RememberingRewardModel.load(folder)
    assert reward.score(prompts, responses) == pytest.approx(plain, abs=1e-6)
    assert reward.score(prompts[::-1], responses[::-1]) == pytest.approx(plain[::-1], abs=1e-6)
    assert reward.score(prompts, responses, max_tokens=2) == [None] * 3, "another limit"
    assert read == [2, 0, 2]
    keep(settings, tmp_path).remember(reward)
    assert "red" not in (tmp_path / SCORES).read_text(), "no words are kept"
    again = RememberingRewardModel.load(folder)
    keep(settings, tmp_path).remind(again)
    assert again.score(prompts[:1], responses[:1]) == reward.score(prompts[:1], responses[:1])
    assert read[-1] == 0
    keep(settings, tmp_path).remember(again)
    assert list(again.said) == list(reward.said)[:1], "what is not asked any more is let go"
    for model, device in (
        (reward_of(tiny(tmp_path / "b", seed=1), tmp_path / "c"), "cpu"),
        (folder, "cuda"),
    ):
        other = RememberingRewardModel.load(model)
        keep(replace(settings, reward_model=model), tmp_path, device).remind(other)
        assert other.before == {}
