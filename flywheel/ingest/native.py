"""Ordinary lines of flywheel's own JSONL as rows of landing, made by a small kernel in C.

`lines.c` is compiled when the package is installed, to `_lines.*.so` beside this file. Where there
was no compiler, or the file is older than this module, `library()` is None, `state()` says why,
and Python reads every line, to the same rows. What a kind and its fields are the kernel is told
from the types of `flywheel.records`; a kind that needs more than texts, numbers, choices and times
(a ranking, the steps of a trajectory) is never ordinary, nor is a conversation of several turns.
"""

import ctypes
import math
import weakref
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import msgspec.inspect as types
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.ingest.blocks import Lines, Numbered
from flywheel.ingest.columns import TURN_STARTS
from flywheel.ingest.keys import SAID, WHO, start_of_key
from flywheel.lake import SCHEMAS
from flywheel.records import KINDS

VERSION = 1  # LINES_VERSION in lines.c
NOTHING = -(2**63)  # a moment that was not given
LEAVE, TEXT, CHOICE, NUMBER, MOMENT, TURNS, ID, GROUP, EMPTY = range(9)  # as in lines.c
PARTS = (
    *("left", "line_no", "offset", "uid", "sha256", "record_id", "id_end"),
    *("groups", "groups_end", "group_rows"),
    *("rows", "texts", "texts_end", "json", "json_end", "keys", "keys_end", "key_rows"),
)
LIKE_TEXT = pa.dictionary(pa.int32(), pa.string())
HEX = 64  # digits of a sha256


class Asked(ctypes.Structure):
    """What the kernel is told of one field of one kind."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("place", "how", "is_required", "may_be_empty")),
        *((name, ctypes.c_double) for name in ("least", "most", "usual")),
        *((name, ctypes.c_char_p) for name in ("standard", "choices", "json_start", "key_start")),
        ("key_start_size", ctypes.c_int64),
    )


def library() -> ctypes.CDLL | None:
    """The compiled kernel, or None where Python must do."""
    return _load()[0]


def state() -> str:
    """What reads the lines, and why: "C kernel" or "Python: ..."."""
    return _load()[1]


@cache
def _load() -> tuple[ctypes.CDLL | None, str]:
    built = sorted(Path(__file__).parent.glob("_lines*.so"))
    if not built:
        return None, "Python: the C kernel was not built; install a C compiler and flywheel again"
    for path in built:
        try:
            found = ctypes.CDLL(str(path))
            found.lines_version.restype = ctypes.c_int64
            version = found.lines_version()
        except (OSError, AttributeError) as error:
            reason = str(error)
            continue
        if version == VERSION:
            whole, text, at = ctypes.c_int64, ctypes.c_char_p, ctypes.c_void_p
            for name, result, given in (
                ("new", at, (text, text, at)),
                ("kind", whole, (at, text, at)),
                ("field", whole, (at, whole, at)),
                ("said", whole, (at, whole, whole)),
                ("take", whole, (at, text, whole, whole, whole)),
                ("rows", whole, (at, whole)),
                ("part", None, (at, whole, whole, whole, at)),
                ("free", None, (at,)),
                ("sha256", whole, (text, whole, whole, at)),
                ("is_plain", whole, (whole,)),
            ):
                function = getattr(found, f"lines_{name}")
                function.restype, function.argtypes = result, given
            return found, "C kernel"
        reason = f"it has version {version}, not {VERSION}"
    return None, f"Python: {built[-1].name} does not fit ({reason}); install flywheel again"


class OrdinaryLines:
    """Rows made of the ordinary lines of one file, until somebody takes them.

    Attributes:
        count: Rows at hand.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.count = 0
        self._facts = facts
        self._made: _Made | None = None

    def take(self, block: Lines) -> list[Numbered]:
        """Make rows of the lines that are ordinary; those that are left, in order."""
        self._made = self._made or _Made(self._facts)
        left = self._made.take(block.data, block.first, block.offset)
        self.count += len(block) - len(left)
        return left

    def taken(self) -> dict[str, pa.Table]:
        """The rows by kind, in the order of their lines; texts that repeat as dictionaries."""
        made, self._made, self.count = self._made, None, 0
        return made.tables() if made else {}


class _Made:
    """What lies in the memory of the kernel; tables that were made of it keep it there."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        loaded = library()
        assert loaded is not None, "made only where it is loaded"
        self._call, self._facts = loaded, facts
        fields = _fields()
        self._places = {name: place for place, name in enumerate(fields)}
        names = b"".join(b'"%s"\0' % name.encode() for name in fields)
        known = ("kind", "id", "annotator_id", "occurred_at", "prompt", "group")
        places = (ctypes.c_int32 * len(known))(*(self._places[name] for name in known))
        batch = f"{facts['batch_id']}:".encode()
        self._at = self._have(loaded.lines_new(names + b"\0", batch, places))
        weakref.finalize(self, loaded.lines_free, self._at)
        self._kinds = {kind: self._tell(kind) for kind in _ordinary_kinds()}

    def take(self, data: bytes, first: int, offset: int) -> list[Numbered]:
        self._done(self._call.lines_take(self._at, data, len(data), first, offset))
        left = self._numbers("left", np.int64).reshape(-1, 3).tolist()
        return [
            (first + line, offset + start, data[start : start + size]) for line, start, size in left
        ]

    def tables(self) -> dict[str, pa.Table]:
        counts = {kind: self._call.lines_rows(self._at, at) for kind, at in self._kinds.items()}
        return {kind: self._table(kind, count) for kind, count in counts.items() if count}

    def _tell(self, kind: str) -> int:
        """Tell the kernel of a kind."""
        fields = _ordinary_kinds()[kind]
        names = ("rating_min", "rating", "rating_max")
        scale = [self._places[name] if name in fields else -1 for name in names]
        name = b'"%s"' % kind.encode()
        at = self._done(self._call.lines_kind(self._at, name, (ctypes.c_int32 * 3)(*scale)))
        for field, told in fields.items():
            asked = Asked(place=self._places[field], **told)
            if field == "source":
                asked.standard = self._facts["source"].encode()
            self._done(self._call.lines_field(self._at, at, ctypes.byref(asked)))
        for name in (*WHO, *SAID[kind]):
            field = name.removesuffix("_key")
            self._done(self._call.lines_said(self._at, at, self._places[field]))
        return at

    def _table(self, kind: str, count: int) -> pa.Table:
        schema, fields = SCHEMAS[kind], _ordinary_kinds()[kind]
        columns: dict[str, Any] = {
            "line_no": self._numbers("line_no", np.int64, kind),
            "byte_offset": self._numbers("offset", np.int64, kind),
            "record_uid": self._texts("uid", np.arange(count + 1, dtype=np.int32) * 32, kind),
            "content_sha256": self._texts(
                "sha256", np.arange(count + 1, dtype=np.int32) * HEX, kind
            ),
            "record_id": self._texts("record_id", "id_end", kind),
            "group_hint": self._dictionary("groups", "group_rows", kind),
            "metadata": _constant("{}", count),
            "landed_at": pa.repeat(
                pa.scalar(self._facts["landed_at"], schema.field("landed_at").type), count
            ),
            "kind": _constant(kind, count),
        }
        columns |= {name: _constant(self._facts[name], count) for name in ("batch_id", "file")}
        for name, told in fields.items():
            if told["how"] in (TEXT, CHOICE, TURNS):
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
        self._call.lines_part(self._at, at, self._places[field], PARTS.index(part), where)
        return pa.foreign_buffer(where[0], where[1], self) if where[1] else pa.py_buffer(b"")

    def _have(self, made: Any) -> Any:
        if not made:
            raise MemoryError("the machine has no memory left for the lines of a block")
        return made

    def _done(self, result: int) -> int:
        self._have(result >= 0)
        return result


@cache
def _fields() -> tuple[str, ...]:
    """Every field of any kind, and `kind`."""
    return (
        "kind",
        *dict.fromkeys(name for kind in KINDS.values() for name in kind.__struct_fields__),
    )


@cache
def _ordinary_kinds() -> dict[str, dict[str, dict[str, Any]]]:
    """By kind and field what the kernel is told; those with a field that it cannot read aside."""
    found = {}
    for kind, record in KINDS.items():
        made = types.type_info(record)
        assert isinstance(made, types.StructType)
        fields = {one.name: _told(one, kind) for one in made.fields}
        if all(told["how"] != LEAVE for told in fields.values()):
            found[kind] = fields
    return found


def _told(field: types.Field, kind: str) -> dict[str, Any]:
    """What the kernel is told of a field."""
    told: dict[str, Any] = {
        "how": LEAVE, "is_required": field.required, "least": -math.inf, "most": math.inf,
        "usual": math.nan, "standard": b"", "choices": b"", "json_start": b"",
        "key_start": b"", "key_start_size": 0, "may_be_empty": False,
    }  # fmt: skip
    every = field.type.types if isinstance(field.type, types.UnionType) else (field.type,)
    every = tuple(one for one in every if not isinstance(one, types.NoneType))
    if f"{field.name}_key" in SCHEMAS[kind].names and isinstance(every[0], types.StrType):
        role, of = ("user", "prompt") if field.name == "prompt" else ("assistant", "response")
        start = start_of_key(of, role)
        told |= {"how": TURNS, "json_start": TURN_STARTS[role].encode()}
        return told | {"key_start": start, "key_start_size": len(start)}
    (one,) = every if len(every) == 1 else (types.AnyType(),)
    match one:
        case types.StrType(min_length=least):
            how = {"id": ID, "group": GROUP}.get(field.name, TEXT)
            told |= {"how": how, "may_be_empty": not least}
        case types.LiteralType(values=values):
            told |= {"how": CHOICE, "choices": b"".join(b"%s\0" % one.encode() for one in values)}
        case types.FloatType(ge=least, le=most):
            told |= {"how": NUMBER, "standard": b"null"}
            told |= {} if least is None else {"least": least}
            told |= {} if most is None else {"most": most}
        case types.DateTimeType():
            told |= {"how": MOMENT}
        case types.DictType():
            told |= {"how": EMPTY}
    if isinstance(field.default, str):
        told["standard"] = field.default.encode()
    elif isinstance(field.default, float):
        told |= {"usual": field.default, "standard": msgspec.json.encode(field.default)}
    return told


def _constant(value: str, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([value]))


def in_order(ordinary: pa.Table, others: pa.Table) -> pa.Table:
    """Rows of one kind that were made either way, in the order of their lines."""
    for at, field in enumerate(ordinary.schema):
        if field.type == LIKE_TEXT:
            column = pc.dictionary_encode(others.column(at))
            others = others.set_column(at, field, column)
    both = pa.concat_tables([ordinary, others]).unify_dictionaries().combine_chunks()
    return both.take(pc.sort_indices(both["line_no"]))
