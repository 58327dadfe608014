"""One whole turn on the sample world: how long, and how much of it is not training or sampling."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.measurement import Measurement

LIMIT_SECONDS = 300.0  # what `make run` may take after installation
ORCHESTRATION_LIMIT = 0.25


def measure() -> list[Measurement]:
    """Take a first turn and a second one in a fresh home, as a newcomer would."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"FLYWHEEL_HOME": folder}
        for name in ("first turn", "second turn"):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            started = time.monotonic()
            command = [sys.executable, "-m", "flywheel.cli", "run"]
            subprocess.run(command, env=environment, check=True)
            wall = time.monotonic() - started
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = sum(after[:2]) - sum(before[:2])
            turn = json.loads((Path(folder) / "turn.json").read_text())
            stages = ", ".join(f"{k} {v:.0f}" for k, v in turn["seconds"]["by_stage"].items())
            rows += [
                _row(f"{name}: wall", wall, "s", "limit", LIMIT_SECONDS, f"{cpu:.0f} CPU s"),
                _row(
                    f"{name}: orchestration",
                    turn["orchestration_frac"],
                    "of the wall",
                    "limit",
                    ORCHESTRATION_LIMIT,
                    f"seconds by stage: {stages}",
                ),
            ]
    return rows


def _row(
    name: str, value: float, unit: str, peer: str, peer_value: float, conditions: str
) -> Measurement:
    return Measurement(
        name=name,
        value=value,
        unit=unit,
        peer=peer,
        peer_value=peer_value,
        ratio=value / peer_value,
        conditions=conditions,
    )
