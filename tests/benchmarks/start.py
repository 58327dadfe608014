"""How long a run takes from the start of its process to the end of its first step."""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from flywheel.process.launch import launch
from tests.benchmarks.measurement import Measurement
from tests.benchmarks.trainer_race import BATCH, build, settings_of

REPEATS = 3
LIMIT_SECONDS = 12.0
IMPORTS = ("torch", "transformers", "deepspeed")
TIMED = f"""
import json, time
found = {{}}
for name in {IMPORTS}:
    began = time.monotonic()
    __import__(name)
    found[name] = time.monotonic() - began
print(json.dumps(found))
"""


def start_seconds() -> list[Measurement]:
    """One step of SFT, with nothing behind it but publishing."""
    starts, canaries, imports = list[float](), list[float](), list[dict[str, float]]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        chosen, _ = settings_of("sft", folder)
        for number in range(REPEATS):
            run_dir = folder / f"run-{number}"
            began = time.time()
            result = launch(
                "flywheel.train.sft",
                replace(chosen, limit=BATCH, output=str(folder / f"out-{number}")),
                run_dir,
                log=lambda line: None,
            )
            starts.append((run_dir / "metrics.jsonl").stat().st_mtime - began)
            canaries.append(result["canary_seconds"])
            done = subprocess.run(
                [sys.executable, "-c", TIMED], capture_output=True, text=True, check=True
            )
            imports.append(json.loads(done.stdout.splitlines()[-1]))
    rest = ", ".join(f"{name} {median(one[name] for one in imports):.1f}" for name in IMPORTS)
    return [
        Measurement(
            name="start_seconds",
            value=median(starts),
            unit="s to the end of the first step",
            peer="limit",
            peer_value=LIMIT_SECONDS,
            ratio=median(starts) / LIMIT_SECONDS,
            conditions=f"{min(starts):.1f} to {max(starts):.1f} over {REPEATS} starts, 2.2 M "
            f"parameters, 384 rows; of it importing {rest}, canary {median(canaries):.1f}",
        )
    ]
