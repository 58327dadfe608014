"""Landed records and the edges of the lineage as views, to be asked in SQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from flywheel.ingest import read_batches
from flywheel.layout import Layout
from flywheel.lineage.edges import RECORD_CHECKPOINTS, RECORD_DATASETS

ATTRIBUTES = (
    "record_uid",
    "record_id",
    "kind",
    "source",
    "annotator_id",
    "annotator_kind",
    "guideline_version",
    "licence",
    "cost_usd",
    "batch_id",
    "file",
    "line_no",
)
KEY = "md5_number_lower(record_uid)"  # of a record, as edges have it


@contextmanager
def open_records(layout: Layout) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with views of the edges, of every landed record (`records`), and of every
    record once (`records_once`).

    Records of raw sources get their ids where staging gives them a meaning, in the warehouse. They
    keep their ids when they are delivered again; no other record has the id of another.
    """
    with duckdb.connect() as connection:
        for name in (RECORD_CHECKPOINTS, RECORD_DATASETS):
            connection.execute(
                f"create view {name} as select * from "
                f"read_parquet('{_quoted(layout.lineage(name))}/*.parquet')"
            )
        columns = ", ".join(ATTRIBUTES)
        landed = f"read_parquet('{_quoted(layout.lake)}/landing/*/*.parquet', union_by_name = true)"
        told = once = f"select {columns} from {landed}"
        raw = [one.batch_id for one in read_batches(layout) if one.rows_by_kind.get("raw")]
        if raw and layout.warehouse_copy.exists():
            connection.execute(
                f"attach '{_quoted(layout.warehouse_copy)}' as warehouse (read_only)"
            )
            batches = ", ".join(f"'{one}'" for one in raw)
            source = f"from warehouse.intermediate.int_labels_unioned where batch_id in ({batches})"
            told += f" union all select {columns} {source}"
            once += (
                f" union all (select distinct on (record_uid) {columns} {source} "
                f"order by record_uid, batch_id)"
            )
        connection.execute(f"create view records as {told}")
        connection.execute(f"create view records_once as {once}")
        yield connection


def quoted(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
