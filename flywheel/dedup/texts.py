"""The texts of the warehouse: what they are at once, what they say when it is asked for.

What they are is columns, and what they say comes in parts: ten million texts are gigabytes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from flywheel.dedup.sets import Bools, Hashes
from flywheel.warehouse import open_copy
from flywheel.warehouse.read import TEXTS, require_texts

COLUMNS = "text_id, text_key, role, is_evaluation, evaluation_set, group_hints, print"
PLACES = f"select rowid from {TEXTS} semi join wanted using (text_id)"  # others stay unread
PART = 100_000  # texts that are in memory at once
Row = dict[str, Any]
Edge = tuple[int, int, float]
Said = tuple[pa.Array, pa.Array]  # ids, and what they say


class Texts:
    """All texts, while the warehouse is open.

    `print` is a hash of what a text says. DuckDB computes it where the text comes into the
    warehouse, and may do so otherwise after an upgrade: then every text counts as changed and is
    compared again.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def all(self) -> pa.Table:
        """A row for each text, in the order of their arrival."""
        return self._read("true")

    def of_role(self, role: str) -> pa.Table:
        """A row for each text of a role, in the order of their arrival."""
        return self._read(f"role = '{role}'")

    @cached_property
    def items(self) -> list[Row]:
        """Texts that an evaluation asks, in the order of their arrival, with what they say."""
        rows = self._read("is_evaluation")
        said: dict[str, str] = {}
        for ids, texts in self.fetch(rows["text_id"].combine_chunks()):
            said |= dict(zip(ids.to_pylist(), texts.to_pylist(), strict=True))
        return [row | {"text": said[row["text_id"]]} for row in rows.to_pylist()]

    def _read(self, condition: str) -> pa.Table:
        query = f"""
            select {COLUMNS} from {TEXTS} where {condition}
            order by coalesce(first_seen, ''), text_id
        """
        return self._connection.sql(query).to_arrow_table()

    def fetch(self, ids: pa.Array, role: str | None = None) -> Iterator[Said]:
        """What texts say, all of them of `role` if one is given, in any order, a part at a time."""
        query = f"select text_id, coalesce(text, '') as text from {TEXTS}"
        if role:
            query += f" where role = '{role}'"
        if len(ids) < self.count(f"({query})"):
            self._connection.register("wanted", pa.table({"text_id": ids}))
            query += f" {'and' if role else 'where'} rowid in ({PLACES})"
        for batch in self._connection.sql(query).to_arrow_reader(PART):
            yield batch["text_id"], batch["text"]

    def count(self, relation: str = TEXTS) -> int:
        """How many texts there are."""
        ((found,),) = self._connection.sql(f"select count(*) from {relation}").fetchall()
        return int(found)


@contextmanager
def open_texts(database: Path) -> Iterator[Texts]:
    """Open the texts of a warehouse.

    Raises:
        WarehouseError: `int_texts` is not built, or the warehouse is missing or locked.
    """
    with open_copy(database) as connection:
        require_texts(connection, database)
        yield Texts(connection)


def prints(rows: pa.Table) -> Hashes:
    """The hashes of what texts say."""
    return np.asarray(rows["print"].to_numpy())


def evaluated(rows: pa.Table) -> Bools:
    """Which texts an evaluation asks."""
    return np.asarray(rows["is_evaluation"].to_numpy())
