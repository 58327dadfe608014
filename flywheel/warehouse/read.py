"""Publish the read copy of the warehouse, and read from it.

Source: locks, replaced files and names as measured in DuckDB 1.5: a reader shuts out a writer and
a writer shuts out every reader, so readers get a file of their own, replaced in one step.
"""

import os
import re
import shutil
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb
import pyarrow as pa

from flywheel.errors import WarehouseError

BATCHES = "intermediate.int_batches_staged"
TEXTS = "intermediate.int_texts"
MEMORY = "1GB"  # of what a reader keeps of the warehouse; more goes through the disk
DRAFT_SUFFIX = ".warehouse-draft"
DAMAGED_SUFFIX = ".damaged"
DAMAGE = re.compile(r"not a valid DuckDB|not read enough bytes|corrupt|while replaying", re.I)


def set_aside_if_damaged(database: Path) -> Path | None:
    """Move a warehouse that DuckDB cannot open out of the way of the next build.

    Everything in it is built from the lake. A disk that fills up at the wrong moment leaves a log
    that DuckDB refuses to replay, for good (seen with 1.5: "checkpoint WAL cannot contain a
    checkpoint marker"). The log goes along; what was set aside before is replaced.

    Returns:
        Where the damaged file lies now; None where there was no damage.

    Raises:
        WarehouseError: The warehouse is whole but cannot be opened: it is held by another
            process, or the disk is full.
    """
    if not database.exists():
        return None
    try:
        with _connect(database, read_only=False):
            return None
    except WarehouseError as error:
        if not DAMAGE.search(str(error)):
            raise
    aside = database.with_name(database.name + DAMAGED_SUFFIX)
    log = Path(f"{database}.wal")
    if log.exists():
        os.replace(log, f"{aside}.wal")
    os.replace(database, aside)
    return aside


def publish_read_copy(database: Path, copy: Path) -> None:
    """Put a whole copy of `database` at `copy` in one step.

    Both must have the same file name: views store it as the name of their catalog.

    Raises:
        WarehouseError: `database` is missing or held by another process, the names differ, or the
            copy cannot be written; the last copy stays then.
    """
    if database.name != copy.name:
        raise WarehouseError(
            f"the read copy must be called {database.name} as the warehouse is, because views "
            f"store that name; got {copy}"
        )
    with _connect(database, read_only=False) as connection:
        connection.execute("checkpoint")  # what a crash left in the .wal is not in the file
    draft = copy.with_name(f".{uuid.uuid4().hex}{DRAFT_SUFFIX}")
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        for left in copy.parent.glob(f".*{DRAFT_SUFFIX}"):  # by a publisher that was killed
            left.unlink(missing_ok=True)
        shutil.copyfile(database, draft)
        os.replace(draft, copy)
    except OSError as error:
        with suppress(OSError):  # where even that fails, the next publisher removes it
            draft.unlink()
        raise WarehouseError(
            f"cannot write the read copy {copy}: {error.strerror or error}; free some space or "
            "mend the folder's permissions and build again: the last copy is still there"
        ) from error


@contextmanager
def open_copy(database: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a warehouse to read, and close it again.

    Raises:
        WarehouseError: It is missing, or a writer in another process holds it.
    """
    with _connect(database, read_only=True) as connection:
        yield connection


class TextsToScreen:
    """Every training text, while the warehouse is open: what it is, and what it says when asked.

    A prompt says its system turns too, a trajectory what its assistant and its user say.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def all(self) -> pa.Table:
        """A row for each: text_key, role, the `print` of what it says, and its `place`."""
        return self._connection.sql(
            f"select text_key, role, print, rowid as place from {TEXTS} where not is_evaluation"
        ).to_arrow_table()

    def fetch(self, places: pa.Array, rows: int = 100_000) -> Iterator[pa.Table]:
        """place, sources and text of some, so many at a time and in any order."""
        self._connection.register("wanted", pa.table({"place": places}))
        found = self._connection.sql(
            f"""
            select rowid as place, sources, coalesce(screened_text, text, '') as text
            from {TEXTS} where rowid in (select place from wanted)
            """
        )
        for batch in found.to_arrow_reader(rows):
            yield pa.Table.from_batches([batch])


@contextmanager
def open_texts_to_screen(database: Path) -> Iterator[TextsToScreen]:
    """Open the texts of a warehouse to screen them.

    Raises:
        WarehouseError: `int_texts` is not built, or the warehouse is missing or locked.
    """
    with open_copy(database) as connection:
        require_texts(connection, database)
        yield TextsToScreen(connection)


def row_counts(database: Path, relations: Collection[str]) -> dict[str, int]:
    """Rows of each relation, by its name as given; a quoted and qualified name is fine."""
    names = sorted(relations)
    counts = [f"select {at} as at, count(*) from {name}" for at, name in enumerate(names)]
    if not counts:
        return {}
    with open_copy(database) as connection:
        rows = connection.sql(" union all ".join(counts)).fetchall()
    return {names[at]: count for at, count in rows}


def column_types(database: Path) -> dict[str, list[tuple[str, str]]]:
    """Columns and their types of every table and view, by its name in full as dbt quotes it."""
    found: dict[str, list[tuple[str, str]]] = {}
    with open_copy(database) as connection:
        rows = connection.sql(
            """
            select format('"{}"."{}"."{}"', database_name, schema_name, table_name),
                column_name, data_type
            from duckdb_columns() where not internal order by table_oid, column_index
            """
        ).fetchall()
    for relation, name, kind in rows:
        found.setdefault(relation, []).append((name, kind))
    return found


def read_table(database: Path, table: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a table or view such as `marts.fct_preferences`.

    Raises:
        WarehouseError: The warehouse is missing or locked, or has no such table or column.
    """
    chosen = ", ".join(f'"{name}"' for name in columns) if columns else "*"
    with open_copy(database) as connection:
        require(connection, table, database)
        try:
            return connection.sql(f"select {chosen} from {table}").to_arrow_table()
        except duckdb.BinderException as error:
            raise WarehouseError(f"{table} in {database} lacks a column: {error}") from error


def newest_batch_number(database: Path) -> int:
    """Number of the newest batch that the marts were built from; 0 where nothing had landed.

    Raises:
        WarehouseError: The warehouse is missing or locked, or its staging step never ran.
    """
    numbers = read_table(database, BATCHES, ["batch_number"])["batch_number"].to_pylist()
    return max(numbers, default=0)


def require(connection: duckdb.DuckDBPyConnection, table: str, database: Path) -> list[str]:
    """Return the columns of `table`.

    Raises:
        WarehouseError: The warehouse has no such table.
    """
    try:
        return connection.sql(f"select * from {table} limit 0").columns
    except duckdb.CatalogException:
        raise WarehouseError(
            f"the warehouse {database} has no table {table}; build the dbt models first "
            "(materialize `staging_models` and `mart_models`)"
        ) from None


def require_texts(connection: duckdb.DuckDBPyConnection, database: Path) -> None:
    """Hold `int_texts` against what is read of it.

    Raises:
        WarehouseError: It is not built, or was built by a version that kept no prints.
    """
    if "print" not in require(connection, TEXTS, database):
        raise WarehouseError(
            f"{TEXTS} in {database} has no prints, an older version built it; build the dbt models "
            f"again (materialize `staging_models`)"
        )


@contextmanager
def _connect(database: Path, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    if not database.exists():
        raise WarehouseError(
            f"there is no warehouse at {database}; materialize the dbt models, which make it"
        )
    try:
        connection = duckdb.connect(
            str(database), read_only=read_only, config={"memory_limit": MEMORY}
        )
    except duckdb.Error as error:
        if "set lock" not in str(error):
            raise WarehouseError(f"{database} is no readable warehouse: {error}") from error
        raise WarehouseError(
            f"another process holds the warehouse {database}; wait for its dbt build, or close the "
            f"program that opened it. Read the copy that each dbt step publishes instead.\n{error}"
        ) from error
    try:
        with connection:
            yield connection
    except (duckdb.IOException, duckdb.FatalException) as error:
        raise WarehouseError(
            f"DuckDB could not read or write {database}: {error}; free some space or mend the "
            "permissions of its folder, then run it again"
        ) from error
