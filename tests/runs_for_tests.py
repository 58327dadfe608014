"""Runs that the training tests share: one ready to start, and jobs in processes of their own."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flywheel.process.launch import write_json
from flywheel.train.config import SftSettings
from tests.models_for_tests import demonstrations


def prepared(base: str, folder: Path, **changes: Any) -> Path:
    """A folder for a run of twelve steps that saves after each."""
    chosen = {"epochs": 6.0, "batch": 8, "learning_rate": 1e-2, "warmup_steps": 3}
    settings = SftSettings(
        **{**chosen, "save_seconds": 0.0, **changes},
        model=str(base),
        dataset=demonstrations(folder / "demonstration"),
        output=str(folder / "sft"),
    )
    write_json(folder / "run" / "config.json", asdict(settings))
    return folder / "run"


def jobs(job: str, folder: Path, *arguments: Any) -> Any:
    """What a job of tests/train_jobs.py answers."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.train_jobs", job, folder / "job", *map(str, arguments)],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
