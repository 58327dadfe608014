"""Landing as it is defined: one line after the other, and of each one row after the other.

What `flywheel.ingest` does by the block must come to the same; see test_ingest_blocks.py. It
shares with landing what decides about one line (`json_unit`, the readers) and the keys of a
conversation, and nothing of what makes columns or reads many lines at once.
"""

import hashlib
import io
from collections import Counter
from datetime import UTC
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from flywheel.errors import RecordError
from flywheel.ingest.batch import BatchManifest
from flywheel.ingest.formats import named
from flywheel.ingest.intake import UNFIT
from flywheel.ingest.keys import SAID, WHO, opening_key, prompt_key, response_key
from flywheel.ingest.unit import json_unit
from flywheel.lake import SCHEMAS
from flywheel.records import KINDS, Record
from flywheel.records.message import Conversation, dump, response_of, text_of

RESPONSES = ("response", "response_a", "response_b", "corrected_response", "edited_response")
Refusal = tuple[int, int, bytes, str, str, str | None, str | None]


def land_line_by_line(
    path: Path, batch: BatchManifest, pseudonym: Any
) -> tuple[dict[str, list[dict[str, Any]]], list[Refusal], int]:
    """Rows by kind, refusals and the number of blanks of a file of lines."""
    rows: dict[str, list[dict[str, Any]]] = {}
    refused: list[Refusal] = []
    times: Counter[bytes] = Counter()
    blanks = offset = 0
    for number, line in enumerate(io.BytesIO(path.read_bytes()), start=1):
        unit = json_unit(number, offset, line.removesuffix(b"\n"))
        offset += len(line)
        place = (number, unit.offset, unit.raw)
        if unit.is_blank:
            blanks += 1
        elif unit.fault:
            refused.append((*place, *unit.fault, None, None))
        else:
            try:
                made = [
                    row_of(record, (number, unit.offset, at), batch, pseudonym, times)
                    for at, record in enumerate(named(batch.format).read(unit.value))
                ]
            except (RecordError, msgspec.ValidationError) as error:
                refused.append((*place, "invalid_record", str(error), kind_of(unit.value), None))
                continue
            except UNFIT as error:
                told = f"not a {batch.format} record: {type(error).__name__} {error}"
                refused.append((*place, "invalid_record", told, kind_of(unit.value), None))
                continue
            try:
                for row in made:
                    as_table(row["kind"], [row])
            except UNFIT as error:
                who = (row["kind"], row["record_uid"])
                refused.append((*place, "invalid_record", str(error), *who))
                continue
            for row in made:
                rows.setdefault(row["kind"], []).append(row)
    return rows, refused, blanks


def as_table(kind: str, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows as a table of their kind."""
    columns = [pa.array([row[one.name] for row in rows], one.type) for one in SCHEMAS[kind]]
    return pa.table(columns, schema=SCHEMAS[kind])


def kind_of(value: Any) -> str | None:
    """The kind that a refused line gives itself."""
    kind = value.get("kind")
    return kind if isinstance(kind, str) and kind in KINDS else None


def row_of(
    record: Any, place: tuple[int, int, int], batch: BatchManifest, pseudonym: Any, times: Any
) -> dict[str, Any]:
    """One row of landing."""
    kind = str(record.__struct_config__.tag)
    names = SCHEMAS[kind].names
    row: dict[str, Any] = dict.fromkeys(names)
    row |= {name: getattr(record, name) for name in record.__struct_fields__ if name in names}
    uid = f"{batch.batch_id}:{place[0]}:{place[2]}"
    at = record.occurred_at
    row |= {
        "batch_id": batch.batch_id,
        "file": batch.file,
        "source": record.source or batch.source,
        "record_uid": hashlib.blake2b(uid.encode(), digest_size=16).hexdigest(),
        "kind": kind,
        "line_no": place[0],
        "byte_offset": place[1],
        "annotator_id": pseudonym(record.annotator_id) if record.annotator_id else None,
        "occurred_at": at.astimezone(UTC).replace(tzinfo=None) if at and at.tzinfo else at,
        "group_hint": record.group or f"opening {opening_key(record.conversation)}",
        "metadata": msgspec.json.encode(record.metadata, order="deterministic").decode(),
        "landed_at": None,
    }
    _three(row, "prompt", record.conversation)
    row["prompt_key"] = prompt_key(record.conversation, record.metadata.get("tools"))
    for name in (name for name in RESPONSES if name in row):
        value = getattr(record, name)
        _three(row, name, None if value is None else response_of(value))
    if kind == "ranking":
        turns = [response_of(one) for one in record.responses]
        row["responses"] = [dump(one) for one in turns]
        row["response_texts"] = [text_of(one) for one in turns]
        row["response_keys"] = [response_key(one) for one in turns]
    if "steps" in row:
        _three(row, "steps", record.steps)
        row["step_count"] = len(record.steps)
    if kind == "trajectory":
        row["tool_call_count"] = sum(len(step.tool_calls) for step in record.steps)
    row["content_sha256"] = _event(row, record, times)
    row["record_id"] = record.id or row["content_sha256"][:32]
    return row


def _event(row: dict[str, Any], record: Record, times: Counter[bytes]) -> str:
    said = [row["kind"], record.id, *(row[name] for name in (*WHO, *SAID[row["kind"]]))]
    digest = hashlib.sha256(msgspec.json.encode(said))
    if not (record.id or row["annotator_id"] or row["occurred_at"]):
        event = digest.digest()
        digest.update(str(times[event] or "").encode())
        times[event] += 1
    return digest.hexdigest()


def _three(row: dict[str, Any], name: str, turns: Conversation | None) -> None:
    row[name] = dump(turns) if turns else None
    row[f"{name}_text"] = text_of(turns) if turns else None
    row[f"{name}_key"] = response_key(turns) if turns else None
