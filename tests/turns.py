"""The command line in a home of its own, with seconds of training instead of minutes."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SETTINGS = """\
[train]
budget_seconds = 12
[evaluate]
prompt_limit = 40
[gate]
human_approval = true
"""


def command(home: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flywheel.cli", *arguments],
        cwd=ROOT,
        env=os.environ | {"FLYWHEEL_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def flywheel(home: Path, *arguments: str) -> dict:
    process = command(home, *arguments, "--json")
    out, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors[-4000:]
    return json.loads(out)
