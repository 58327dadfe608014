"""flywheel's own JSONL: one object a line, its `kind` the name of a class of `flywheel.records`."""

from collections.abc import Sequence
from typing import Any

import msgspec

from flywheel.ingest.formats.messages import without_nulls
from flywheel.records import KINDS, Record
from flywheel.records.kinds import AnyRecord


def sniff(value: dict[str, Any]) -> float:
    """Sure where `kind` names one of ours."""
    kind = value.get("kind")
    return 1.0 if isinstance(kind, str) and kind in KINDS else 0.0


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one record; unknown keys and wrong types are refused, a null is a key not given.

    A row that is text throughout, as every row of CSV is, may write its numbers as text.
    """
    value = without_nulls(value)
    only_text = all(isinstance(item, str) for item in value.values())
    return (msgspec.convert(value, AnyRecord, strict=not only_text),)  # type: ignore[call-overload]
