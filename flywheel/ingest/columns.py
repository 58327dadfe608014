"""Records as columns: what every row of landing carries, and the kind's own."""

import hashlib
import hmac
import json
import os
import secrets
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.ingest.formats import RAW
from flywheel.ingest.keys import (
    events,
    key_of_text,
    opening_key,
    prompt_key,
    response_key,
    told_apart,
)
from flywheel.ingest.unit import Unit
from flywheel.lake import RAW as RAW_SCHEMA
from flywheel.lake import SCHEMAS
from flywheel.records import KINDS, Record
from flywheel.records.message import Conversation, dump, prompt_of, response_of, text_of

SALT_FILE = "annotators.salt"
CONSENTS = "consents"  # raw source: what people agreed to and took back, see flywheel/rights
_AS_GIVEN = {  # columns that hold a field of the record under its own name
    kind: [name for name in KINDS[kind].__struct_fields__ if name in schema.names]
    for kind, schema in SCHEMAS.items()
}
Columns = dict[str, Sequence[Any]]
_GROUP = attrgetter("group")
# A bare string is one turn, whose key needs no message to be made of it; its JSON is not written.
_PROMPT_KEY = key_of_text("prompt", "user")
_RESPONSE_KEY = key_of_text("response", "assistant")
Three = tuple[str | None, str | None, str | None]  # JSON, words, key of a conversation
_NOTHING: Three = (None, None, None)


@dataclass(frozen=True, slots=True)
class Said:
    """Records of one kind in the order of their lines, and where each was read."""

    kind: str
    records: list[Record] = field(default_factory=list)
    line_nos: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # among the records of its line

    def add(self, record: Record, line_no: int, offset: int, place: int) -> None:
        """Add one at the end."""
        self.records.append(record)
        self.line_nos.append(line_no)
        self.offsets.append(offset)
        self.places.append(place)

    def __getitem__(self, at: int) -> "Said":
        """One of them alone."""
        one = Said(self.kind)
        one.add(self.records[at], self.line_nos[at], self.offsets[at], self.places[at])
        return one

    def without(self, line_nos: Container[int]) -> "Said":
        """Those of other lines."""
        kept = Said(self.kind)
        rows = zip(self.records, self.line_nos, self.offsets, self.places, strict=True)
        for row in rows:
            if row[1] not in line_nos:
                kept.add(*row)
        return kept


def add_to(said: dict[str, Said], number: int, offset: int, records: Iterable[Record]) -> None:
    """Put the records of one line with those of their kind."""
    for place, record in enumerate(records):
        kind = str(record.__struct_config__.tag)
        if kind not in said:
            said[kind] = Said(kind)
        said[kind].add(record, number, offset, place)


def columns_of(said: Said, batch: Mapping[str, Any], pseudonym: Callable[[str], str]) -> Columns:
    """Rows of landing, column by column, with the unfinished `event` beside them.

    Args:
        said: The records.
        batch: batch_id, file, source and landed_at, the same for all.
        pseudonym: Turns an annotator's id into one that names nobody.
    """
    kind, records = said.kind, said.records
    columns: Columns = {name: list(map(attrgetter(name), records)) for name in _AS_GIVEN[kind]}
    for name, value in batch.items():
        if name != "source":
            columns[name] = [value] * len(records)
    columns["source"] = [one or batch["source"] for one in columns["source"]]
    start = batch["batch_id"]
    columns["record_uid"] = [
        record_uid(start, line, place)
        for line, place in zip(said.line_nos, said.places, strict=True)
    ]
    # an export may have "", 0 or false for none; of such a record the hash tells (`lake.whole`)
    columns["record_id"] = [record.id or None for record in records]
    columns["kind"] = [kind] * len(records)
    columns["line_no"], columns["byte_offset"] = said.line_nos, said.offsets
    columns["annotator_id"] = _once(
        columns["annotator_id"], lambda one: pseudonym(one) if one else None
    )
    columns["occurred_at"] = list(map(_utc, columns["occurred_at"]))
    metadata = columns["metadata"]
    columns["metadata"] = [_metadata(one) if one else "{}" for one in metadata]
    tools = [one.get("tools") if one else None for one in metadata]
    _prompts(columns, [one.prompt for one in records], tools)
    columns["group_hint"] = [
        group or (opening and f"opening {opening}")
        for group, opening in zip(map(_GROUP, records), columns.pop("opening"), strict=True)
    ]
    for name in ("response", "response_a", "response_b", "corrected_response", "edited_response"):
        if f"{name}_key" in SCHEMAS[kind].names:
            _responses(columns, name, list(map(attrgetter(name), records)))
    if kind == "ranking":
        turns = [[response_of(one) for one in record.responses] for record in records]  # type: ignore[attr-defined]
        columns["responses"] = [list(map(dump, one)) for one in turns]
        columns["response_texts"] = [list(map(text_of, one)) for one in turns]
        columns["response_keys"] = [list(map(response_key, one)) for one in turns]
    if "steps" in SCHEMAS[kind].names:
        steps: list[Conversation] = [one.steps for one in records]  # type: ignore[attr-defined]
        _responses(columns, "steps", steps)
        columns["step_count"] = list(map(len, steps))
        if kind == "trajectory":
            calls = [sum(len(step.tool_calls) for step in one) for one in steps]
            columns["tool_call_count"] = calls
    columns["event"] = events(kind, columns, [record.id for record in records])
    return columns


def with_ids(said: Said, columns: Columns, table: pa.Table, times: Counter[bytes]) -> pa.Table:
    """The table with the hash of each event.

    Args:
        said: The records.
        columns: What `columns_of` made of them.
        table: What `table_of` made of that.
        times: How often each anonymous event was seen in the file; counted on here.
    """
    given = [record.id for record in said.records]
    named = map(any, zip(given, columns["annotator_id"], columns["occurred_at"], strict=True))
    hashes = told_apart(columns["event"], named, times)
    at = table.schema.get_field_index("content_sha256")
    return table.set_column(at, table.schema.field(at), pa.array(hashes, pa.string()))


def record_uid(batch_id: str, line_no: int, place: int) -> str:
    """What the row of a record is called: a function of where the record was read."""
    return blake2b(f"{batch_id}:{line_no}:{place}".encode(), digest_size=16).hexdigest()


def table_of(kind: str, columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Columns of one kind as a table of its schema; a column that is missing is null."""
    schema, size = SCHEMAS[kind], len(columns["line_no"])
    return pa.table(
        [
            pa.array(columns[f.name], type=f.type) if f.name in columns else pa.nulls(size, f.type)
            for f in schema
        ],
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


def _prompts(columns: Columns, prompts: list[Any], tools: list[Any]) -> None:
    """The columns of prompts and, as `opening`, the key of the first user's turn and before."""
    known = _texts_once(prompts, _PROMPT_KEY)
    found: list[tuple[str | None, ...]] = []
    for prompt, given in zip(prompts, tools, strict=True):
        if isinstance(prompt, str) and prompt and not given:
            found.append((*known[prompt], None))  # it is all there is: its key
        else:
            turns = prompt_of(prompt)
            found.append((*_turns(turns, prompt_key(turns, given)), opening_key(turns)))
    columns["opening"] = [one[-1] for one in found]
    columns["prompt"], columns["prompt_text"], columns["prompt_key"] = (
        [one[part] for one in found] for part in range(3)
    )


def _responses(columns: Columns, name: str, values: list[Any]) -> None:
    known = _texts_once(values, _RESPONSE_KEY)
    found: list[Three] = []
    for value in values:
        if isinstance(value, str) and value:
            found.append(known[value])
        else:
            turns = None if value is None else response_of(value)  # "" is a response, and empty
            found.append(_turns(turns, response_key(turns)) if turns else _NOTHING)
    for part, end in enumerate(("", "_text", "_key")):
        columns[name + end] = [one[part] for one in found]


def _texts_once(values: list[Any], key: Callable[[str], str]) -> dict[str, Three]:
    """Words and key of each bare string, equal ones once; `whole` makes its JSON of its words."""
    texts = {value for value in values if isinstance(value, str) and value}
    return {text: (None, text, key(text)) for text in texts}


def _turns(turns: Conversation, key: str) -> Three:
    return (dump(turns), text_of(turns), key) if turns else _NOTHING


def _once(values: Sequence[Any], change: Callable[[Any], Any]) -> list[Any]:
    """Every value changed, equal ones once."""
    changed = {one: change(one) for one in set(values)}
    return [changed[one] for one in values]


def _metadata(value: dict[str, Any]) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()


def _utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is None:
        return moment
    return moment.astimezone(UTC).replace(tzinfo=None)


def without_rows(table: pa.Table, column: str, values: list[Any]) -> pa.Table:
    """A table without the rows that hold one of some values in a column."""
    if not values:
        return table
    gone = pa.array(values, table.schema.field(column).type)
    return table.filter(pc.invert(pc.is_in(table[column], gone)))


def raw_table(
    units: Iterable[Unit], batch: Mapping[str, Any], pseudonym: Callable[[str], str]
) -> pa.Table:
    """Rows in no known format, as they were delivered; but who says something of a consent is
    called there as in the records that it is about."""
    columns: dict[str, list[Any]] = {name: [] for name in RAW_SCHEMA.names}
    facts = {name: batch[name] for name in ("source", "batch_id", "file")}
    for unit in units:
        place = {"line_no": unit.number, "byte_offset": unit.offset}
        record = unit.json
        if facts["source"] == CONSENTS:
            record = _under_pseudonym(record, pseudonym)
        for name, value in (facts | place | {"record": record}).items():
            columns[name].append(value)
    return pa.table(columns, schema=RAW_SCHEMA)


def _under_pseudonym(record: str, pseudonym: Callable[[str], str]) -> str:
    told = json.loads(record)
    who = told.get("annotator_id") if isinstance(told, dict) else None
    if not isinstance(who, str) or pseudonym(who) == who:
        return record
    return json.dumps(told | {"annotator_id": pseudonym(who)}, ensure_ascii=False)


def as_landed(kind: str, table: pa.Table) -> pa.Table:
    """A table with the columns of its kind; texts that are kept once each stand in each row."""
    schema = RAW_SCHEMA if kind == RAW else SCHEMAS[kind]
    return table if table.schema.equals(schema) else table.cast(schema)
