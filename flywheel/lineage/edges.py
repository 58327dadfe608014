"""Edges of the lineage as Parquet: which record is in which dataset, and in which checkpoint.

They repeat what manifests and frozen files say, in a form that can be asked from either side, and
can be thrown away at any time. One file per dataset and per checkpoint, its edges in the order of
their record: a question about one record reads the few row groups that may hold it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.datasets.manifest import DatasetManifest
from flywheel.errors import FlywheelError
from flywheel.lake import LINEAGE, ensure, write_table
from flywheel.layout import Layout
from flywheel.models.publish import manifest_of, record_counts

CHECKPOINT_RECORDS, DATASET_RECORDS = "checkpoint_records", "dataset_records"
MANIFEST = "manifest.json"
ROW_GROUP = 10_000  # edges that are read to find one


def refresh(layout: Layout) -> int:
    """Write the edges of what was frozen and trained since, remove those of what is gone.

    Returns:
        Files written.
    """
    ensure(layout)
    wanted = dict(_checkpoints(layout)) | dict(_datasets(layout))
    for name in (CHECKPOINT_RECORDS, DATASET_RECORDS):
        for path in layout.lineage(name).glob("[!_.]*.parquet"):
            if path not in wanted:
                path.unlink(missing_ok=True)
    written = 0
    for path, folder in wanted.items():
        if not path.exists():
            is_dataset = path.parent == layout.lineage(DATASET_RECORDS)
            table = _of_dataset(folder) if is_dataset else _of_checkpoint(folder)
            write_table(table, path, row_group=ROW_GROUP)
            written += 1
    return written


def manifests(layout: Layout) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Id (`policy/g0001`), folder and manifest of every published checkpoint."""
    for path in sorted((layout.artifacts / "checkpoints").glob(f"*/[!.]*/{MANIFEST}")):
        if facts := manifest_of(path.parent):  # torn or foreign ones are used by nothing
            yield id_of(path.parent), path.parent, facts


def id_of(folder: Path) -> str:
    """How a dataset or checkpoint is called: its kind, and its own name."""
    return f"{folder.parent.name}/{folder.name}"


def _checkpoints(layout: Layout) -> Iterator[tuple[Path, Path]]:
    for name, folder, facts in manifests(layout):
        yield _place(layout.lineage(CHECKPOINT_RECORDS), name, facts["content_hash"]), folder


def _datasets(layout: Layout) -> Iterator[tuple[Path, Path]]:
    for path in sorted((layout.artifacts / "datasets").glob(f"*/[!.]*/{MANIFEST}")):
        try:
            content = DatasetManifest.load(path.parent).content_hash
        except FlywheelError:
            continue
        yield _place(layout.lineage(DATASET_RECORDS), id_of(path.parent), content), path.parent


def _place(folder: Path, name: str, content: str) -> Path:
    """A file of edges is of one content: what is trained again gets another."""
    return folder / f"{name.replace('/', '.')}.{content[:16]}.parquet"


def _of_checkpoint(folder: Path) -> pa.Table:
    edges = sorted(record_counts(folder))
    uids, times = zip(*edges, strict=True) if edges else ((), ())
    return _edges(CHECKPOINT_RECORDS, uids, checkpoint_id=id_of(folder), times_seen=times)


def _of_dataset(folder: Path) -> pa.Table:
    found: list[tuple[str, str]] = []
    for split in DatasetManifest.load(folder).rows_by_split:
        path = folder / f"{split}.parquet"
        names = pq.read_schema(path).names
        if "record_uids" in names:
            lists = pq.read_table(path, columns=["record_uids"])["record_uids"].to_pylist()
            found += [(uid, split) for uids in lists for uid in uids or ()]
    edges = sorted(set(found))
    uids, splits = zip(*edges, strict=True) if edges else ((), ())
    return _edges(DATASET_RECORDS, uids, dataset_id=id_of(folder), split=splits)


def _edges(name: str, uids: Any, **columns: Any) -> pa.Table:
    values = {"record_uid": list(uids)} | {
        key: [value] * len(uids) if isinstance(value, str) else list(value)
        for key, value in columns.items()
    }
    return pa.table(values, schema=LINEAGE[name])
