"""A request to stop ends a turn: its training process first, and nothing starts after it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster._utils.interrupts import capture_interrupts

from assets.drive import _stop_requests
from tests.models_for_tests import demonstrations, pages

MATERIALIZE = """
import sys
from pathlib import Path
import dagster as dg
from assets.partitions import generations
from assets.resources import Devices, Home
from assets.training import base_policy, sft_policy
with dg.DagsterInstance.ephemeral() as instance:
    instance.add_dynamic_partitions(generations.name, ["g0001"])
    result = dg.materialize(
        [base_policy, sft_policy],
        instance=instance,
        partition_key="g0001",
        resources={"home": Home(root=sys.argv[1]), "devices": Devices()},
        raise_on_error=False,
    )
print("SUCCESS" if result.success else "STOPPED", flush=True)
"""


def test_a_request_to_stop_is_no_failure_to_try_again(tmp_path: Path) -> None:
    """Dagster's own retry policy starts a step again that was asked to stop."""
    (tmp_path / "settings.toml").write_text("[base]\nepochs = 1000000\nhidden = 16\n")
    (tmp_path / "sample").mkdir()
    pq.write_table(pa.table({"text": pages() * 40}), tmp_path / "sample" / "corpus.parquet")
    demonstrations(tmp_path / "artifacts" / "datasets" / "demonstration" / "g0001")
    process = subprocess.Popen(
        [sys.executable, "-c", MATERIALIZE, tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    metrics = tmp_path / "artifacts" / "runs" / "base_policy" / "g0001" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    try:
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "STOPPED" in out and time.monotonic() - asked < 10
    size = metrics.stat().st_size
    time.sleep(1)
    assert metrics.stat().st_size == size  # the training process is gone
    assert not (tmp_path / "artifacts" / "runs" / "sft_policy").exists()  # nothing came after


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_heard_while_dagster_holds_the_handlers_and_ours_comes_back(
    number: signal.Signals,
) -> None:
    ours = signal.signal(signal.SIGTERM, lambda *_: None)
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does in the background
    try:
        mine = signal.getsignal(signal.SIGTERM)
        with _stop_requests() as asked:
            with capture_interrupts():
                assert asked() == 0
                os.kill(os.getpid(), number)
                assert asked() == number
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN  # what Dagster leaves
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, ours)
        signal.signal(signal.SIGINT, interrupt)
