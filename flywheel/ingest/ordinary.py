"""Ordinary lines of flywheel's own JSONL as rows of landing, a block at a time, in C.

Ordinary is an object of texts, short numbers and flat metadata, said by somebody or at some time.
What is anything else is left to Python, which alone decides what a line is; so the rows are those
that Python makes of the same lines, to the last bit (`tests/test_ingest_native.py`).

A text that stands in many rows is kept once, and so are its JSON and its key: columns of texts are
dictionary arrays over memory of the kernel, which is filled again once the last table is gone.
"""

import ctypes
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.ingest.blocks import Lines, Numbered
from flywheel.ingest.native import (
    CHOICE,
    MOMENT,
    NUMBER,
    OBJECT,
    TEXT,
    TURNS,
    done,
    field_places,
    library,
    ordinary_kinds,
    told_of_all,
)
from flywheel.lake import SCHEMAS

NOTHING = -(2**63)  # a moment that was not given
PARTS = (  # of the rows of a kind, in the order of lines_part
    *("left", "line_no", "offset", "uid", "sha256", "record_id", "record_id_end"),
    *("groups", "groups_end", "group_rows"),
    *("rows", "texts", "texts_end", "json", "json_end", "keys", "keys_end", "key_rows"),
)
LIKE_TEXT = pa.dictionary(pa.int32(), pa.string())
HEX = 64  # digits of a sha256


class OrdinaryLines:
    """Rows made of the ordinary lines of one file, until somebody takes them.

    Attributes:
        count: Rows at hand.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.count = 0
        self._memory = _Memory(facts)
        self._rows: _Rows | None = None

    def take(self, block: Lines) -> list[Numbered]:
        """Make rows of the lines that are ordinary; those that are left, in order."""
        self._rows = self._rows or _Rows(self._memory)
        left = self._rows.take(block.data, block.first, block.offset)
        self.count += len(block) - len(left)
        return left

    def taken(self) -> dict[str, pa.Table]:
        """The rows by kind, in the order of their lines; texts as dictionaries."""
        rows, self._rows, self.count = self._rows, None, 0
        return rows.tables() if rows else {}


class _Memory:
    """The memory of the kernel for the rows of one batch, as often as it is in use at once."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        loaded = library()
        assert loaded is not None, "made only where it is loaded"
        self.call, self.facts = loaded, facts
        self._unused: list[tuple[int, dict[str, int]]] = []
        weakref.finalize(self, _free, loaded, self._unused)

    def lend(self) -> tuple[int, dict[str, int]]:
        """A kernel without rows, and the places of its kinds."""
        return self._unused.pop() if self._unused else told_of_all(self.call, self.facts)

    def give_back(self, at: int, kinds: dict[str, int]) -> None:
        """Nobody holds its rows any more."""
        self.call.lines_clear(at)
        self._unused.append((at, kinds))


class _Rows:
    """Rows in the memory of the kernel; tables that were made of them keep them there."""

    def __init__(self, memory: _Memory) -> None:
        self._call, self._facts = memory.call, memory.facts
        self._at, self._kinds = memory.lend()
        weakref.finalize(self, memory.give_back, self._at, self._kinds)

    def take(self, data: bytes, first: int, offset: int) -> list[Numbered]:
        done(self._call.lines_take(self._at, data, len(data), first, offset))
        left = self._numbers("left", np.int64).reshape(-1, 3).tolist()
        return [
            (first + line, offset + start, data[start : start + size]) for line, start, size in left
        ]

    def tables(self) -> dict[str, pa.Table]:
        counts = {kind: self._call.lines_rows(self._at, at) for kind, at in self._kinds.items()}
        return {kind: self._table(kind, count) for kind, count in counts.items() if count}

    def _table(self, kind: str, count: int) -> pa.Table:
        schema, fields = SCHEMAS[kind], ordinary_kinds()[kind]
        columns: dict[str, Any] = {
            "line_no": self._numbers("line_no", np.int64, kind),
            "byte_offset": self._numbers("offset", np.int64, kind),
            "record_uid": self._texts("uid", np.arange(count + 1, dtype=np.int32) * 32, kind),
            "content_sha256": self._texts(
                "sha256", np.arange(count + 1, dtype=np.int32) * HEX, kind
            ),
            "record_id": self._texts("record_id", "record_id_end", kind),
            "group_hint": self._dictionary("groups", "group_rows", kind),
            "landed_at": pa.repeat(
                pa.scalar(self._facts["landed_at"], schema.field("landed_at").type), count
            ),
            "kind": _constant(kind, count),
        }
        columns |= {name: _constant(self._facts[name], count) for name in ("batch_id", "file")}
        for name, told in fields.items():
            if told["how"] in (TEXT, CHOICE, OBJECT, TURNS):
                words = self._dictionary("texts", "rows", kind, name)
                columns[name] = words
                if told["how"] == TURNS:
                    columns[f"{name}_text"] = words
                    columns[name] = self._dictionary("json", "rows", kind, name)
                    columns[f"{name}_key"] = self._dictionary("keys", "key_rows", kind, name)
            elif told["how"] in (NUMBER, MOMENT):
                columns[name] = self._column(told["how"], kind, name, schema.field(name).type)
        arrays = [
            column if isinstance(column, pa.Array) else pa.array(column)
            for column in (columns[name] for name in schema.names)
        ]
        return pa.table(arrays, names=schema.names)

    def _column(self, how: int, kind: str, name: str, type: pa.DataType) -> pa.Array:
        values = self._numbers("rows", np.float64 if how == NUMBER else np.int64, kind, name)
        gone = np.isnan(values) if how == NUMBER else values == NOTHING
        return pa.array(values, mask=gone if gone.any() else None).cast(type)

    def _dictionary(self, texts: str, rows: str, kind: str, field: str = "prompt") -> pa.Array:
        places = self._numbers(rows, np.int32, kind, field)
        gone = places < 0
        indices = pa.array(places, mask=gone if gone.any() else None)
        return pa.DictionaryArray.from_arrays(
            indices, self._texts(texts, f"{texts}_end", kind, field)
        )

    def _texts(
        self, name: str, ends: str | npt.NDArray[np.int32], kind: str, field: str = "prompt"
    ) -> pa.Array:
        if isinstance(ends, str):
            ends = self._numbers(ends, np.int32, kind, field)
        if not len(ends):
            return pa.array([], pa.string())
        buffers = [None, pa.py_buffer(ends), self._buffer(name, kind, field)]
        return pa.Array.from_buffers(pa.string(), len(ends) - 1, buffers)

    def _numbers(self, part: str, type: Any, kind: str = "", field: str = "prompt") -> Any:
        return np.frombuffer(self._buffer(part, kind, field), type)

    def _buffer(self, part: str, kind: str, field: str) -> pa.Buffer:
        where = (ctypes.c_int64 * 2)()
        at = self._kinds[kind] if kind else 0
        self._call.lines_part(self._at, at, field_places()[field], PARTS.index(part), where)
        return pa.foreign_buffer(where[0], where[1], self) if where[1] else pa.py_buffer(b"")


def _free(loaded: ctypes.CDLL, unused: list[tuple[int, dict[str, int]]]) -> None:
    for at, _ in unused:
        loaded.lines_free(at)


def _constant(value: str, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([value]))


def in_order(ordinary: pa.Table, others: pa.Table) -> pa.Table:
    """Rows of one kind that were made either way, in the order of their lines."""
    count, more = len(ordinary), len(others)
    places = np.searchsorted(ordinary["line_no"].to_numpy(), others["line_no"].to_numpy())
    order = pa.array(np.insert(np.arange(count), places, np.arange(count, count + more)))
    columns = []
    for one, other in zip(ordinary.columns, others.combine_chunks().columns, strict=True):
        column, added = one.chunk(0), other.chunk(0)
        if column.type == LIKE_TEXT:
            rows, texts = _added(column.dictionary, added)
            rows = pa.concat_arrays([column.indices, rows]).take(order)
            columns.append(pa.DictionaryArray.from_arrays(rows, texts, safe=False))
        else:
            columns.append(pa.concat_arrays([column, added]).take(order))
    return pa.table(columns, names=ordinary.column_names)


def _added(known: pa.Array, texts: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The places of some texts among those that are known, and all of them, each once."""
    once = texts.dictionary_encode()
    met = pc.index_in(known, once.dictionary)  # the few are hashed, not the many
    places = np.full(len(once.dictionary), -1, np.int32)
    places[met.drop_null().to_numpy()] = np.flatnonzero(
        met.is_valid().to_numpy(zero_copy_only=False)
    )
    new = np.flatnonzero(places < 0)
    places[new] = len(known) + np.arange(len(new))
    if len(new):
        known = pa.concat_arrays([known, once.dictionary.take(pa.array(new))])
    return pa.array(places).take(once.indices), known
