"""flywheel's own JSONL: one object a line, its `kind` the name of a class of `flywheel.records`."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from flywheel.errors import RecordError
from flywheel.ingest.formats.messages import without_nulls
from flywheel.ingest.unit import TextRow
from flywheel.records import KINDS, Record
from flywheel.records.kinds import AnyRecord


def sniff(value: dict[str, Any]) -> float:
    """Sure where `kind` names one of ours."""
    kind = value.get("kind")
    return 1.0 if isinstance(kind, str) and kind in KINDS else 0.0


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one record; unknown keys and wrong types are refused, a null is a key not given.

    A row of CSV writes its numbers as text; they must be finite, as JSON's are.
    """
    is_text = isinstance(value, TextRow)
    record: Record = msgspec.convert(without_nulls(value), AnyRecord, strict=not is_text)  # type: ignore[call-overload]
    for name in record.__struct_fields__ if is_text else ():
        given = getattr(record, name)
        if isinstance(given, float) and not math.isfinite(given):
            raise RecordError(f"{name} must be a finite number, found {given}")
    return (record,)
