"""Landed records and the edges of the lineage as views, to be asked in SQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from flywheel.ingest import read_batches
from flywheel.layout import Layout
from flywheel.lineage.edges import CHECKPOINT_RECORDS, DATASET_RECORDS

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


@contextmanager
def open_records(layout: Layout) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with views of the edges and of every landed record.

    Records of raw sources get their ids where staging gives them a meaning, in the warehouse.
    """
    with duckdb.connect() as connection:
        for name in (CHECKPOINT_RECORDS, DATASET_RECORDS):
            connection.execute(
                f"create view {name} as select * from "
                f"read_parquet('{_quoted(layout.lineage(name))}/*.parquet')"
            )
        columns = ", ".join(ATTRIBUTES)
        landed = f"read_parquet('{_quoted(layout.lake)}/landing/*/*.parquet', union_by_name = true)"
        told = f"select {columns} from {landed}"
        raw = [one.batch_id for one in read_batches(layout) if one.rows_by_kind.get("raw")]
        if raw and layout.warehouse_copy.exists():
            connection.execute(
                f"attach '{_quoted(layout.warehouse_copy)}' as warehouse (read_only)"
            )
            batches = ", ".join(f"'{one}'" for one in raw)
            told += (
                f" union all select {columns} from warehouse.intermediate.int_labels_unioned "
                f"where batch_id in ({batches})"
            )
        connection.execute(f"create view records as {told}")
        yield connection


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
