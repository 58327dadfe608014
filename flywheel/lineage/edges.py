"""The lineage as Parquet: which record is in which dataset, and in which checkpoint.

It repeats what manifests and frozen files say, in a form that can be asked from either side, and
can be thrown away at any time. Edges have one file per dataset and per checkpoint, in the order of
their record: a question about one record reads the few row groups that may hold it. A question
about a thousand reads `record_key`, eight bytes an edge, in place of their names; of ten million
records, two share a key with a chance of three in a million. What is said of checkpoints and
datasets themselves is one file for each table.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flywheel.datasets.manifest import DatasetManifest
from flywheel.errors import FlywheelError
from flywheel.lake import LINEAGE, ensure, write_table
from flywheel.layout import Layout
from flywheel.lineage.checkpoints import MANIFEST, distances, id_of, manifests
from flywheel.models.publish import record_counts

RECORD_CHECKPOINTS, RECORD_DATASETS = "record_checkpoints", "record_datasets"
FACTS = ("checkpoints", "checkpoint_ancestors", "checkpoint_datasets", "datasets")
ROW_GROUP = 10_000  # edges that are read to find one


def refresh(layout: Layout) -> int:
    """Write the edges of what was frozen and trained since, remove those of what is gone.

    Returns:
        Files of edges written.
    """
    ensure(layout)
    checkpoints = {_place(layout, RECORD_CHECKPOINTS, *one): one for one in _trained(layout)}
    datasets = {_place(layout, RECORD_DATASETS, *one): one for one in _frozen(layout)}
    for name in (RECORD_CHECKPOINTS, RECORD_DATASETS):
        for path in layout.lineage(name).glob("[!_.]*.parquet"):
            if path not in checkpoints and path not in datasets:
                path.unlink(missing_ok=True)
    written = 0
    for path, (name, folder, _) in checkpoints.items():
        if not path.exists():
            write_checkpoint_edges(path, name, record_counts(folder))
            written += 1
    for path, (name, folder, _) in datasets.items():
        if not path.exists():
            write_table(_of_dataset(name, folder), path, row_group=ROW_GROUP)
            written += 1
    if written or not all(_facts(layout, name).exists() for name in FACTS) or _is_stale(layout):
        _write_facts(layout, checkpoints, datasets)
    return written


def write_checkpoint_edges(path: Path, name: str, counts: Iterable[tuple[str, int]]) -> None:
    """Write the edges of one checkpoint: its records, and how often each was in a step."""
    edges = sorted(counts)
    uids, times = zip(*edges, strict=True) if edges else ((), ())
    table = _edges(RECORD_CHECKPOINTS, uids, checkpoint_id=name, times_seen=times)
    write_table(table, path, row_group=ROW_GROUP)


def place_of(layout: Layout, name: str, content: str) -> Path:
    """Where the edges of a checkpoint lie."""
    return _place(layout, RECORD_CHECKPOINTS, name, Path(), content)


def _trained(layout: Layout) -> Iterator[tuple[str, Path, str]]:
    for name, folder, facts in manifests(layout):
        yield name, folder, facts["content_hash"]


def _frozen(layout: Layout) -> Iterator[tuple[str, Path, str]]:
    for path in sorted((layout.artifacts / "datasets").glob(f"*/[!.]*/{MANIFEST}")):
        try:
            yield id_of(path.parent), path.parent, DatasetManifest.load(path.parent).content_hash
        except FlywheelError:  # torn: used by nothing
            continue


def _place(layout: Layout, table: str, name: str, folder: Path, content: str) -> Path:
    """A file of edges is of one content: what is trained again gets another."""
    file = f"{name.replace('/', '.')}.{content[:16]}.parquet"
    return layout.lineage(table) / file


def _facts(layout: Layout, name: str) -> Path:
    return layout.lineage(name) / "all.parquet"


def _is_stale(layout: Layout) -> bool:
    """Whether the facts are of other checkpoints or datasets than those that are there."""
    told = [
        pq.read_table(_facts(layout, name), columns=["content_hash"])["content_hash"].to_pylist()
        for name in ("checkpoints", "datasets")
    ]
    found = [[content for _, _, content in source(layout)] for source in (_trained, _frozen)]
    return [sorted(one) for one in told] != [sorted(one) for one in found]


def _write_facts(layout: Layout, checkpoints: Any, datasets: Any) -> None:
    """What is said of each checkpoint and dataset as a whole, and of their descent."""
    known = {name: facts for name, _, facts in manifests(layout)}
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in FACTS}
    for path, (name, folder, content) in checkpoints.items():
        times = pq.read_table(path, columns=["times_seen"])["times_seen"]
        counted = (times.length(), pc.sum(times).as_py() or 0)
        rows["checkpoints"].append((name, folder.parent.name, folder.name, content, *counted))
        rows["checkpoint_ancestors"] += [(name, *one) for one in distances(known, name).items()]
        read = known.get(name, {}).get("datasets", {})
        rows["checkpoint_datasets"] += [(name, *one) for one in read.items()]
    for name, folder, _ in datasets.values():
        it = DatasetManifest.load(folder)
        counts = (it.rows, it.record_count, it.annotator_count, it.cost_usd)
        rows["datasets"].append((name, it.name, it.generation, it.content_hash, *counts))
    for name, lines in rows.items():
        schema = LINEAGE[name]
        columns = list(zip(*lines, strict=True)) or [()] * len(schema)
        table = pa.table(
            [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema
        )
        write_table(table, _facts(layout, name))


def _of_dataset(name: str, folder: Path) -> pa.Table:
    found: list[tuple[str, str]] = []
    for split in DatasetManifest.load(folder).rows_by_split:
        path = folder / f"{split}.parquet"
        names = pq.read_schema(path).names
        if "record_uids" in names:
            lists = pq.read_table(path, columns=["record_uids"])["record_uids"].to_pylist()
            found += [(uid, split) for uids in lists for uid in uids or ()]
    edges = sorted(set(found))
    uids, splits = zip(*edges, strict=True) if edges else ((), ())
    return _edges(RECORD_DATASETS, uids, dataset_id=name, split=splits)


def _edges(name: str, uids: Any, **columns: Any) -> pa.Table:
    values = {"record_uid": pa.array(uids, pa.string())} | {
        key: [value] * len(uids) if isinstance(value, str) else list(value)
        for key, value in columns.items()
    }
    told = pa.table(values, schema=pa.schema([one for one in LINEAGE[name]][1:]))
    keyed = "select md5_number_lower(record_uid) as record_key, * from told"
    with duckdb.connect() as connection:
        return connection.register("told", told).execute(keyed).to_arrow_table().cast(LINEAGE[name])
