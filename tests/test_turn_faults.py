"""What may befall a turn: another turn, a kill in any step, a full disk. Nothing is lost by it."""

import fcntl
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flywheel.layout import Layout
from flywheel.sample import deliver
from tests.turns import ROOT, SETTINGS, command, flywheel


def test_a_second_turn_at_the_same_time_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "turn.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = command(tmp_path, "turn")
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "is at work in" in errors and "FLYWHEEL_HOME" in errors


STEPS = [
    "landing",
    "staging_models",
    "duplicates",
    "mart_models",
    "datasets__preference_dataset",
    "training__base_policy",
    "training__sft_policy",
    "training__reward_model",
    "training__policy",
    "evaluation__held_out_evaluation",
]  # the ledger, which the gate writes, has a test of kills of its own


@pytest.mark.slow
def test_a_turn_killed_in_every_step_heals_at_the_next_command(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(SETTINGS)
    deliver(Layout(tmp_path))
    killed = []
    for step in STEPS:
        process = command(tmp_path, "turn", "--base-model", "sample")
        assert process.stderr
        for line in process.stderr:
            if re.search(rf"started: .*\({step}\)", line):
                time.sleep(0.3)
                process.send_signal(signal.SIGKILL)
                killed.append(step)
                break
        process.wait()
    assert killed == STEPS
    turn = flywheel(tmp_path, "turn", "--base-model", "sample")
    assert turn["generation"] == "g0001"
    assert all(one["passed"] for one in turn["faults"])


@pytest.mark.slow
def test_feedback_that_came_after_a_kill_goes_into_the_next_generation(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(SETTINGS)
    deliver(Layout(tmp_path))
    process = command(tmp_path, "turn", "--base-model", "sample")
    assert process.stderr
    for line in process.stderr:
        if "(training__base_policy)" in line:
            process.send_signal(signal.SIGKILL)
    process.wait()
    example = next((ROOT / "examples" / "feedback").glob("*.jsonl"))
    shutil.copy(example, tmp_path / "inbox")
    assert flywheel(tmp_path, "turn", "--base-model", "sample")["generation"] == "g0002"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a disk of its own can be mounted by root on Linux only")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


@pytest.mark.slow
def test_a_turn_on_a_full_disk_says_so_and_heals_once_there_is_space(small_disk: Path) -> None:
    (small_disk / "settings.toml").write_text(SETTINGS)
    for megabytes in (6, 12, 16, 24, 45, 64, 90):  # full in another step each time
        grow = ["mount", "-o", f"remount,size={megabytes}m", str(small_disk)]
        subprocess.run(grow, check=True)
        process = command(small_disk, "run")
        _, errors = process.communicate(timeout=400)
        assert process.returncode == 1, f"{megabytes} MB were enough"
        assert re.search("flywheel: .*(space|disk)", errors, re.S), errors[-2000:]
    subprocess.run(["mount", "-o", "remount,size=400m", str(small_disk)], check=True)
    turn = flywheel(small_disk, "run")
    assert turn["generation"] == "g0001"
    assert all(one["passed"] for one in turn["faults"])
