"""Landing beside DuckDB's own typed read of the same dirty file, and what a nightly batch costs.

The peer parses every leaf into its type and passes over what is spoilt; landing parses as
strictly, keeps every spoilt line with its reason, makes keys, hashes and conversations, and
writes Parquet. So it stands beside the peer twice: reading into a table in memory, as the target
has it, and writing what it read to Parquet as landing must, uncompressed as landing does where
nothing else is asked for, and compressed. Expectations are measured apart.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import duckdb

from flywheel.ingest import BatchManifest, discover, land
from flywheel.ingest.intake import Judge
from flywheel.ingest.native import state
from flywheel.layout import Layout
from flywheel.quality import judge
from flywheel.quality.gate import DEFAULT, validation
from flywheel.records.kinds import Comparison
from tests.benchmarks.comparisons import DIRT, SPOIL, write_comparisons
from tests.benchmarks.measurement import Measurement

LINES = 300_000  # so that what a landing costs whatever it lands is small beside them
FULL = 100_000  # lines of the load that a night is measured by
REPEATS = 3
NIGHTS = 100
COPY = "copy ({{}}) to '{{}}' (compression {})"
TYPES = {"seconds": "DOUBLE", "cost_usd": "DOUBLE", "occurred_at": "TIMESTAMP", "metadata": "JSON"}


def measure() -> list[Measurement]:
    """Throughput beside DuckDB's, and the cost of a night of 1 % after a hundred of them."""
    validation("comparison", DEFAULT)  # three seconds of import, once a process
    with tempfile.TemporaryDirectory() as name:
        return [*_throughput(Path(name)), *_nights(Path(name))]


def _throughput(folder: Path) -> list[Measurement]:
    path = folder / "dirty.jsonl"
    write_comparisons(path, LINES)
    runs: dict[str, Callable[[], None]] = {
        "landed": lambda: _check(_landed(path, folder, None)),
        "judged": lambda: _check(_landed(path, folder, judge)),
        "landed_zstd": lambda: _check(_landed(path, folder, None, "zstd")),
        "read": lambda: _read(path, "create table read as"),
        "copied": lambda: _read(path, COPY.format("uncompressed"), folder / "x.parquet"),
        "copied_zstd": lambda: _read(path, COPY.format("zstd"), folder / "x.parquet"),
    }
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPEATS):
        for name, run in runs.items():
            rates[name].append(LINES / _cpu_seconds(run))
    told = f"{LINES} comparisons of {path.stat().st_size // LINES} bytes, 1 line in {DIRT} spoilt"
    found = []
    for name, own, peer, what in (
        ("ingest_vs_duckdb", "landed", "read", "typed read_json(ignore_errors) into memory"),
        ("ingest_judged_vs_duckdb", "judged", "read", "typed read_json(ignore_errors) into memory"),
        ("ingest_vs_duckdb_copy", "landed", "copied", "the same read, written to Parquet"),
        ("ingest_vs_duckdb_copy_zstd", "landed_zstd", "copied_zstd", "both compressed by zstd"),
    ):
        ratios = [one / other for one, other in zip(rates[own], rates[peer], strict=True)]
        found.append(
            Measurement(
                name=name,
                value=median(rates[own]),
                unit="lines per CPU second",
                peer=f"DuckDB {duckdb.__version__}, {what}",
                peer_value=median(rates[peer]),
                ratio=median(ratios),
                conditions=f"{told}; read by the {state()}; ratios {min(ratios):.2f} to "
                f"{max(ratios):.2f} over {REPEATS} interleaved repeats",
            )
        )
    return found


def _nights(folder: Path) -> list[Measurement]:
    """One full load, then a hundred batches of 1 % of it, each in a landing of its own."""
    layout = Layout(folder / "nights")
    paths = [folder / f"{number}.jsonl" for number in range(NIGHTS + 1)]
    write_comparisons(paths[0], FULL, dirt=0)
    for number, path in enumerate(paths[1:], start=1):
        write_comparisons(path, FULL // 100, first_pair=number * FULL // 100 + FULL, dirt=0)
    # what a landing costs whatever it lands: a line each, where there is no history to be read
    few, lines = Layout(folder / "few"), [folder / f"line-{number}.jsonl" for number in range(6)]
    for number, path in enumerate(lines):
        write_comparisons(path, 1, seed=1, first_pair=number, dirt=0)
    fixed = median([_cpu_seconds(lambda at=path: _land(at, few)) for path in lines][1:])  # type: ignore[misc]
    spent = [_cpu_seconds(lambda at=path: _land(at, layout)) for path in paths]  # type: ignore[misc]
    first, last = median(spent[1:6]), median(spent[-5:])
    return [
        Measurement(
            name="incremental_cost_frac",
            value=(last - fixed) / spent[0],
            unit="of the CPU seconds of the full load",
            peer="target",
            peer_value=0.03,
            ratio=(last - fixed) / spent[0] / 0.03,
            conditions=f"{FULL} comparisons in {spent[0]:.2f} CPU s, then {NIGHTS} nights of 1 %: "
            f"the first five {first:.3f} s, the last five {last:.3f} s, of it {fixed:.3f} s for a "
            f"batch of one line in a lake of as few",
        )
    ]


def _landed(
    path: Path, folder: Path, judge: Judge | None, compression: str = "none"
) -> BatchManifest:
    with tempfile.TemporaryDirectory(dir=folder) as home:
        return _land(path, Layout(Path(home)), judge, compression)


def _land(
    path: Path, layout: Layout, judge: Judge | None = judge, compression: str = "none"
) -> BatchManifest:
    discover._hashed.cache_clear()  # a landing hashes a file that it has not seen
    told: dict[str, Any] = {"source": "bench", "log": lambda _: None, "compression": compression}
    (batch,) = land([path], layout, judge=judge, **told)
    return batch


def _check(batch: BatchManifest) -> None:
    """Every spoilt line is found: a blank is counted, and a big integer is kept as it is."""
    spoilt, kinds = LINES // DIRT, len(SPOIL)
    wanted = (spoilt // kinds, spoilt - 2 * (spoilt // kinds))
    assert (batch.blanks, batch.quarantined) == wanted, (batch.blanks, batch.quarantined)


def _read(path: Path, how: str, out: Path | None = None) -> None:
    names = ("kind", *Comparison.__struct_fields__)
    columns = {name: TYPES.get(name, "VARCHAR") for name in names}
    query = f"""
        select * from read_json(
            '{path}', format = 'newline_delimited', columns = {columns}, ignore_errors = true
        )
    """
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute("set enable_progress_bar = false")
        connection.execute(how.format(query, out) if out else f"{how} {query}")


def _cpu_seconds(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began
