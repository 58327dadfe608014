"""Ordinary lines of flywheel's own JSONL as rows of landing, a block at a time, in C.

Ordinary is an object of texts, short numbers and flat metadata, said by somebody or at some time.
What is anything else is left to Python, which alone decides what a line is; so the rows are those
that Python makes of the same lines, to the last bit (`tests/test_ingest_native.py`).

A text that stands in many rows is kept once, and so is its key: columns of texts are dictionary
arrays over memory of the kernel, which is filled again once the last table is gone.
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
    *("rows", "texts", "texts_end", "keys", "keys_end", "key_rows"),
)
LIKE_TEXT = pa.dictionary(pa.int32(), pa.string())
HEX = 64  # digits of a sha256
CACHED_BYTES = 46 * 2**20  # held for lines (`Block.held`) of which what is made fits into a cache
CACHED_ROWS = 10_000  # but rows are not written by fewer than these
FEW = 32  # rows of another table that are put in between by cutting this one there


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

    def taken(self, others: Mapping[str, pa.Table] | None = None) -> dict[str, pa.Table]:
        """The rows by kind, in the order of their lines; texts as dictionaries.

        Args:
            others: Rows of other lines of the same file, which come in between.
        """
        rows, self._rows, self.count = self._rows, None, 0
        return {**(others or {}), **(rows.tables(others or {}) if rows else {})}


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

    def tables(self, others: Mapping[str, pa.Table]) -> dict[str, pa.Table]:
        counts = {kind: self._call.lines_rows(self._at, at) for kind, at in self._kinds.items()}
        made = {}
        for kind, count in counts.items():
            if count and kind in others:
                more = others[kind].combine_chunks()
                places = self._places(kind, more)  # before the tables: their memory may move
                made[kind] = _in_order(self._table(kind, count), more, places)
            elif count:
                made[kind] = self._table(kind, count)
        return made

    def _places(self, kind: str, others: pa.Table) -> dict[str, npt.NDArray[np.int32]]:
        """Of each column of texts that the kernel keeps, the places of other rows' among them."""
        wanted = {"group_hint": ("prompt", 2)}
        for name, told in ordinary_kinds()[kind].items():
            if told["how"] == TURNS:
                wanted |= {f"{name}_text": (name, 0), f"{name}_key": (name, 1)}
            elif told["how"] in (TEXT, CHOICE, OBJECT):
                wanted[name] = (name, 0)
        found = {}
        for name, (field, part) in wanted.items():
            column = others[name].chunk(0)
            found[name] = np.full(len(column), -1, np.int32)
            if not len(texts := column.drop_null()):
                continue
            _, ends, data = texts.buffers()
            known = np.empty(len(texts), np.int32)
            done(
                self._call.lines_places(
                    self._at, self._kinds[kind], field_places()[field], part, data.address,
                    ends.address + 4 * texts.offset, len(texts), known.ctypes.data,
                )
            )  # fmt: skip
            found[name][column.is_valid().to_numpy(zero_copy_only=False)] = known
        return found

    def _table(self, kind: str, count: int) -> pa.Table:
        schema, fields = SCHEMAS[kind], ordinary_kinds()[kind]
        columns: dict[str, Any] = {
            "line_no": self._numbers("line_no", np.int64, kind),
            "byte_offset": self._numbers("offset", np.int64, kind),
            "record_uid": self._texts("uid", np.arange(count + 1, dtype=np.int32) * 32, kind),
            "content_sha256": self._texts(
                "sha256", np.arange(count + 1, dtype=np.int32) * HEX, kind
            ),
            "record_id": self._ids(kind),
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
                    columns[name] = pa.nulls(count, pa.string())  # made of the words where read
                    columns[f"{name}_key"] = self._dictionary("keys", "key_rows", kind, name)
            elif told["how"] in (NUMBER, MOMENT):
                columns[name] = self._column(told["how"], kind, name, schema.field(name).type)
        arrays = [
            column if isinstance(column, pa.Array) else pa.array(column)
            for column in (columns[name] for name in schema.names)
        ]
        return pa.table(arrays, names=schema.names)

    def _ids(self, kind: str) -> pa.Array:
        """The ids that were given, none of which is empty."""
        ids = self._texts("record_id", "record_id_end", kind)
        return pc.if_else(pc.equal(pc.binary_length(ids), 0), None, ids)

    def _column(self, how: int, kind: str, name: str, type: pa.DataType) -> pa.Array:
        values = self._numbers("rows", np.float64 if how == NUMBER else np.int64, kind, name)
        gone = np.isnan(values) if how == NUMBER else values == NOTHING
        return pa.array(values, mask=gone if gone.any() else None).cast(type)

    def _dictionary(self, texts: str, rows: str, kind: str, field: str = "prompt") -> pa.Array:
        places = self._numbers(rows, np.int32, kind, field)
        known = self._texts(texts, f"{texts}_end", kind, field)
        return pa.DictionaryArray.from_arrays(_indices(places), known, safe=False)

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
    places = pa.array(np.zeros(count, np.int32))
    return pa.DictionaryArray.from_arrays(places, pa.array([value]), safe=False)


def _in_order(
    ordinary: pa.Table, others: pa.Table, places: Mapping[str, npt.NDArray[np.int32]]
) -> pa.Table:
    """Rows of one kind that were made either way, in the order of their lines.

    Args:
        ordinary: Rows that the kernel made.
        others: Rows that Python made.
        places: Of their columns of texts, the places of theirs in the dictionaries of `ordinary`.
    """
    count, more = len(ordinary), len(others)
    at = np.searchsorted(ordinary["line_no"].to_numpy(), others["line_no"].to_numpy())
    order = pa.array(np.insert(np.arange(count), at, np.arange(count, count + more)))
    cuts = [0, *at.tolist(), count]

    def merged(one: pa.Array, other: pa.Array) -> list[pa.Array]:
        if more > FEW:
            return [pa.concat_arrays([one, other]).take(order)]
        parts = [(one[cuts[i] : cuts[i + 1]], other[i : i + 1]) for i in range(more + 1)]
        return [part for both in parts for part in both if len(part)]

    columns = []
    for name, one, other in zip(
        ordinary.column_names, ordinary.columns, others.columns, strict=True
    ):
        column = one.chunk(0)
        if column.type == LIKE_TEXT:
            place = places.get(name, np.zeros(more, np.int32))  # of one text there is one place
            rows = pa.concat_arrays(merged(column.indices, _indices(place)))
            columns.append(pa.DictionaryArray.from_arrays(rows, column.dictionary, safe=False))
        else:
            columns.append(pa.chunked_array(merged(column, other.chunk(0))))
    return pa.table(columns, names=ordinary.column_names)


def _indices(places: npt.NDArray[np.int32]) -> pa.Array:
    gone = places < 0
    return pa.array(places, mask=gone if gone.any() else None)
