"""Training curves for TensorBoard: event files written anew from each run's `metrics.jsonl`."""

import json
import shutil
from pathlib import Path

from flywheel.errors import SettingsError
from flywheel.layout import Layout


def export(layout: Layout, generation: str | None = None) -> list[Path]:
    """Write the curves of one generation's runs, or of all; one folder of events a run.

    Steps lie on the time axis as long after each other as they took.

    Raises:
        SettingsError: The package that writes event files is not installed, or no run has a row.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise SettingsError(
            "TensorBoard's event files are written by a package that is not installed; "
            "pip install 'flywheel[tensorboard]'"
        ) from None
    written = []
    for metrics in sorted(layout.runs.glob(f"*/{generation or '*'}/metrics.jsonl")):
        name, of = metrics.parts[-3:-1]
        rows = _rows(metrics)
        if not rows:
            continue
        folder = layout.tensorboard / of / name
        shutil.rmtree(folder, ignore_errors=True)
        clock = metrics.stat().st_mtime - sum(row["seconds"] for row in rows)
        with SummaryWriter(str(folder)) as writer:
            for row in rows:
                clock += row["seconds"]
                for key, value in row.items():
                    if key != "step" and isinstance(value, int | float):
                        writer.add_scalar(key, value, int(row["step"]), walltime=clock)
        written.append(folder)
    if not written:
        raise SettingsError(
            f"no run of {generation or 'any generation'} has taken a step below "
            f"{layout.runs}; `flywheel turn` trains"
        )
    return written


def _rows(metrics: Path) -> list[dict[str, float]]:
    """Whole rows; a run may be adding one."""
    rows = []
    for line in metrics.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
