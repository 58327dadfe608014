"""What a kill costs: nothing but time; a run goes on wherever, and from the last whole save."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flywheel.errors import TrainingError
from flywheel.process import worker
from flywheel.process.launch import LOCKED, only_one, write_json
from flywheel.process.launch import _prepare as prepare
from flywheel.train import state
from flywheel.train.config import RunSettings
from flywheel.train.engine import Engine
from flywheel.train.loop import Objective, fit
from tests.models_for_tests import tiny
from tests.runs_for_tests import jobs, prepared


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize("count", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_to_the_same_weights_records_and_rows(
    base: str, tmp_path: Path, count: int
) -> None:
    found = jobs("kills", tmp_path, base, 1, count)
    assert [one["status"] for one in found] == [-9] * count, found
    assert all(one["equal"] for one in found), [one for one in found if not one["equal"]]
    assert any(one["in_a_save"] for one in found)


@pytest.mark.parametrize(
    "stage", [-1, *(pytest.param(one, marks=pytest.mark.slow) for one in (0, 1, 2, 3))]
)
def test_one_two_and_again_one_process_reach_the_weights_of_a_run_never_stopped(
    base: str, tmp_path: Path, stage: int
) -> None:
    (found,) = jobs("worlds", tmp_path, base, stage, 1, 2, 1)
    assert found["loss"] < 1e-5 and found["weight"] < 1e-5 and found["records_equal"]
    assert "saved by 1 process(es), and 2 go on" in found["said"]
    assert "saved by 2 process(es), and 1 go on" in found["said"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [0, 2, 3])
def test_two_processes_go_on_bit_by_bit(base: str, tmp_path: Path, stage: int) -> None:
    (found,) = jobs("worlds", tmp_path, base, stage, 2, 2, 2)
    assert found["loss"] == found["weight"] == 0 and found["records_equal"]


def saved_twice(folder: Path) -> Path:
    for step in (1, 2):
        state.save(folder, step, {}, lambda draft: (draft / "w").write_text("x" * 100) and None)
    return folder / "step-00000002"


@pytest.mark.parametrize(
    "damage", ["torn shard", "missing file", "torn manifest", "no manifest", "changed facts"]
)
def test_a_damaged_save_is_skipped_for_the_one_before(tmp_path: Path, damage: str) -> None:
    last = saved_twice(tmp_path)
    if damage == "torn shard":
        (last / "w").write_text("x")
    elif damage == "missing file":
        (last / "rng.json").unlink()
    elif damage == "torn manifest":
        os.truncate(last / "manifest.json", 20)
    elif damage == "no manifest":
        (last / "manifest.json").unlink()
    else:
        (last / "facts.json").write_text("{}")
    told: list[str] = []
    found = state.newest(tmp_path, told.append)
    assert found and found[1]["step"] == 1
    assert "damaged checkpoint" in told[0]


def test_a_run_whose_saves_are_all_damaged_does_not_start_anew(tmp_path: Path) -> None:
    saved_twice(tmp_path)
    for path in tmp_path.glob("step-*"):
        (path / "manifest.json").write_text("{}")
    with pytest.raises(TrainingError, match=r"all 2 checkpoints .* are damaged"):
        state.newest(tmp_path, print)
    state.forget(tmp_path)
    assert state.newest(tmp_path, print) is None


def test_a_second_run_started_by_hand_in_one_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"output": "o"}')
    monkeypatch.setattr(sys, "argv", ["recipe", str(tmp_path)])
    ran: list[Path] = []

    def recipe(settings: RunSettings, run_dir: Path) -> dict[str, Any]:
        ran.append(run_dir)
        return {}

    with only_one(tmp_path):
        with pytest.raises(SystemExit, match="one run at a time works in a folder"):
            worker.start(recipe, RunSettings)
        monkeypatch.setenv(LOCKED, str(tmp_path))  # as `launch` starts it, which holds the lock
        worker.start(recipe, RunSettings)
    monkeypatch.delenv(LOCKED)
    worker.start(recipe, RunSettings)
    assert len(ran) == 2 and (tmp_path / "result.json").exists()


def test_a_run_goes_on_from_its_saves_where_only_its_speed_is_set_anew(tmp_path: Path) -> None:
    old = {"recipe": "r", "inputs": {"dataset": "a"}, "settings": {"micro_tokens": 8192}}
    for changed, is_kept in (
        ({"settings": {"micro_tokens": 2048}}, True),
        ({"inputs": {"dataset": "b"}}, False),
        ({"recipe": "another"}, False),
    ):
        write_json(tmp_path / "config.json", old)
        (tmp_path / "state" / "step-00000001").mkdir(parents=True, exist_ok=True)
        prepare(tmp_path, {**old, **changed})
        assert (tmp_path / "state").exists() == is_kept, changed


def test_a_draft_that_a_kill_left_is_no_save_and_does_not_stop_the_next(tmp_path: Path) -> None:
    for step in (3, 7):
        (tmp_path / f".step-{step:08d}.draft").mkdir()
    saved_twice(tmp_path)
    found = state.newest(tmp_path, print)
    assert found and found[1]["step"] == 2
    state.save(tmp_path, 3, {}, lambda draft: (draft / "w").touch())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


class Stopped(Exception):
    """A run ends here."""


class Drawing:
    """A source that draws from every global generator, and stops before a step."""

    steps = 6

    def __init__(self, stop: int = -1) -> None:
        self.drawn: list[tuple[float, ...]] = []
        self._stop = stop

    def draw(self, step: int) -> tuple[list[float], dict[str, float]]:
        if step == self._stop:
            raise Stopped
        numbers = (random.random(), float(np.random.rand()), float(torch.rand(())))
        self.drawn.append(numbers)
        return list(numbers), {}

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        pass


OBJECTIVE: Objective[float] = Objective(
    loss=lambda engine, rows: (engine(torch.tensor(rows)[:, None]).square().sum(), {}),
    count=lambda one: 1.0,
    shape=lambda one: (1, 1),
    tokens=lambda one: 1,
    record_uids=lambda one: ("d-1",),
)


def trained(folder: Path, source: Any, **changes: Any) -> tuple[Engine, dict[str, Any]]:
    settings = RunSettings(**{"output": "", "save_seconds": 0.0, "epochs": 1.0, **changes})
    folder.mkdir(exist_ok=True)
    torch.manual_seed(3)
    engine = Engine(torch.nn.Linear(1, 1), settings)
    return engine, fit(engine, source, OBJECTIVE, settings, folder)


def test_a_resumed_source_draws_the_random_numbers_that_it_would_have_drawn(
    tmp_path: Path,
) -> None:
    whole, first, second = Drawing(), Drawing(stop=4), Drawing()
    for module in (random, np.random):
        module.seed(5)
    expected, _ = trained(tmp_path / "whole", whole)
    for module in (random, np.random):
        module.seed(5)
    with pytest.raises(Stopped):
        trained(tmp_path / "cut", first)
    random.seed(99)
    engine, result = trained(tmp_path / "cut", second)
    assert result["resumed_at"] == 4
    assert first.drawn + second.drawn == whole.drawn
    assert engine.times_seen == expected.times_seen == {"d-1": 18}
    for name in engine.trained:
        assert torch.equal(engine.whole(name), expected.whole(name))


def test_a_save_of_other_settings_is_left_and_one_of_other_speed_is_taken(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        trained(tmp_path, Drawing(stop=3))
    with pytest.raises(Stopped):  # it resumes, and stops at once
        trained(tmp_path, Drawing(stop=3), zero_stage=2, micro_tokens=1)
    assert trained(tmp_path, Drawing(), weight_decay=0.1)[1]["resumed_at"] == 0


def test_a_run_saved_after_its_last_step_but_one_takes_the_last(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        trained(tmp_path, Drawing(stop=5))
    _, result = trained(tmp_path, Drawing())
    assert (result["resumed_at"], result["steps"]) == (5, 6)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun on two machines", "deepspeed"])
def test_a_recipe_runs_under_launchers_of_several_machines(
    base: str, tmp_path: Path, launcher: str
) -> None:
    run_dir = prepared(base, tmp_path)
    scripts = Path(sys.executable).parent
    recipe = ["flywheel.train.sft", str(run_dir)]
    if launcher == "deepspeed":
        starts = [["deepspeed", "--num_accelerators", "2", "--module", *recipe]]
    else:
        meeting = ["--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:29871", "--rdzv_id", "1"]
        agent = ["torchrun", "--nnodes", "2", "--nproc_per_node", "1", *meeting]
        starts = [[*agent, "--local_addr", "127.0.0.1", "-m", *recipe]] * 2
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"PYTHONPATH": str(Path(__file__).parent.parent), "DS_ACCELERATOR": "cpu"}
    running = [
        subprocess.Popen(
            start, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for start in starts
    ]
    said = [one.communicate()[0] for one in running]
    assert [one.returncode for one in running] == [0] * len(starts), said[0][-3000:]
    result = json.loads((run_dir / "result.json").read_text())
    assert (result["world"], result["steps"], result["zero_stage"]) == (2, 12, 2)
    steps = [json.loads(line)["step"] for line in (run_dir / "metrics.jsonl").open()]
    assert steps == list(range(1, 13))  # one process alone writes
