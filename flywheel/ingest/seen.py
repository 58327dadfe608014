"""Events that the lake holds already, by `content_sha256`: what of a new file is new.

The hashes of a kind are read once a landing, and only where a file brings records of that kind.
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from flywheel.ingest.formats import RAW
from flywheel.lake import read_folder
from flywheel.layout import Layout

EVENT = "content_sha256"


class Seen:
    """The events of a lake, as far as they were asked for."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._events: dict[str, set[str]] = {}

    def count_new(self, tables: Mapping[str, Sequence[pa.Table]]) -> dict[str, int]:
        """Rows by kind whose event the lake does not hold; every raw row counts as new."""
        return {
            kind: sum(
                table.num_rows
                if kind == RAW
                else sum(event not in self._of(kind) for event in table[EVENT].to_pylist())
                for table in parts
            )
            for kind, parts in tables.items()
        }

    def add(self, tables: Mapping[str, Sequence[pa.Table]]) -> None:
        """Note the events of a batch that has just landed."""
        for kind, parts in tables.items():
            for table in parts if kind in self._events else ():
                self._events[kind].update(table[EVENT].to_pylist())

    def _of(self, kind: str) -> set[str]:
        if kind not in self._events:
            events = read_folder(self._layout.landing(kind), [EVENT])[EVENT]
            self._events[kind] = set(events.to_pylist())
        return self._events[kind]
