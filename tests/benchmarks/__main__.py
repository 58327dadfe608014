"""Run the benchmarks of one group or of all, print one table, write `var/bench/<group>.json`.

A group is a module `bench_<group>.py` with `measure() -> list[Measurement]`.
"""

import importlib
import importlib.util
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from flywheel.process.launch import write_json

GROUPS = ("turn", "training", "data", "gate")
OUT = Path(__file__).parents[2] / "var" / "bench"


def main(asked: list[str]) -> int:
    """Measure the groups asked for (none: all that exist)."""
    if unknown := set(asked) - set(GROUPS):
        print(f"no benchmark group {', '.join(unknown)}; there are {', '.join(GROUPS)}")
        return 2
    console = Console()
    table = Table("group", "what", "value", "unit", "peer", "its value", "ratio", "conditions")
    for group in asked or GROUPS:
        module = f"tests.benchmarks.bench_{group}"
        if importlib.util.find_spec(module) is None:
            console.print(f"[dim]{group}: nothing is measured yet")
            continue
        rows = [asdict(one) for one in importlib.import_module(module).measure()]
        write_json(OUT / f"{group}.json", rows)
        for row in rows:
            cells = [f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()]
            table.add_row(group, *cells)
    console.print(table)
    console.print(f"as JSON: {OUT}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main([name for name in sys.argv[1:] if name]))
