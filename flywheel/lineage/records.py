"""Landed records and the edges of the lineage as views, to be asked in SQL."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
ID = "coalesce(record_id, left(content_sha256, 32))"  # as flywheel.lake.whole has it
CONSENT = """case when contains(metadata, '"consent"') then coalesce(
    json_extract_string(metadata, '$.consent.id'), json_extract_string(metadata, '$.consent')
) end"""
TERMS = """case when contains(metadata, '"consent"')
    then json_extract(metadata, '$.consent')::varchar end"""
STATEMENTS = "consents"  # raw source: what people agreed to and took back, see flywheel/rights
KEY = "md5_number_lower(record_uid)"  # of a record, as edges have it


@contextmanager
def open_records(layout: Layout) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with views of the edges, of every landed record (`records`), of every record
    once (`records_once`), and of those that were erased (`erased`).

    Records of raw sources get their ids where staging gives them a meaning, in the warehouse. They
    keep their ids when they are delivered again; no other record has the id of another.
    """
    with duckdb.connect() as connection:
        for name in (RECORD_CHECKPOINTS, RECORD_DATASETS):
            connection.execute(
                f"create view {name} as select * from "
                f"read_parquet('{_quoted(layout.lineage(name))}/*.parquet')"
            )
        connection.execute(
            f"create view erased as select record_uid, min(erasure) as erasure from "
            f"read_parquet('{_quoted(layout.erased)}/*.parquet') group by 1"
        )
        columns = ", ".join(ATTRIBUTES)
        landed = f"read_parquet('{_quoted(layout.lake)}/landing/*/*.parquet', union_by_name = true)"
        whole = f"(select * replace ({ID} as record_id) from {landed})"
        told = once = f"select {columns}, {CONSENT} as consent_id, {TERMS} as consent from {whole}"
        raw = [one.batch_id for one in read_batches(layout) if one.rows_by_kind.get("raw")]
        if raw and layout.warehouse_copy.exists():
            connection.execute(
                f"attach '{_quoted(layout.warehouse_copy)}' as warehouse (read_only)"
            )
            batches = ", ".join(f"'{one}'" for one in raw)
            source = f"from warehouse.intermediate.int_labels_unioned where batch_id in ({batches})"
            told += f" union all select {columns}, null, null {source}"
            once += (
                f" union all (select distinct on (record_uid) {columns}, null, null {source} "
                f"order by record_uid, batch_id)"
            )
        connection.execute(f"create view records as {told}")
        connection.execute(f"create view records_once as {once}")
        yield connection


def statements_about(
    connection: duckdb.DuckDBPyConnection, layout: Layout, kind: str, name: str
) -> list[dict[str, Any]]:
    """What landed about a consent, or about all that an annotator said, in the order of arrival."""
    folder = layout.raw(STATEMENTS)
    if not any(folder.glob("[!_.]*.parquet")):
        return []
    rows = connection.execute(
        f"""
        select json_extract_string(record, '$.expires_at'),
            json_extract_string(record, '$.withdrawn_at'),
            json_extract(record, '$.uses')::varchar, file, line_no
        from read_parquet('{_quoted(folder)}/*.parquet')
        where json_extract_string(record, '$.{kind}_id') = $1 order by batch_id, line_no
        """,
        [name],
    ).fetchall()
    names = ("expires_at", "withdrawn_at", "uses", "file", "line_no")
    return [dict(zip(names, row, strict=True)) for row in rows]


def all_statements(
    connection: duckdb.DuckDBPyConnection, layout: Layout
) -> Iterator[dict[str, Any]]:
    """Every line that landed about consents, in the order of arrival."""
    folder = layout.raw(STATEMENTS)
    if any(folder.glob("[!_.]*.parquet")):
        for (record,) in connection.execute(
            f"select record from read_parquet('{_quoted(folder)}/*.parquet') "
            f"order by batch_id, line_no"
        ).fetchall():
            if isinstance(told := json.loads(record), dict):
                yield told


def quoted(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
