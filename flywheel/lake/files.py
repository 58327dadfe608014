"""Files of the lake: written aside, synced, then put in place by one rename.

A reader sees a whole file or none. Names that begin with a dot are drafts; names that begin with
an underscore are empty tables that give a folder its columns before the first batch.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flywheel.errors import LakeError
from flywheel.lake.schema import DERIVED, ERASED, EVALUATION, LINEAGE, QUARANTINE, RAW, SCHEMAS
from flywheel.lake.whole import told_by, whole
from flywheel.layout import Layout

EMPTY = "_empty.parquet"
COMPRESSIONS = ("none", "lz4", "zstd")
UNLIKE = {"record_id", "record_uid", "content_sha256", "line_no", "byte_offset"}  # in every row
BY_CHANCE = ("_key", "_uid", "_sha256", "_hint")  # how hashes are named; they bound no group


class Draft:
    """A table that is written aside in parts, and put in place durably by one rename.

    A failure leaves nothing of it; so does a process that is killed, but for the draft itself.

    Args:
        path: Where it is put in place.
        schema: Its columns.
        compression: One of `COMPRESSIONS`.
    """

    def __init__(self, path: Path, schema: pa.Schema, compression: str = "zstd") -> None:
        self.rows = 0
        self._path = path
        self._aside = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}.draft")
        self._schema = schema
        with self._guarded():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(
                self._aside,
                schema,
                compression=compression,
                use_dictionary=[name for name in schema.names if name not in UNLIKE],
                column_encoding={one.name: _delta(one) for one in schema if one.name in UNLIKE},
                write_statistics=[field.name for field in schema if _is_bounded(field, schema)],
                store_schema=not any(map(pa.types.is_dictionary, schema.types)),
            )

    def add(self, table: pa.Table, row_group: int | None = None) -> None:
        """Write a part, as a row group, or as several of so many rows.

        Raises:
            LakeError: It could not be written.
        """
        with self._guarded():
            self._writer.write_table(_fitted(table, self._schema), row_group)
        self.rows += table.num_rows

    def publish(self) -> None:
        """Put the whole table in place.

        Raises:
            LakeError: It could not be written.
        """
        with self._guarded():
            self._writer.close()
            sync(self._aside)
            os.replace(self._aside, self._path)
            sync(self._path.parent)

    def discard(self) -> None:
        """Leave nothing of it."""
        self._aside.unlink(missing_ok=True)
        with suppress(OSError):
            self._writer.close()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._aside.unlink(missing_ok=True)
            raise LakeError(
                f"cannot write {self._path}: {error.strerror or error}; free some space or mend "
                f"the folder's permissions, then run it again: nothing half written counts"
            ) from error


def written_as(table: pa.Table) -> pa.Schema:
    """The columns that a draft is made with whose first part is `table`.

    A column of dictionaries is written as one, without a look at its rows, where its values
    repeat; read back it is what its values are, as is one whose values do not.
    """
    fields = []
    for field, column in zip(table.schema, table.columns, strict=True):
        if pa.types.is_dictionary(field.type):
            values = max((len(chunk.dictionary) for chunk in column.chunks), default=0)
            if 2 * values > table.num_rows:
                field = field.with_type(field.type.value_type)
        fields.append(field)
    return pa.schema(fields)


def write_table(table: pa.Table, path: Path, *, row_group: int | None = None) -> None:
    """Write a table durably, in one step for whoever reads `path`.

    Rows are read in groups; of a sorted table, a small `row_group` lets who looks for few rows
    read few.

    Raises:
        LakeError: The file could not be written; nothing is left of it.
    """
    draft = Draft(path, table.schema)
    draft.add(table, row_group)
    draft.publish()


def read_folder(folder: Path, columns: list[str] | None = None) -> pa.Table:
    """Every row of a folder of Parquet files with one schema, whole as in `whole`.

    Raises:
        LakeError: There is no file, or one is torn.
    """
    paths = sorted(folder.glob("[!.]*.parquet"))
    if not paths:
        raise LakeError(f"{folder} holds no Parquet file; land some feedback first")
    tables = []
    for path in paths:
        try:
            tables.append(_read(path, columns))
        except (OSError, pa.ArrowInvalid) as error:
            raise LakeError(
                f"{path} is torn: {error}; remove it and land its file again"
            ) from error
    return pa.concat_tables(tables)


def _read(path: Path, columns: list[str] | None) -> pa.Table:
    if columns is None:
        return whole(pq.read_table(path))
    with pq.ParquetFile(path) as file:
        tellers = [one for one in map(told_by, columns) if one in file.schema_arrow.names]
        return whole(file.read([*columns, *tellers])).select(columns)


def ensure(layout: Layout) -> None:
    """Give every folder of the lake its columns, so that a fresh home can be queried."""
    wanted = {layout.landing(kind) / EMPTY: schema for kind, schema in SCHEMAS.items()}
    wanted[layout.quarantine / EMPTY] = QUARANTINE
    wanted[layout.raw("_none") / EMPTY] = RAW
    wanted[layout.erased / EMPTY] = ERASED
    wanted |= {layout.derived(name): schema for name, schema in DERIVED.items()}
    wanted |= {layout.lineage(name) / EMPTY: schema for name, schema in LINEAGE.items()}
    none = layout.evaluation("_none")
    wanted |= {none / name / EMPTY: schema for name, schema in EVALUATION.items()}
    for path, schema in wanted.items():
        if not path.exists():
            Draft(path, schema).publish()


def _is_bounded(field: pa.Field, schema: pa.Schema) -> bool:
    """Whether somebody may ask for the least or the greatest: of no whole text, and of no hash.

    Of texts that repeat in no order, of the batch alone, by which dbt asks for what is new.
    """
    if pa.types.is_dictionary(field.type):
        return field.name == "batch_id"
    is_long = field.name.endswith("_text") or f"{field.name}_text" in schema.names
    return not is_long and not (_is_text(field) and field.name.endswith(BY_CHANCE))


def _delta(field: pa.Field) -> str:
    return "DELTA_LENGTH_BYTE_ARRAY" if _is_text(field) else "DELTA_BINARY_PACKED"


def _is_text(field: pa.Field) -> bool:
    return pa.types.is_string(field.type) or pa.types.is_dictionary(field.type)


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table whose texts stand in each row where the schema has it so, and once where not."""
    for at, (field, wanted) in enumerate(zip(table.schema, schema, strict=True)):
        if field.type != wanted.type:
            column = table.column(at)
            is_once = pa.types.is_dictionary(wanted.type)
            column = pc.dictionary_encode(column) if is_once else column.cast(wanted.type)
            table = table.set_column(at, wanted, column)
    return table


def sync(path: Path) -> None:
    """Have the disk hold a file or a folder's names before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
