"""Comparisons by the million from a file to the marts, as the wheel takes them there.

Ten million are not part of a plain run, for they take minutes and gigabytes:
`FLYWHEEL_BENCH_COMPARISONS=10000000 python -m tests.benchmarks.land_to_marts` (the number may be
any). What a night of 1 % costs after a full load is. Every stage is a process of its own, so that
its peak of memory is its own; what it starts, dbt for one, counts with it.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from flywheel.ingest import read_batches
from flywheel.layout import Layout
from flywheel.warehouse import row_counts
from tests.benchmarks.comparisons import write_comparisons
from tests.benchmarks.measurement import Measurement

ASKED = "FLYWHEEL_BENCH_COMPARISONS"
FULL = 200_000  # of which a night is 1 %
LIMIT_SECONDS, LIMIT_BYTES = 20 * 60, 8e9  # for ten million, on two cores
TABLES = (
    "intermediate.int_comparisons_deduplicated",
    "intermediate.int_texts",
    "intermediate.int_votes_counted_by_pair",
    "marts.fct_preferences",
    "marts.fct_excluded",
)
STAGE = """
import sys
from pathlib import Path
from assets import drive
from assets.automation import rebuild_warehouse
from assets.resources import Home
from assets.storage import instance_of
home = Home(root=sys.argv[1])
if sys.argv[2] == "land":
    drive.land_now(home, sys.argv[3:])
else:
    with instance_of(home.layout) as instance:
        drive._run(rebuild_warehouse.name, instance, print, resources=home, run_config={})
"""


def measure() -> list[Measurement]:
    """What a night costs; and land and build as many comparisons as were asked for."""
    count = int(os.environ.get(ASKED, 0))
    return [_night(FULL), *([_whole(count)] if count else [])]


def _night(count: int) -> Measurement:
    """A full load, then 1 % more: from the file to the marts, beside a batch of a single line."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        sizes = {"full": count, "night": count // 100, "first": 1, "one": 1}
        pair = 0
        for one, size in sizes.items():
            write_comparisons(folder / f"{one}.jsonl", size, first_pair=pair, dirt=0)
            pair += size
        spent: dict[str, dict[str, float]] = {}
        for one in sizes:
            layout = Layout(folder / ("small" if one in ("first", "one") else "large"))
            spent[one] = {
                "landing": _stage(layout, "land", str(folder / f"{one}.jsonl"))["cpu"],
                "to the marts": _stage(layout, "build")["cpu"],
            }
    full, night, fixed = (sum(spent[one].values()) for one in ("full", "night", "one"))
    told = "; ".join(
        f"{what} {', '.join(f'{one} {seconds[what]:.1f}' for one, seconds in spent.items())}"
        for what in spent["full"]
    )
    return Measurement(
        name="incremental_cost_frac_to_marts",
        value=(night - fixed) / full,
        unit="of the CPU seconds of the full load",
        peer="target",
        peer_value=0.03,
        ratio=(night - fixed) / full / 0.03,
        conditions=f"{count} comparisons, a night of 1 %, the first line of an empty home and one "
        f"line more; CPU seconds: {told}",
    )


def _whole(count: int) -> Measurement:
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        layout = Layout(Path(name) / "var")
        path = Path(name) / "comparisons.jsonl"
        write_comparisons(path, count)
        stages = {
            "land": _stage(layout, "land", str(path)),
            "build": _stage(layout, "build"),
        }
        rows = {"landed": sum(one.rows for one in read_batches(layout))}
        rows |= row_counts(layout.warehouse_copy, TABLES)
        size = layout.warehouse.stat().st_size
    wall = sum(one["wall"] for one in stages.values())
    limit = LIMIT_SECONDS * count / 10_000_000
    told = "; ".join(
        f"{name}: {one['wall']:.0f} s, {one['cpu']:.0f} CPU s, "
        f"peak so far {one['peak'] / 1e9:.2f} GB"
        for name, one in stages.items()
    )
    return Measurement(
        name="land_to_marts_10m" if count == 10_000_000 else f"land_to_marts_{count}",
        value=wall,
        unit="s",
        peer=f"limit, {LIMIT_BYTES / 1e9:.0f} GB",
        peer_value=limit,
        ratio=wall / limit,
        conditions=f"{count} lines; {told}; rows {json.dumps(rows)}; warehouse {size / 1e9:.1f} GB",
    )


def _stage(layout: Layout, *arguments: str) -> dict[str, Any]:
    """Wall and CPU seconds of a stage, and the peak of the largest of its processes in bytes."""
    program = (sys.executable, "-c", STAGE, str(layout.root), *arguments)
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "FLYWHEEL_HOME": str(layout.root)}
    subprocess.run(program, check=True, env=environment, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall": time.monotonic() - began,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak": after.ru_maxrss * 1024,  # of any stage so far
    }


if __name__ == "__main__":
    for one in measure():
        print(one)
