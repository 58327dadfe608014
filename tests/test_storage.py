"""Dagster's storage where the process of a run is killed, as by a power cut."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from assets import automation
from assets.resources import Home
from assets.storage import instance_of

ROOT = Path(__file__).parent.parent
HOSTS_A_RUN = """
import sys, time
from pathlib import Path
import dagster as dg
from assets.resources import Home
from assets.storage import instance_of

@dg.asset(pool="warehouse")
def endless(home: Home) -> None:
    (home.layout.root / "at_work").touch()
    time.sleep(600)

home = Home(root=sys.argv[1])
with instance_of(home.layout) as instance:
    dg.materialize([endless], instance=instance, resources={"home": home})
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "inbox").mkdir()
    return Home(root=str(tmp_path))


def ask_inbox_sensor(home: Home, instance: dg.DagsterInstance) -> str:
    context = dg.build_sensor_context(instance=instance, resources={"home": home})
    return automation.new_files_in_the_inbox(context).skip_message


def test_a_launched_run_whose_process_is_killed_ends_at_the_next_tick(home: Home) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOSTS_A_RUN, home.root],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not (Path(home.root) / "at_work").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        with instance_of(home.layout) as instance:
            assert "in flight" in ask_inbox_sensor(home, instance)
            (run,) = instance.get_runs()
            assert not run.is_finished, "its process is at work"

            process.send_signal(signal.SIGKILL)
            process.wait()
            assert "nothing new" in ask_inbox_sensor(home, instance)
            (run,) = instance.get_runs()
            assert run.status is dg.DagsterRunStatus.FAILURE
            pool = instance.event_log_storage.get_concurrency_info("warehouse")
            assert pool.active_slot_count == 0
    finally:
        process.kill()
        process.wait()
