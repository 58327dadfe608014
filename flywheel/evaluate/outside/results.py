"""Results of other tools on a checkpoint of ours: one file a tool and task, beside the evaluation.

Each row says what was measured, by which version of what, on how many samples. The file says of
which weights: a row of weights that lie there no longer is told as such, and compares with nothing.
"""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import quote

from flywheel.errors import EvaluationError
from flywheel.evaluate.settings import HarnessSettings
from flywheel.layout import Layout
from flywheel.process.content import model_hash
from flywheel.process.launch import launch, write_json
from flywheel.process.settings import build

OUTSIDE = "outside"  # folder beside an evaluation


class Outside(TypedDict):
    """One number of another tool.

    Attributes:
        by: The tool, with its version.
        task: What it calls the task.
        task_version: As it numbers it.
        metric: What was measured, with the filter or the reduction of it.
        value: The number; null where none could be told.
        stderr: Its standard error, clustered by sample; null where the tool tells none.
        samples: How many it rests on; several attempts at one are one.
        attempts: How many of them were scored.
        left_out: Attempts that were not, by why: they are in no mean.
        cut_off: Attempts that ran into a limit and were scored as they stood.
    """

    by: str
    task: str
    task_version: str
    metric: str
    value: float | None
    stderr: float | None
    samples: int
    attempts: int
    left_out: dict[str, int]
    cut_off: int


def measure(
    layout: Layout, generation: str, *, log: Callable[[str], object] = print, **chosen: Any
) -> list[Path]:
    """Run tasks of the lm-evaluation-harness on a generation's policy, and store what came out.

    Raises:
        SettingsError: An option is none, or out of range.
        LaunchError: The harness is not installed, or failed; the message says why.
        EvaluationError: The generation has no policy.
    """
    settings = build(HarnessSettings, chosen, model=str(_policy(layout, generation)))
    run_dir = layout.run("harness", generation)
    result = launch("flywheel.evaluate.outside.harness", settings, run_dir, log=log)
    return store_results(layout, generation, result["results"])


def store_results(layout: Layout, generation: str, rows: Sequence[Outside]) -> list[Path]:
    """Write the rows of each tool and task; what it measured there before is replaced.

    Raises:
        EvaluationError: The generation has no policy to have measured.
    """
    folder = _policy(layout, generation)
    facts = {
        "generation": generation,
        "content_hash": model_hash(str(folder)),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    by_task: dict[str, list[Outside]] = {}
    for row in rows:
        name = quote(f"{row['by'].split()[0]}-{row['task']}", safe="")
        by_task.setdefault(name, []).append(row)
    paths = []
    for name, some in by_task.items():
        path = _folder(layout, generation) / f"{name}.json"
        write_json(path, facts | {"results": some})
        paths.append(path)
    return paths


def read_results(layout: Layout, generation: str) -> list[dict[str, Any]]:
    """Every row that is stored, with when it was, and whether of the weights that lie there."""
    now = model_hash(str(_policy(layout, generation)))
    return results_beside(layout.evaluation(generation), now)


def results_beside(folder: Path, content_hash: str) -> list[dict[str, Any]]:
    """Every row beside an evaluation, with when it was, and whether it is of these weights."""
    found = []
    for path in sorted((folder / OUTSIDE).glob("*.json")):
        told = json.loads(path.read_text())
        facts = {"at": told["at"], "is_current": told["content_hash"] == content_hash}
        found += [row | facts for row in told["results"]]
    return found


def _policy(layout: Layout, generation: str) -> Path:
    folder = layout.checkpoint("policy", generation)
    if not folder.is_dir():
        raise EvaluationError(f"{generation} has no policy at {folder}; take its turn first")
    return folder


def _folder(layout: Layout, generation: str) -> Path:
    return layout.evaluation(generation) / OUTSIDE
