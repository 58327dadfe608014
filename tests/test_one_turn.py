"""One whole turn of the wheel through the command line, with little training, and what follows it.

Whether the models are any good is a claim for `make run`, `make seeds` and `make bench`; here
every stage does its real work on the full delivery, with seconds of training instead of minutes.
"""

import gzip
import json
import shlex
from pathlib import Path

import dagster as dg
import pytest

from assets.partitions import generations
from assets.recipe import left_out
from assets.resources import Devices, Home
from assets.training import policy, step_reward_model
from flywheel.errors import SettingsError
from flywheel.train.config_policy import RECIPES
from tests.test_readme import IN_ONE_TURN, OWN
from tests.turns import SETTINGS, flywheel


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "settings.toml").write_text(SETTINGS)
    return folder


@pytest.fixture(scope="module")
def turn(home: Path) -> dict:
    return flywheel(home, "run")


def test_a_turn_writes_what_it_prints(turn: dict, home: Path) -> None:
    assert turn == json.loads((home / "turn.json").read_text())
    assert turn["generation"] == "g0001"


def test_every_kind_of_feedback_lands_and_every_line_is_accounted_for(turn: dict) -> None:
    assert all(turn["landed"].values()), turn["landed"]
    found = turn["quarantined"]
    for counts in (found["by_reason"], found["by_kind"]):
        assert found["total"] == sum(counts.values()) > 0


def test_every_planted_fault_is_caught(turn: dict) -> None:
    assert turn["faults"]
    missed = [one for one in turn["faults"] if not one["passed"]]
    assert not missed


def test_the_reward_model_and_the_policy_are_measured_with_intervals(turn: dict) -> None:
    reward, policy = turn["reward_model"], turn["policy"]
    assert reward["ci"][0] <= reward["accuracy"] <= reward["ci"][1]
    assert 0 <= reward["longest_wins"] <= 1 and reward["pairs"] > 0
    assert policy["ci"][0] <= policy["win_rate"] <= policy["ci"][1]
    assert policy["prompts"] > 0 and policy["mean_response_tokens"] > 0


def test_time_is_told_by_stage(turn: dict) -> None:
    seconds = turn["seconds"]
    assert {"landing", "staging", "marts", "datasets", "training", "evaluation"} <= set(
        seconds["by_stage"]
    )
    assert 0 < turn["orchestration_frac"] < 1
    assert sum(seconds["by_stage"].values()) <= seconds["total"] + 1


def test_no_champion_without_a_person_where_a_person_is_asked_for(turn: dict) -> None:
    assert turn["champion"] is None


def test_status_says_what_stands(turn: dict, home: Path) -> None:
    facts = flywheel(home, "status")
    assert facts["landed"] == turn["landed"]
    assert [one["generation"] for one in facts["generations"]] == ["g0001"]


def test_landing_the_same_delivery_again_lands_nothing(turn: dict, home: Path) -> None:
    assert flywheel(home, "land") == {"batches": [], "blocked": [], "left_alone": []}


def test_every_checkpoint_names_its_parents_and_its_records(turn: dict, home: Path) -> None:
    for kind in ("base_policy", "sft_policy", "reward_model", "policy"):
        folder = home / "artifacts" / "checkpoints" / kind / "g0001"
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["content_hash"] and manifest["settings"]
        assert kind == "base_policy" or manifest["parents"]


def test_taking_the_same_turn_again_changes_nothing(turn: dict, home: Path) -> None:
    ledger = (home / "registry" / "ledger.jsonl").read_bytes()
    (line,) = (line for line in OWN if line.startswith(IN_ONE_TURN))  # as README gives it
    again = flywheel(home, *shlex.split(line)[1:], "--generation", "g0001")
    assert (home / "registry" / "ledger.jsonl").read_bytes() == ledger
    for part in ("reward_model", "policy", "gate", "datasets"):
        assert again[part] == turn[part]


OWN_RECIPE = """
from dataclasses import dataclass

from flywheel.process.worker import start
from flywheel.train import dpo
from flywheel.train.config_policy import DpoSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(DpoSettings):
    beta: float = 0.3


def run(settings, run_dir):
    return dpo.run(settings, run_dir)


if __name__ == "__main__":
    start(run, Settings)
"""


def materialized(asset: dg.AssetsDefinition, home: Path) -> dg.ExecuteInProcessResult:
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(generations.name, ["g0001"])
        done = dg.materialize(
            [asset],
            instance=instance,
            partition_key="g0001",
            resources={"home": Home(root=str(home)), "devices": Devices()},
        )
    assert done.success
    return done


FAST = ("kto", "grpo", "own_recipe")


@pytest.mark.parametrize(
    "recipe",
    [
        *FAST,
        *(
            pytest.param(one, marks=pytest.mark.slow)
            for one in RECIPES
            if one not in (*FAST, "dpo")
        ),
    ],
)
def test_the_challenger_is_trained_by_the_recipe_that_one_setting_names(
    turn: dict, home: Path, recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_recipe.py").write_text(OWN_RECIPE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (home / "settings.toml").write_text(
        f"[train]\nbudget_seconds = 3\nheld_out_limit = 20\n[policy]\nrecipe = {recipe!r}\n"
    )
    before = json.loads((home / "artifacts/checkpoints/sft_policy/g0001/manifest.json").read_text())
    done = materialized(policy, home)
    (event,) = done.asset_materializations_for_node("training__policy")
    assert event.metadata["steps"].value > 0
    manifest = json.loads((home / "artifacts/checkpoints/policy/g0001/manifest.json").read_text())
    assert manifest["parents"][0]["content_hash"] == before["content_hash"]
    assert manifest["records"]["count"] > 0
    with gzip.open(home / "artifacts/checkpoints/policy/g0001/record_uids.txt.gz", "rt") as records:
        seen = [int(line.split("\t")[1]) for line in records]
    assert len(seen) == manifest["records"]["count"] and sum(seen) > 0


def test_steps_of_trajectories_are_learnt_beside_the_turn(turn: dict, home: Path) -> None:
    (home / "settings.toml").write_text("[train]\nbudget_seconds = 3\nheld_out_limit = 20\n")
    materialized(step_reward_model, home)
    manifest = home / "artifacts/checkpoints/step_reward_model/g0001/manifest.json"
    assert json.loads(manifest.read_text())["kind"] == "step_reward_model"
    edges = (home / "lake/derived/lineage/record_checkpoints").glob("step_reward_model.*.parquet")
    assert len(list(edges)) == 1, "written before anybody traces"


def test_an_input_that_a_turn_has_is_left_out_or_kept_and_never_replaced(
    turn: dict, home: Path
) -> None:
    chosen = {"reward_model": "", "dataset": "/mine"}
    assert left_out("grpo", "reward_model", chosen) and not left_out("grpo", "model", chosen)
    with pytest.raises(SettingsError, match=r"\[grpo\] dataset is '/mine', but a turn trains on"):
        left_out("grpo", "dataset", chosen)
