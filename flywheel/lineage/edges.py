"""The lineage as Parquet: which record is in which dataset, and in which checkpoint.

It repeats what manifests and frozen files say, in a form that can be asked from either side. It can
be thrown away at any time, but for what it alone remembers of checkpoints that were trained over or
removed and that others descend from: those would be told as unknown.

Edges have one file per dataset and per checkpoint, in the order of their record: a question about
one record reads the few row groups that may hold it. A question about a thousand reads
`record_key`, eight bytes an edge, in place of their names; of ten million records, two share a key
with a chance of three in a million. What is said of checkpoints and datasets themselves is one file
for each table.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flywheel.datasets.manifest import DatasetManifest
from flywheel.errors import FlywheelError, ManifestError
from flywheel.lake import LINEAGE, ensure, write_table
from flywheel.layout import Layout
from flywheel.lineage.checkpoints import (
    EDGES,
    FORMER,
    MANIFEST,
    Known,
    distances,
    former_name,
    id_of,
    known_checkpoints,
    manifests,
    name_of,
    place_of,
    recalled,
    remember,
    unknown_among,
)
from flywheel.models.publish import record_counts

RECORD_CHECKPOINTS, RECORD_DATASETS = EDGES, "record_datasets"
FACTS = ("checkpoints", "checkpoint_ancestors", "checkpoint_datasets", "datasets")
ROW_GROUP = 10_000  # edges that are read to find one


def refresh(layout: Layout) -> int:
    """Write the edges of what was frozen and trained since, remove those of what is gone.

    A checkpoint that is gone keeps its edges, under a name with its hash, for as long as another
    descends from it. One whose records cannot be read has none: it is told as unknown.

    Returns:
        Files of edges written.
    """
    ensure(layout)
    written = 0
    there: dict[str, dict[str, Any]] = {}  # by content: names may be those of others by now
    current = set()
    for name, folder, facts in manifests(layout):
        path = place_of(layout, name, facts["content_hash"])
        there[facts["content_hash"]] = facts
        current.add(path)
        if not path.exists():
            try:
                counts = record_counts(folder)
            except ManifestError:
                continue
            write_checkpoint_edges(path, name, counts)
            written += 1
        if not path.with_suffix(".json").exists():
            remember(path, facts)
    _retire(layout, current, there)
    datasets = {_place(layout, RECORD_DATASETS, *one): one for one in _frozen(layout)}
    for path in layout.lineage(RECORD_DATASETS).glob("[!_.]*.parquet"):
        if path not in datasets:
            path.unlink(missing_ok=True)
    for path, (name, folder, _) in datasets.items():
        if path.exists():
            continue
        try:
            table = _of_dataset(name, folder)
        except (OSError, pa.ArrowInvalid):  # its own check tells of a file that is gone or torn
            continue
        write_table(table, path, row_group=ROW_GROUP)
        written += 1
    known = known_checkpoints(layout)
    read = {one: facts for one, facts in known.items() if not unknown_among(layout, known, [one])}
    if not all(_facts(layout, name).exists() for name in FACTS) or _is_stale(layout, read):
        _write_facts(layout, known, read, datasets)
    return written


def _retire(layout: Layout, current: set[Path], there: Mapping[str, dict[str, Any]]) -> None:
    """Keep the edges of what is gone and is descended from, and remove those of all else."""
    paths = [
        path
        for path in layout.lineage(RECORD_CHECKPOINTS).glob("[!_.]*.parquet")
        if path not in current
    ]
    gone = {path.stem.rpartition(".")[2]: path for path in sorted(paths)}
    kept: dict[Path, dict[str, Any]] = {}
    waiting = list(there.values())
    while waiting:
        for parent in waiting.pop().get("parents", ()):
            content = parent.get("content_hash") or ""
            path = gone.get(content[:16])
            if path and path not in kept and content not in there:
                kept[path] = recalled(path) | {"content_hash": content}
                waiting.append(kept[path])
    for path in paths:
        if path in kept and FORMER in path.name:
            continue
        if path in kept:
            _rename(layout, path, kept[path])
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)


def _rename(layout: Layout, path: Path, facts: dict[str, Any]) -> None:
    """Write the edges of a checkpoint that is gone under a name that no other takes."""
    name = former_name(name_of(path), facts["content_hash"])
    place = place_of(layout, name, facts["content_hash"])
    table = pq.read_table(path)
    column = pa.array([name] * table.num_rows, pa.string())
    at = table.schema.get_field_index("checkpoint_id")
    table = table.set_column(at, table.schema.field(at), column)
    remember(place, facts)
    write_table(table, place, row_group=ROW_GROUP)


def write_checkpoint_edges(path: Path, name: str, counts: Iterable[tuple[str, int]]) -> None:
    """Write the edges of one checkpoint: its records, and how often each was in a step."""
    edges = sorted(counts)
    uids, times = zip(*edges, strict=True) if edges else ((), ())
    table = _edges(RECORD_CHECKPOINTS, uids, checkpoint_id=name, times_seen=times)
    write_table(table, path, row_group=ROW_GROUP)


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


def _is_stale(layout: Layout, known: Known) -> bool:
    """Whether the facts are of other checkpoints or datasets than those that are there."""
    told = []
    for name in ("checkpoints", "datasets"):
        columns = [f"{name[:-1]}_id", "content_hash"]
        rows = pq.read_table(_facts(layout, name), columns=columns).to_pylist()
        told.append(sorted(tuple(row.values()) for row in rows))
    found = [(name, facts["content_hash"]) for name, facts in known.items()]
    return told != [sorted(found), sorted((one, content) for one, _, content in _frozen(layout))]


def _write_facts(layout: Layout, known: Known, read: Known, datasets: Any) -> None:
    """What is said of each checkpoint and dataset as a whole, and of their descent."""
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in FACTS}
    for name, facts in read.items():
        path = place_of(layout, name, facts["content_hash"])
        times = pq.read_table(path, columns=["times_seen"])["times_seen"]
        counted = (times.length(), pc.sum(times).as_py() or 0)
        kind, _, generation = name.partition("/")
        rows["checkpoints"].append((name, kind, generation, facts["content_hash"], *counted))
        rows["checkpoint_ancestors"] += [(name, *one) for one in distances(known, name).items()]
        rows["checkpoint_datasets"] += [(name, *one) for one in facts.get("datasets", {}).items()]
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
