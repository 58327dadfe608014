"""Records as columns: what every row of landing carries, and the kind's own."""

import hashlib
import hmac
import os
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from flywheel.ingest.keys import content_sha256, opening_group, prompt_key, response_key
from flywheel.lake import RAW, SCHEMAS
from flywheel.records import KINDS, Record
from flywheel.records.message import Conversation, dump, response_of, text_of

SALT_FILE = "annotators.salt"
_AS_GIVEN = {  # columns that hold a field of the record under its own name
    kind: [name for name in KINDS[kind].__struct_fields__ if name in schema.names]
    for kind, schema in SCHEMAS.items()
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record was read."""

    line_no: int
    byte_offset: int
    index: int  # among the records of its line


def row_of(
    record: Record,
    place: Place,
    batch: dict[str, Any],
    pseudonym: Callable[[str], str],
    times: Counter[bytes],
) -> dict[str, Any]:
    """One row of landing.

    Args:
        record: What was said.
        place: Where it was read.
        batch: batch_id, file, source and landed_at, the same for all.
        pseudonym: Turns an annotator's id into one that names nobody.
        times: How often each anonymous event was seen in the file; counted on here.
    """
    kind = str(record.__struct_config__.tag)
    row = {
        **dict.fromkeys(SCHEMAS[kind].names),
        **{name: getattr(record, name) for name in _AS_GIVEN[kind]},
        **batch,
        "source": record.source or batch["source"],
        "record_uid": record_uid(batch["batch_id"], place.line_no, place.index),
        "kind": kind,
        "line_no": place.line_no,
        "byte_offset": place.byte_offset,
        "annotator_id": pseudonym(record.annotator_id) if record.annotator_id else None,
        "occurred_at": _utc(record.occurred_at),
        "group_hint": record.group or opening_group(record.conversation),
        "metadata": msgspec.json.encode(record.metadata, order="deterministic").decode(),
    }
    with_tools = partial(prompt_key, tools=record.metadata.get("tools"))
    _conversation(row, "prompt", record.conversation, with_tools)
    for name in ("response", "response_a", "response_b", "corrected_response", "edited_response"):
        if name in row:
            value = getattr(record, name)
            turns = None if value is None else response_of(value)  # "" is a response, and empty
            _conversation(row, name, turns, response_key)
    if kind == "ranking":
        responses = [response_of(one) for one in record.responses]  # type: ignore[attr-defined]
        row["responses"] = [dump(one) for one in responses]
        row["response_texts"] = [text_of(one) for one in responses]
        row["response_keys"] = [response_key(one) for one in responses]
    if "steps" in row:
        steps: Conversation = record.steps  # type: ignore[attr-defined]
        _conversation(row, "steps", steps, response_key)
        row["step_count"] = len(steps)
    if kind == "trajectory":
        row["tool_call_count"] = sum(len(step.tool_calls) for step in steps)
    row["content_sha256"] = content_sha256(row, record.id, times)
    row["record_id"] = record.id or row["content_sha256"][:32]
    return row


def record_uid(batch_id: str, line_no: int, index: int) -> str:
    """What the row of a record is called: a function of where the record was read."""
    uid = f"{batch_id}:{line_no}:{index}"
    return hashlib.blake2b(uid.encode(), digest_size=16).hexdigest()


def table_of(kind: str, rows: list[dict[str, Any]]) -> pa.Table:
    """Rows of one kind as a table of its schema; "raw" is a kind here."""
    schema = RAW if kind == "raw" else SCHEMAS[kind]
    return pa.table(
        {f.name: pa.array([row[f.name] for row in rows], type=f.type) for f in schema},
        schema=schema,
    )


def pseudonyms(root: Path) -> Callable[[str], str]:
    """Names for annotators whose id is an address: stable in this home, meaningless outside it."""
    path = root / SALT_FILE
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(32))
        os.replace(draft, path)
    salt = path.read_bytes()

    def pseudonym(annotator_id: str) -> str:
        if "@" not in annotator_id:
            return annotator_id
        digest = hmac.new(salt, annotator_id.strip().lower().encode(), hashlib.sha256)
        return f"p_{digest.hexdigest()[:16]}"

    return pseudonym


def _conversation(
    row: dict[str, Any],
    name: str,
    value: Conversation | None,
    key: Callable[[Conversation], str],
) -> None:
    row[name] = dump(value) if value else None
    row[f"{name}_text"] = text_of(value) if value else None
    row[f"{name}_key"] = key(value) if value else None


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is None:
        return moment
    return moment.astimezone(UTC).replace(tzinfo=None)
