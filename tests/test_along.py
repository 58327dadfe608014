"""Policies put aside along a run, and the turn of a policy that learns from pairs."""

import contextlib
import copy
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flywheel.errors import ManifestError, SettingsError
from flywheel.evaluate.graders.graders import Asked
from flywheel.evaluate.policies import answer_all
from flywheel.evaluate.reward.curves import Measured, curved, resampled, turn_at
from flywheel.evaluate.reward.following import followed
from flywheel.evaluate.reward.overoptimisation import is_past
from flywheel.evaluate.reward.run_along import put_aside
from flywheel.models.load import load_causal, load_tokenizer
from flywheel.models.lora import has_adapters, with_lora
from flywheel.models.publish import manifest_of
from flywheel.process.worker import use_threads
from flywheel.records.message import prompt_of
from flywheel.rollout import RewardModel
from flywheel.train import dpo, finish, grpo, kto, ppo, rloo
from flywheel.train.along import Along
from flywheel.train.config_policy import RECIPES, DpoSettings
from flywheel.train.loop import SPEED_ONLY
from tests.models_for_tests import COLOURS, preferences, reward_of, thumbs, tiny
from tests.test_evaluate import unset

ASIDE = 3
RUNS: dict[str, Any] = {"kto": kto.run, "grpo": grpo.run, "rloo": rloo.run, "ppo": ppo.run}


def trained(folder: Path, base: str, dataset: str, **changes: Any) -> dict[str, Any]:
    settings = DpoSettings(
        model=base,
        dataset=dataset,
        output=str(folder / "policy"),
        **{"epochs": 8.0, "batch": 8, "learning_rate": 3e-3, "beta": 0.3, "warmup_steps": 2}
        | changes,
    )
    (folder / "run").mkdir(parents=True, exist_ok=True)
    return dpo.run(settings, folder / "run")


@pytest.mark.parametrize("rank", [0, 4])
def test_putting_policies_aside_changes_nothing_of_the_run(tmp_path: Path, rank: int) -> None:
    base, dataset = tiny(tmp_path / "base"), preferences(tmp_path / "preference")
    for stale in ("step-00000005", "step-00000008", ".step-00000004-1.draft"):  # of a run before
        (tmp_path / "along" / "run" / "along" / stale).mkdir(parents=True)
    plain = trained(tmp_path / "plain", base, dataset, lora_rank=rank)
    along = trained(tmp_path / "along", base, dataset, lora_rank=rank, along=ASIDE)
    last = [tmp_path / name / "policy" / "model.safetensors" for name in ("plain", "along")]
    assert last[0].read_bytes() == last[1].read_bytes()
    assert plain["along"] == [] and not (tmp_path / "plain" / "run" / "along").exists()
    assert [one["step"] for one in along["along"]] == [4, 8, 12] and along["steps"] == 16
    folders = sorted((tmp_path / "along" / "run" / "along").iterdir())
    assert [manifest_of(one)["content_hash"] for one in folders] == [
        one["content_hash"] for one in along["along"]
    ]
    last_facts = manifest_of(tmp_path / "along" / "policy")
    for one in folders:
        facts = manifest_of(one)
        same = ("kind", "parents", "datasets", "settings", "precision", "code")
        assert {name: facts[name] for name in same} == {name: last_facts[name] for name in same}
    weights = {(one / "model.safetensors").read_bytes() for one in folders}
    assert len(weights | {last[1].read_bytes()}) == ASIDE + 1


@pytest.mark.parametrize("name", ["dpo", "kto", "grpo", "rloo", "ppo"])
def test_fewer_than_none_are_not_put_aside(name: str) -> None:
    needed = {"ratings": ""} if name == "kto" else {"dataset": ""}
    needed |= {"verifier": "m:f"} if name in ("grpo", "rloo", "ppo") else {}
    with pytest.raises(SettingsError, match="0 or more, got -1"):
        RECIPES[name](model="", output="", along=-1, **needed)


@pytest.mark.parametrize("name", ["kto", "grpo", "rloo", "ppo"])
def test_every_recipe_that_may_stray_puts_policies_aside_and_their_curve_is_drawn(
    tmp_path: Path, name: str
) -> None:
    base, reward = tiny(tmp_path / "base"), reward_of(tmp_path / "base", tmp_path / "reward")
    chosen: dict[str, Any] = {
        "learning_rate": 1e-2,
        "warmup_steps": 1,
        "batch": 8,
        "max_tokens": 32,
    }
    if name == "kto":
        chosen |= {"ratings": thumbs(tmp_path / "rating"), "epochs": 2.0}
    else:
        chosen |= {"dataset": preferences(tmp_path / "preference"), "max_new_tokens": 3,
                   "prompts": 4, "samples": 2, "epochs": 8.0, "reward_model": reward}  # fmt: skip
    results = []
    for count in (0, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        output = str(folder / "policy")
        settings = RECIPES[name](model=base, output=output, along=count, **chosen)
        results.append(RUNS[name](settings, folder))
    (plain, along), said = results, [tmp_path / one / "policy" for one in "02"]
    last = [(one / "model.safetensors").read_bytes() for one in said]
    assert last[0] == last[1] and plain["along"] == [] and not (tmp_path / "0" / "along").exists()
    assert 0 < along["along"][0]["step"] < along["along"][1]["step"] < along["steps"]

    looked = unset(sft=base, policy=str(said[1]), along=str(tmp_path / "2" / "along"),
                   max_new_tokens=8, resamples=80, best_of_samples=0)  # fmt: skip
    asked = [
        Asked(one, one, prompt_of(f"say {one}"), "exact", f"{one} it is .", "") for one in COLOURS
    ]
    judge = RewardModel.load(reward)
    answers, _ = answer_all({"sft": base, "policy": str(said[1])}, asked, judge, looked, 1.0)
    found, _ = followed(asked, answers, judge, {}, looked)
    steps = [0, *(one["step"] for one in along["along"]), along["steps"]]
    assert [one["step"] for one in found["run"]["points"]] == steps
    assert found["put_aside"] == {"told": 2, "here": 2} and found["turn"] is not None


def test_a_source_with_nothing_more_puts_nothing_aside(tmp_path: Path) -> None:
    class Ended:
        steps = 4

        def draw(self, step: int) -> tuple[list[int], dict[str, float]]:
            return ([] if step == 2 else [step]), {}

    engine: Any = SimpleNamespace(stage=0, written=contextlib.nullcontext)
    source: Any = Ended()
    along = Along(source, engine, lambda folder: None, {"kind": "policy"}, tmp_path, 3)
    for step in range(3):
        along.draw(step)
    assert [one["step"] for one in along.kept()] == [1], "what a run ends with is published"


def test_the_run_of_a_policy_that_learns_from_pairs_has_a_curve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, dataset = tiny(tmp_path / "base"), preferences(tmp_path / "preference")
    trained(tmp_path / "dpo", base, dataset, along=ASIDE)
    policy, along = tmp_path / "dpo" / "policy", tmp_path / "dpo" / "run" / "along"
    reward = RewardModel.load(reward_of(tmp_path / "base", tmp_path / "reward"))
    settings = unset(
        sft=base, policy=str(policy), along=str(along), max_new_tokens=8, resamples=200,
        best_of_samples=4,
    )  # fmt: skip
    use_threads(1, 1)
    asked = [
        Asked(f"k{at}", f"g{at}", prompt_of(f"say {COLOURS[at % 4]}"), "exact",
              f"{COLOURS[at % 4]} it is .", "")
        for at in range(40)
    ]  # fmt: skip
    answers, _ = answer_all({"sft": base, "policy": str(policy)}, asked, reward, settings, 1.0)
    found, ways = followed(asked, answers, reward, {}, settings)
    points = found["run"]["points"]
    assert [one["step"] for one in points] == [0, 4, 8, 12, 16]
    assert points[0]["root_nats"] == 0 and points[-1]["root_nats"] > points[1]["root_nats"]
    assert points[-1]["root_nats"] == pytest.approx(found["strayed"]["root_nats"])
    assert points[0]["gold"] == pytest.approx(answers["sft"].mean_score)
    assert points[-1]["gold"] == pytest.approx(answers["policy"].mean_score)
    assert found["is_past"] is False and found["turn"]["root_nats"] == points[-1]["root_nats"]
    assert found["put_aside"] == {"told": ASIDE, "here": ASIDE}
    assert [way.kind for way in ways] == ["best of n", "run"] and found["by_people"] == []

    left_to_people = [replace(one, grader="people") for one in asked]
    asking = replace(settings, people_along=True)
    found, ways = followed(left_to_people, answers, reward, {}, asking)
    assert found["best_of_n"] is None and found["run"] is None and found["is_past"] is None
    assert [one["kind"] for one in found["by_people"]] == ["best of n", "run"]
    assert not any(one["enough"] for one in found["by_people"])
    assert np.isfinite(ways[1].proxy).all() and ways[1].nats[:, 0].tolist() == [0.0] * 40
    assert ways[0].texts[0] == [one.text for one in answers["sft"].responses]
    assert followed(left_to_people, answers, reward, {}, settings)[1] == []

    for folder in sorted(along.iterdir())[1:]:
        shutil.rmtree(folder)
    found, ways = followed(asked, answers, reward, {}, settings)
    assert found["run"] is None and [way.kind for way in ways] == ["best of n"]
    assert found["put_aside"] == {"told": ASIDE, "here": 1}
    assert f"of {ASIDE} policies put aside 1 are still there" in capsys.readouterr().out


def test_a_run_that_goes_on_keeps_what_it_put_aside_and_nothing_else(tmp_path: Path) -> None:
    class Steps:
        steps = 16

        def draw(self, step: int) -> tuple[list[int], dict[str, float]]:
            return [step], {}

    def along(count: int) -> list[str]:
        engine: Any = SimpleNamespace(stage=0, written=contextlib.nullcontext)
        source: Any = Steps()
        Along(source, engine, lambda folder: None, {"kind": "policy"}, tmp_path, count).draw(9)
        return sorted(one.name for one in tmp_path.iterdir())

    for name in ("step-00000004", "step-00000008", "step-00000012", ".step-00000012-1.draft"):
        (tmp_path / name).mkdir()
    assert along(3) == ["step-00000004", "step-00000008"]
    assert along(1) == ["step-00000008"], "another number goes on with the same run"
    assert along(0) == []


def test_a_policy_without_adapters_is_put_aside_without_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, model = load_tokenizer(tiny(tmp_path / "base")), load_causal(str(tmp_path / "base"))
    copies: list[Any] = []
    plain = copy.deepcopy

    def copied(one: Any) -> Any:
        copies.append(one)
        return plain(one)

    monkeypatch.setattr(finish, "copy", SimpleNamespace(deepcopy=copied))
    finish.policy_writer(model, tokenizer, goes_on=True)(tmp_path / "whole")
    assert copies == []
    adapted = with_lora(model, 2, 0)
    finish.policy_writer(adapted, tokenizer, goes_on=True)(tmp_path / "adapted")
    assert copies == [adapted] and has_adapters(adapted)


def test_how_many_are_put_aside_may_change_as_a_run_goes_on() -> None:
    assert "along" in SPEED_ONLY


def test_only_whole_policies_of_this_very_run_are_looked_at(tmp_path: Path) -> None:
    base, dataset = tiny(tmp_path / "base"), preferences(tmp_path / "preference")
    for name, seed in (("one", 0), ("other", 1)):
        trained(tmp_path / name, base, dataset, along=ASIDE, epochs=4.0, seed=seed)
    policy = str(tmp_path / "one" / "policy")
    own, others = (tmp_path / name / "run" / "along" for name in ("one", "other"))
    told, here = put_aside(unset(policy=policy, along=str(own)))
    assert told == len(here) == ASIDE
    assert put_aside(unset(policy=policy, along=str(others))) == (ASIDE, {})
    assert put_aside(unset(policy=policy)) == (ASIDE, {})
    first = sorted(own.iterdir())[0]
    (first / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ManifestError, match="is not what manifest"):
        put_aside(unset(policy=policy, along=str(own)))


def measured(bend: float, prompts: int, seed: int, places: int = 8) -> Measured:
    """Gold of a run that bends at 1 of 2 root nats, with noise of prompts and of answers."""
    rng = np.random.default_rng(seed)
    roots = np.linspace(0, 2, places)
    gold = 0.3 * roots - bend * np.maximum(roots - 1, 0)
    noise = rng.normal(0, 0.3, (prompts, 1)) + rng.normal(0, 0.3, (prompts, places))
    nats = np.tile(roots**2, (prompts, 1)) + rng.normal(0, 0.3, (prompts, places)) * roots
    groups = [str(at) for at in range(prompts)]
    return Measured(np.tile(roots, (prompts, 1)), gold + noise, nats, groups)


def test_a_run_that_went_too_far_is_past_its_turn_and_others_are_not() -> None:
    settings = unset(resamples=400)

    def past(bend: float, seed: int) -> bool | None:
        found = measured(bend, 100, seed)
        whole = found.means()
        return is_past(turn_at(curved(whole, resampled(found, settings), "reinforcement"), -1))

    assert sum(past(0.7, seed) is True for seed in range(10)) >= 9
    assert sum(past(0.3, seed) is True for seed in range(20)) <= 1, "gold levels off"
    assert not any(past(0.0, seed) for seed in range(10)), "gold rises to the end"
