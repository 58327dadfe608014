"""The C kernel that reads ordinary lines: finding it, and telling it of kinds and fields.

`lines.c` is compiled when the package is installed, to `_lines.*.so` beside this file. Where there
was no compiler, or the file is older than this module, `library()` is None, `state()` says why,
and Python reads every line, to the same rows. What a kind and its fields are the kernel is told
from the types of `flywheel.records`; a kind that needs more than texts, numbers, choices and times
(a ranking, the steps of a trajectory) is never ordinary.
"""

import ctypes
import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec
import msgspec.inspect as types

from flywheel.compiled import load
from flywheel.ingest.keys import SAID, WHO, start_of_key
from flywheel.lake import SCHEMAS
from flywheel.records import KINDS

VERSION = 2  # LINES_VERSION in lines.c
LEAVE, TEXT, CHOICE, NUMBER, MOMENT, TURNS, ID, GROUP, OBJECT = range(9)  # as in lines.c
FUNCTIONS = {  # of lines.c, by name: what they answer and take
    "new": (ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)),
    "kind": (ctypes.c_int64, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)),
    "field": (ctypes.c_int64, (ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p)),
    "said": (ctypes.c_int64, (ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)),
    "take": (ctypes.c_int64, (ctypes.c_void_p, ctypes.c_char_p, *[ctypes.c_int64] * 3)),
    "count": (ctypes.c_int64, (ctypes.c_char_p, ctypes.c_int64)),
    "rows": (ctypes.c_int64, (ctypes.c_void_p, ctypes.c_int64)),
    "places": (
        ctypes.c_int64,
        (
            ctypes.c_void_p,
            *[ctypes.c_int64] * 3,
            *[ctypes.c_void_p] * 2,
            ctypes.c_int64,
            ctypes.c_void_p,
        ),
    ),
    "part": (None, (ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p)),
    "clear": (None, (ctypes.c_void_p,)),
    "free": (None, (ctypes.c_void_p,)),
    "sha256": (None, (ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_char_p)),
    "blake2b": (
        None,
        (ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_char_p),
    ),
    "is_plain": (ctypes.c_int64, (ctypes.c_int64,)),
}


class Asked(ctypes.Structure):
    """What the kernel is told of one field of one kind."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("place", "how", "is_required", "may_be_empty")),
        *((name, ctypes.c_double) for name in ("least", "most", "usual")),
        *((name, ctypes.c_char_p) for name in ("standard", "choices", "key_start")),
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
    found, why = load(__file__, "lines", VERSION, "Python")
    for name, (result, given) in FUNCTIONS.items() if found else ():
        function = getattr(found, f"lines_{name}")
        function.restype, function.argtypes = result, given
    return found, why


def told_of_all(loaded: ctypes.CDLL, facts: Mapping[str, Any]) -> tuple[int, dict[str, int]]:
    """A kernel that knows every ordinary kind, for rows of one batch; the places of the kinds.

    Args:
        loaded: The library.
        facts: `batch_id` and `source` of the batch.
    """
    places = field_places()
    names = b"".join(b'"%s"\0' % name.encode() for name in places)
    known = ("kind", "id", "annotator_id", "occurred_at", "prompt", "group")
    some = (ctypes.c_int32 * len(known))(*(places[name] for name in known))
    at = done(loaded.lines_new(names + b"\0", f"{facts['batch_id']}:".encode(), some))
    kinds = {}
    for kind, fields in ordinary_kinds().items():
        scale = ("rating_min", "rating", "rating_max")  # in order, where a kind has them
        ordered = (ctypes.c_int32 * 3)(*(places[name] if name in fields else -1 for name in scale))
        kinds[kind] = done(loaded.lines_kind(at, b'"%s"' % kind.encode(), ordered))
        for field, told in fields.items():
            asked = Asked(place=places[field], **told)
            if field == "source":
                asked.standard = facts["source"].encode()
            done(loaded.lines_field(at, kinds[kind], ctypes.byref(asked)))
        for name in (*WHO, *SAID[kind]):
            done(loaded.lines_said(at, kinds[kind], places[name.removesuffix("_key")]))
    return at, kinds


def done(result: int | None) -> int:
    """What the kernel answered.

    Raises:
        MemoryError: It has no memory.
    """
    if result is None or result < 0:
        raise MemoryError("the machine has no memory left for the lines of a block")
    return result


@cache
def field_places() -> dict[str, int]:
    """The place of every field of any kind, and of `kind`."""
    names = (name for kind in KINDS.values() for name in kind.__struct_fields__)
    return {name: place for place, name in enumerate(dict.fromkeys(("kind", *names)))}


@cache
def ordinary_kinds() -> dict[str, dict[str, dict[str, Any]]]:
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
        "usual": math.nan, "standard": b"", "choices": b"", "key_start": b"",
        "key_start_size": 0, "may_be_empty": False,
    }  # fmt: skip
    every = field.type.types if isinstance(field.type, types.UnionType) else (field.type,)
    every = tuple(one for one in every if not isinstance(one, types.NoneType))
    if f"{field.name}_key" in SCHEMAS[kind].names and isinstance(every[0], types.StrType):
        role, of = ("user", "prompt") if field.name == "prompt" else ("assistant", "response")
        start = start_of_key(of, role)
        return told | {"how": TURNS, "key_start": start, "key_start_size": len(start)}
    (one,) = every if len(every) == 1 else (types.AnyType(),)
    match one:
        case types.StrType(min_length=least):
            how = {"id": ID, "group": GROUP}.get(field.name, TEXT)
            told |= {"how": how, "may_be_empty": not least}
        case types.LiteralType(values=values):
            told |= {
                "how": CHOICE,
                "choices": b"".join(b"%s\0" % str(one).encode() for one in values),
            }
        case types.FloatType(ge=least, le=most):
            told |= {"how": NUMBER, "standard": b"null"}
            told |= {} if least is None else {"least": least}
            told |= {} if most is None else {"most": most}
        case types.DateTimeType():
            told |= {"how": MOMENT}
        case types.DictType():
            told |= {"how": OBJECT, "standard": b"{}"}
    if isinstance(field.default, str):
        told["standard"] = field.default.encode()
    elif isinstance(field.default, float):
        told |= {"usual": field.default, "standard": msgspec.json.encode(field.default)}
    return told
