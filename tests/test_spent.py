"""Seconds of a run over its launches: what a kill cost is paid, too."""

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flywheel.errors import LaunchError
from flywheel.layout import Layout
from flywheel.lineage.checkpoints import known_checkpoints
from flywheel.lineage.descent import descent
from flywheel.process import spent
from flywheel.process.launch import _prepare as prepare
from flywheel.process.launch import launch, only_one, write_json
from flywheel.process.spent import NAME, spending
from flywheel.train import state
from flywheel.train.config import SftSettings
from tests.models_for_tests import demonstrations, tiny

ROOT = Path(__file__).parent.parent

KILLED = (
    "import sys, pickle, pathlib; from flywheel.process import launch, spent;"
    "spent.BEAT_SECONDS = 0.1; s = pickle.load(open(sys.argv[1], 'rb'));"
    "launch.launch(sys.argv[3], s, pathlib.Path(sys.argv[2]), log=print)"
)
STAND_IN = """
import time
from flywheel.process.worker import start
from flywheel.train.config import SftSettings

def train(settings, run_dir):
    save = run_dir / "state" / "step-00000001"
    is_resumed = save.exists()
    save.mkdir(parents=True, exist_ok=True)
    if not is_resumed:
        time.sleep(60)
    return {"steps": 2, "resumed_at": int(is_resumed)}

start(train, SftSettings)
"""


def is_at_work(run: Path) -> bool:
    """Whether a process holds the folder of a run."""
    try:
        with only_one(run):
            return False
    except LaunchError:
        return True


@pytest.mark.parametrize(
    "recipe", ["stand_in", pytest.param("flywheel.train.sft", marks=pytest.mark.slow)]
)
def test_a_run_that_was_killed_and_gone_on_from_costs_the_seconds_of_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    layout = Layout(tmp_path)
    settings = SftSettings(
        model=tiny(tmp_path / "base") if recipe != "stand_in" else "base",
        dataset=demonstrations(tmp_path / "demonstration"),
        output=str(layout.checkpoint("sft_policy", "g0001")),
        epochs=20.0,
        batch=8,
        save_seconds=0.0,
    )
    if recipe == "stand_in":
        Path(settings.output).mkdir(parents=True)
    run = layout.run("sft_policy", "g0001")
    (tmp_path / "s").write_bytes(pickle.dumps(settings))
    began = time.monotonic()
    first = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path / "s", run, recipe])
    while time.monotonic() < began + 60:
        seconds, _ = spent.spent(run) or (0.0, 0.0)
        if seconds > 0.2 and any(run.glob("state/step-*")):
            break
        time.sleep(0.05)
    first.kill()
    first.wait()
    most = time.monotonic() - began
    seconds, none = spent.spent(run) or (0.0, 0.0)
    assert 0.2 < seconds < most and not none
    while is_at_work(run) and time.monotonic() < began + 90:
        time.sleep(0.1)  # what it had started ends, too
    second = time.monotonic()
    result = launch(recipe, settings, run, log=lambda line: None)
    last = time.monotonic() - second
    assert 0 < result["resumed_at"] < result["steps"] and not (run / NAME).exists()
    assert result["earlier_seconds"] == seconds and 0 < result["process_seconds"] < last + 0.01
    (row,) = descent(layout, known_checkpoints(layout), ["sft_policy/g0001"], 3600.0)
    total = seconds + result["process_seconds"]
    assert row["hours"] == pytest.approx(total / 3600, abs=1e-4)
    assert row["usd"] == pytest.approx(total, abs=1e-3)
    again = launch(recipe, settings, run, log=lambda line: None)  # it is read back
    assert again == result == json.loads((run / "result.json").read_text())


def test_launches_add_up_and_a_run_that_begins_anew_forgets_them(tmp_path: Path) -> None:
    old = {"recipe": "r", "inputs": {"dataset": "a"}, "settings": {"epochs": 1}}
    for changed, is_saved, kept in (
        ({}, False, True),
        ({"settings": {"epochs": 2}}, True, True),  # for the loop to tell
        ({"settings": {"epochs": 2}}, False, False),
        ({"inputs": {"dataset": "b"}}, True, False),
        ({"recipe": "another"}, True, False),
    ):
        write_json(tmp_path / "config.json", old)
        write_json(tmp_path / NAME, {"seconds": 2.0, "earlier": 3.0})
        if is_saved:
            (tmp_path / "state" / "step-00000001").mkdir(parents=True)
        prepare(tmp_path, {**old, **changed})
        assert (tmp_path / NAME).exists() == kept, changed
        state.forget(tmp_path / "state")
    write_json(tmp_path / NAME, {"seconds": 2.0, "earlier": 3.0})
    with pytest.raises(KeyboardInterrupt), spending(tmp_path):
        raise KeyboardInterrupt
    assert (spent.spent(tmp_path) or (0.0, 0.0))[1] == 5.0
    with spending(tmp_path):
        state.forget(tmp_path / "state")  # as the loop does with a save of other settings
    assert (spent.spent(tmp_path) or (0.0, 1.0))[1] == 0.0
    (tmp_path / NAME).write_text("torn")
    assert spent.spent(tmp_path) is None
