"""Freeze a mart into an immutable dataset: Parquet per split and a manifest.

The folder appears in one rename, so a killed freeze leaves a draft and no dataset. Freezing the
same rows again is a no-op; other rows under the same generation are refused, because something
may have been trained on the first.
"""

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.datasets.manifest import DatasetManifest, file_hash
from flywheel.errors import ManifestError, WarehouseError
from flywheel.rights import Terms
from flywheel.warehouse.read import open_copy, require
from flywheel.warehouse.terms import RESTS_ON, Weighed, weigh

SPLITS = ("train", "validation", "test")
NAMED_ROWS = 5  # of those that are refused
REFUSED = "refused.tsv"  # beside the rows: keys of those left out, and by which rule
ERASED = "it rests on a record that was erased"
UNSPLIT = "test"  # a mart without a column `split` is only ever tested on


def freeze(
    database: Path,
    *,
    table: str,
    key: str,
    directory: Path,
    name: str,
    generation: str,
    trained_through_batch: int,
    allow_empty: bool = True,
    licences: Collection[str] = (),
    terms: Terms | None = None,
    erased: Collection[str] = (),
) -> DatasetManifest:
    """Write the rows of `table` to `directory`, ordered by `key`, one file per split.

    Args:
        database: The read copy of the warehouse.
        table: The mart.
        key: Names each of its rows once.
        directory: Where the dataset is to lie.
        name: Of the dataset.
        generation: Of the dataset.
        trained_through_batch: Number of the newest batch behind the mart.
        allow_empty: Whether a dataset without rows is one.
        licences: Those that permit what the dataset is for; none given: all do. "unknown" stands
            for a row without one.
        terms: What the dataset is for, and what becomes of rows whose licences or consents do not
            allow it; none given: all do.
        erased: `record_uid` of records that were erased, and may stand in an older read copy: rows
            that rest on one of them are left out, too.

    Raises:
        WarehouseError: The table is missing, empty against `allow_empty`, has a null or repeated
            key, a split that is none of train, validation and test, or a row whose licence does
            not permit it; or the dataset cannot be written, and nothing is left of it.
        ManifestError: The directory holds a dataset with other rows, or a damaged one.
    """
    with open_copy(database) as connection:  # one: a copy may be published at any time
        weighed = _weigh(connection, database, table, key, terms) if terms else None
        refused = weighed.refused if weighed else {}
        if erased:
            refused = {**refused, **_resting_on(connection, database, table, key, erased)}
        rows, content_hash = _rows(connection, database, table, key, refused)
    if not rows.num_rows and not allow_empty:
        raise WarehouseError(
            f"{table} in {database} is empty, so there is nothing to freeze as {name} "
            f"{generation}; land feedback and build the marts"
        )
    if licences:
        _check_licences(rows, key, table, set(licences))
    if (directory / "manifest.json").exists():
        return _frozen_before(directory, content_hash, table)
    parts = _split(rows, table)
    with _draft_of(directory) as draft:
        manifest = DatasetManifest(
            name=name,
            generation=generation,
            table=table,
            content_hash=content_hash,
            rows_by_split={split: part.num_rows for split, part in parts.items()},
            files=_write(parts, draft),
            record_count=len(_distinct(rows, "record_uids", "record_uid")),
            annotator_count=len(_distinct(rows, "annotator_ids", "annotator_id")),
            cost_usd=round(sum(float(cost or 0) for cost in _column(rows, "cost_usd")), 6),
            sources=_counted(rows, "source"),
            licences=_counted(rows, "licence"),
            trained_through_batch=trained_through_batch,
            use=terms.use if terms else "",
            rows_refused=len(refused),
            duties=sorted(weighed.rights.duties) if weighed and terms and terms.use else [],
        )
        if refused:
            lines = (f"{one}\t{rule}\n" for one, rule in sorted(refused.items()))
            (draft / REFUSED).write_text("".join(lines), encoding="utf-8")
        manifest.save(draft)
    return manifest


def _weigh(
    connection: duckdb.DuckDBPyConnection, database: Path, table: str, key: str, terms: Terms
) -> Weighed:
    """What may be used of a mart; an error where rows may not, unless they are to be left out."""
    for name in (table, *RESTS_ON):
        require(connection, name, database)
    weighed = weigh(connection, table, key, terms)
    if weighed.refused and terms.refused == "fail":
        wanted = (
            f"to {terms.use}, which [licences] use asks for"
            if terms.use
            else "because a consent was refused, has ended or was taken back"
        )
        raise WarehouseError(
            f"{len(weighed.refused)} rows of {table} may not be used {wanted}: "
            f"{'; '.join(weighed.told)}. Leave their source out in dbt, "
            f'set [licences] refused = "exclude" to go on without them, or say under [licences] '
            f"own what a licence allows"
        )
    return weighed


def _resting_on(
    connection: duckdb.DuckDBPyConnection,
    database: Path,
    table: str,
    key: str,
    erased: Collection[str],
) -> dict[str, str]:
    """Keys of the rows that rest on one of the erased records."""
    known = require(connection, table, database)
    column = {"record_uids": "unnest(record_uids)", "record_uid": "record_uid"}
    uid = next((made for name, made in column.items() if name in known), None)
    if uid is None:
        return {}
    connection.register("erased_uids", pa.table({"uid": pa.array(list(erased), pa.string())}))
    rows = connection.sql(
        f'select distinct "{key}" from (select "{key}", {uid} as uid from {table}) '
        f"semi join erased_uids using (uid)"
    ).fetchall()
    return {str(one): ERASED for (one,) in rows}


def _check_licences(rows: pa.Table, key: str, table: str, permitted: set[str]) -> None:
    """Refuse rows under a licence that is not permitted; several behind one row must all be.

    Their names are joined with ", ", which a name may hold itself ("CC BY 4.0, attribution"): a row
    is permitted where its text is joined from permitted names.
    """
    refused: dict[str, list[str]] = {}
    longest_first = sorted(permitted, key=len, reverse=True)
    names = _column(rows, "licence") or [None] * rows.num_rows
    for name, licence in zip(_column(rows, key), names, strict=True):
        left = f", {licence or 'unknown'}, "
        for one in longest_first:
            left = left.replace(f", {one}, ", ", ")
        for one in filter(None, left.split(", ")):
            refused.setdefault(one, []).append(str(name))
    if refused:
        told = "; ".join(
            f"{one}: {len(keys)} rows, e.g. {', '.join(keys[:NAMED_ROWS])}"
            for one, keys in sorted(refused.items())
        )
        raise WarehouseError(
            f"{table} holds rows that [licences] permitted does not name: {told}; leave their "
            f"source out in dbt, or add the licence where it permits what this is for"
        )


def groups_in_two_splits(directory: Path) -> list[str]:
    """Groups of related prompts with rows in more than one split; empty is clean."""
    manifest = DatasetManifest.load(directory)
    seen: Counter[str] = Counter()
    for file in manifest.files:
        seen.update(set(pq.read_table(directory / file, columns=["group_id"])[0].to_pylist()))
    return sorted(group for group, splits in seen.items() if splits > 1)


def _rows(
    connection: duckdb.DuckDBPyConnection,
    database: Path,
    table: str,
    key: str,
    without: Collection[str],
) -> tuple[pa.Table, str]:
    """Rows in the order of their key but those refused, and a hash of nothing but them."""
    if key not in require(connection, table, database):
        raise WarehouseError(f"{table} in {database} has no column {key} to order its rows by")
    rows = connection.sql(f'select * from {table} order by "{key}"').to_arrow_table()
    hashes = connection.sql(
        f'select sha256(to_json(t)::varchar), "{key}" from {table} t order by "{key}"'
    ).fetchall()
    keys = [value for _, value in hashes]
    if None in keys or len(set(keys)) < len(keys):
        raise WarehouseError(
            f"{key} must name each row of {table} once, but it is null or repeats among "
            f"{len(keys)} rows in {database}; look at the model's tests"
        )
    schema = f"{[(field.name, str(field.type)) for field in rows.schema]}"
    digest = hashlib.sha256(schema.encode())
    kept = [str(value) not in without for value in keys]
    for (row_hash, _), is_kept in zip(hashes, kept, strict=True):
        if is_kept:
            digest.update(row_hash.encode())
    return rows if all(kept) else rows.filter(pa.array(kept)), digest.hexdigest()


@contextmanager
def _draft_of(directory: Path) -> Iterator[Path]:
    """A folder to write into that becomes `directory` in one rename, or is removed."""
    draft = directory.with_name(f".{directory.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)  # left by a freeze that was killed
    try:
        draft.mkdir(parents=True)
        yield draft
        for path in (*draft.iterdir(), draft):
            _sync(path)
        os.rename(draft, directory)
        _sync(directory.parent)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise WarehouseError(
            f"cannot write the dataset {directory}: {error.strerror or error}; free some space, "
            "mend the folder's permissions or clear what lies at that path, then freeze again: "
            "nothing half written counts"
        ) from error


def _write(parts: dict[str, pa.Table], draft: Path) -> dict[str, str]:
    """One Parquet file per split; the hash of each by its name."""
    files = {}
    for split, part in parts.items():
        path = draft / f"{split}.parquet"
        pq.write_table(part, path, compression="zstd")
        files[path.name] = file_hash(path)
    return files


def _frozen_before(directory: Path, content_hash: str, table: str) -> DatasetManifest:
    manifest = DatasetManifest.load(directory)
    manifest.verify(directory)
    if manifest.content_hash != content_hash:
        raise ManifestError(
            f"{directory} was frozen with {manifest.rows} rows and content "
            f"{manifest.content_hash[:12]}, but {table} now has content {content_hash[:12]}; "
            "a generation never changes, start a new one"
        )
    return manifest


def _split(rows: pa.Table, table: str) -> dict[str, pa.Table]:
    if "split" not in rows.column_names:
        return {UNSPLIT: rows}
    found = set(rows["split"].to_pylist())
    if not found <= set(SPLITS):
        raise WarehouseError(f"`split` in {table} must be one of {SPLITS}, found {found}")
    splits = rows["split"].to_numpy(zero_copy_only=False)
    return {split: rows.filter(pa.array(splits == split, pa.bool_())) for split in SPLITS}


def _column(rows: pa.Table, name: str) -> list[Any]:
    return rows[name].to_pylist() if name in rows.column_names else []


def _distinct(rows: pa.Table, listed: str, single: str) -> set[str]:
    """Values of a column of lists and of a plain column; a table has either, both or none."""
    found = {value for values in _column(rows, listed) for value in values or ()}
    return found | {value for value in _column(rows, single) if value is not None}


def _counted(rows: pa.Table, name: str) -> dict[str, int]:
    return dict(sorted(Counter(value or "unknown" for value in _column(rows, name)).items()))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
