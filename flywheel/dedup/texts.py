"""The texts of the warehouse: what they are at once, what they say when it is asked for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from flywheel.dedup.sets import Hashes
from flywheel.warehouse import open_copy
from flywheel.warehouse.read import require

TEXTS = "intermediate.int_texts"
COLUMNS = "text_id, text_key, role, is_evaluation, evaluation_set, group_hints, first_seen"
Row = dict[str, Any]
Edge = tuple[int, int, float]


class Texts:
    """All texts in the order of their arrival, while the warehouse is open.

    `print` is a hash of what a text says. DuckDB computes it, and may do so otherwise after an
    upgrade: then every text counts as changed and is compared again.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        query = f"select {COLUMNS}, hash(coalesce(text, '')) as print from {TEXTS}"
        rows: list[Row] = connection.sql(query).to_arrow_table().to_pylist()
        self.rows = sorted(rows, key=lambda row: (row["first_seen"] or "", row["text_id"]))

    def fetch(self, ids: list[str]) -> list[str]:
        """What texts say, in the order asked for."""
        wanted = pa.table({"text_id": pa.array(ids, pa.string()), "place": np.arange(len(ids))})
        self._connection.register("wanted", wanted)
        query = f"""
            select coalesce(text, '') as text from wanted join {TEXTS} using (text_id)
            order by place
        """
        found: list[str] = self._connection.sql(query).to_arrow_table()["text"].to_pylist()
        return found


@contextmanager
def open_texts(database: Path) -> Iterator[Texts]:
    """Open the texts of a warehouse.

    Raises:
        WarehouseError: `int_texts` is not built, or the warehouse is missing or locked.
    """
    with open_copy(database) as connection:
        require(connection, TEXTS, database)
        yield Texts(connection)


def prints(rows: Sequence[Row]) -> Hashes:
    """The hashes of what texts say."""
    return np.array([row["print"] for row in rows], np.uint64)
