"""Personal data on its way in: taken out, or the line refused, before it lies in the lake.

Works on tables of landing, after they are typed and before they are judged. Of a row that is
redacted everything follows from what is left: words and keys from the redacted conversation, and
the hash of the event is keyed, since a plain one could be tried out number by number. What was
taken out goes with the batch into the restricted folder (`flywheel.privacy.originals`).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from flywheel.ingest.keys import opening_key, prompt_key, response_key
from flywheel.lake import whole
from flywheel.layout import Layout
from flywheel.privacy import Policy, Pseudonyms, keep_originals, redact
from flywheel.privacy.find import suspects, words_of
from flywheel.privacy.originals import ORIGINALS, cipher
from flywheel.records.message import Conversation, load, text_of

OURS = {  # columns that hold nothing of what was delivered, or follow from one that does
    *("record_uid", "content_sha256", "kind", "batch_id", "file", "annotator_kind"),
    *("choice", "outcome", "thumbs"),
}
DERIVED = ("_text", "_key", "_texts", "_keys")
CONVERSATIONS = (
    *("prompt", "response", "response_a", "response_b", "corrected_response"),
    *("edited_response", "steps", "responses"),
)
JSON = {*CONVERSATIONS, "metadata", "record"}
REASON = "personal_data"


@dataclass(frozen=True, slots=True)
class Screened:
    """One table after screening.

    Attributes:
        table: As many rows as before, redacted where that is the policy.
        refused: By place in the table, why a row may not land.
        originals: What was redacted, as `ORIGINALS`.
        counts: Values found, by kind.
    """

    table: pa.Table
    refused: dict[int, str]
    originals: list[dict[str, Any]]
    counts: Counter[str]


class Screening:
    """What becomes of the personal data of one batch, a table or some lines at a time.

    Attributes:
        counts: Values found so far, by kind.
    """

    def __init__(self, policy: Policy, source: str, refuses: bool, pseudonyms: Pseudonyms) -> None:
        self.counts: Counter[str] = Counter()
        self._source = source
        self._counted: set[int] = set()  # lines whose values were found in the rows made of them
        self._policy, self._refuses, self._pseudonyms = policy, refuses, pseudonyms
        self._rows: list[dict[str, Any]] = []
        self._lines: list[dict[str, Any]] = []

    @classmethod
    def of(cls, policy: Policy | None, source: str, layout: Layout) -> "Screening | None":
        """The screening of a batch from `source`, where its policy acts on what comes in."""
        found = policy.of(source) if policy else "exclude"
        if policy is None or found not in ("redact", "refuse"):
            return None
        if policy.key_file:
            cipher(policy.key_file)  # a file read to its end in vain would be read again
        return cls(policy, source, found == "refuse", Pseudonyms(layout))

    def rows(self, kind: str, table: pa.Table) -> tuple[pa.Table, dict[int, str]]:
        """A table as it may land, and by place the reasons of rows that may not."""
        kinds, names = self._policy.kinds, self._pseudonyms
        done = screen_rows(kind, table, self._source, kinds, names, self._refuses)
        self.counts += done.counts
        self._counted.update(one["line_no"] for one in done.originals)
        self._counted.update(table["line_no"][place].as_py() for place in done.refused)
        self._rows += done.originals
        return done.table, done.refused

    def lines(self, refused: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of quarantine with their bytes and reasons redacted."""
        return [self._line(row) for row in refused]

    def _line(self, row: dict[str, Any]) -> dict[str, Any]:
        clean_up = partial(
            redact, placeholder=self._pseudonyms, escaped=True, kinds=self._policy.kinds
        )
        raw = row["raw"].decode("latin-1")  # a byte a character: any bytes come back as they were
        clean, counts = clean_up(raw)
        if counts:
            self._lines.append(_original(row, row["kind"], raw=row["raw"]))
        reason, told = clean_up(row["reason"])
        if row["line_no"] not in self._counted:
            self.counts += counts or told
        return {**row, "raw": clean.encode("latin-1"), "reason": reason}

    def discard(self) -> None:
        """Forget all of it: the file is refused as a whole."""
        self.counts, self._counted, self._rows, self._lines = Counter(), set(), [], []

    def save(self, layout: Layout, batch_id: str, *, rows_landed: bool) -> None:
        """Keep what was taken out of the lines and, where they landed, of the rows of a batch."""
        kept = [*(self._rows if rows_landed else ()), *self._lines]
        if kept:
            rows = pa.Table.from_pylist(kept, ORIGINALS)
            keep_originals(layout, batch_id, rows, self._policy.key_file)


def screen_rows(
    kind: str,
    table: pa.Table,
    source: str,
    kinds: Iterable[str],
    pseudonyms: Pseudonyms,
    refuses: bool,
) -> Screened:
    """Look through every column of a table of landing (or of a raw source).

    The name of the batch's own `source`, a folder's, is kept; one that a record gives is not.
    """
    told = whole(table)  # what is made of other columns is searched like what is written
    columns = [
        field.name
        for field in table.schema
        if field.name not in OURS
        and not field.name.endswith(DERIVED)
        and (pa.types.is_string(field.type) or pa.types.is_list(field.type))
        and field.name != "ranks"
    ]
    places = _suspected(told, columns, tuple(kinds))
    done = Screened(table, {}, [], Counter())
    changed: dict[int, dict[str, Any]] = {}
    for place, row in zip(places, told.take(pa.array(places, pa.int64())).to_pylist(), strict=True):
        searched = [name for name in columns if name != "source" or row[name] != source]
        new, counts = _redacted(row, searched, pseudonyms, kinds)
        if not counts:
            continue
        done.counts.update(counts)
        if refuses:
            done.refused[place] = f"holds {words_of(counts)}"
            continue
        fields = {name: row[name] for name in new}
        done.originals.append(_original(row, kind, fields=msgspec.json.encode(fields).decode()))
        changed[place] = _consistent(row | new, new.keys(), pseudonyms)
    return Screened(_replaced(table, changed), done.refused, done.originals, done.counts)


def _original(row: dict[str, Any], kind: str | None, **held: Any) -> dict[str, Any]:
    return {"record_uid": row.get("record_uid"), "kind": kind, "line_no": row["line_no"], **held}


def _suspected(table: pa.Table, columns: list[str], kinds: tuple[str, ...]) -> list[int]:
    found: set[int] = set()
    for name in columns:
        column = table[name].combine_chunks()
        if pa.types.is_list(column.type):
            owners = column.value_parent_indices().to_numpy(zero_copy_only=False)
            found.update(owners[list(suspects(column.flatten(), kinds))].tolist())
        else:
            found.update(suspects(column, kinds))
    return sorted(found)


def _redacted(
    row: dict[str, Any],
    columns: list[str],
    pseudonyms: Pseudonyms,
    kinds: Iterable[str],
) -> tuple[dict[str, Any], Counter[str]]:
    """The columns of a row that change, and how many values of each kind they held."""
    counts: Counter[str] = Counter()
    new: dict[str, Any] = {}
    for name in columns:
        clean = partial(redact, placeholder=pseudonyms, escaped=name in JSON, kinds=kinds)
        value = row[name]
        every = value if isinstance(value, list) else [value]
        parts = [clean(part) if part else (part, Counter[str]()) for part in every]
        if more := sum((found for _, found in parts), Counter[str]()):
            counts += more
            texts = [text for text, _ in parts]
            new[name] = texts if isinstance(value, list) else texts[0]
    return new, counts


def _consistent(
    row: dict[str, Any], changed: Iterable[str], pseudonyms: Pseudonyms
) -> dict[str, Any]:
    """A row whose words, keys and hashes are those of what it now says."""
    row = dict(row)
    names = {*changed}
    for name in names & {*CONVERSATIONS} - {"prompt", "responses"}:
        turns = load(row[name])
        row[f"{name}_text"], row[f"{name}_key"] = text_of(turns), response_key(turns)
    if "responses" in names:
        every = [load(one) for one in row["responses"]]
        row["response_texts"] = [text_of(one) for one in every]
        row["response_keys"] = [response_key(one) for one in every]
    if "record" in row:
        return row  # of a raw source: nothing follows from it yet
    if names & {"prompt", "metadata"}:
        _ask_again(row, load(row["prompt"]))
    before = row["content_sha256"]
    row["content_sha256"] = pseudonyms.keyed(before)
    if row["record_id"] == before[:32]:
        row["record_id"] = row["content_sha256"][:32]
    return row


def _ask_again(row: dict[str, Any], prompt: Conversation) -> None:
    tools = msgspec.json.decode(row["metadata"] or "{}").get("tools")
    row["prompt_text"] = text_of(prompt)
    row["prompt_key"] = prompt_key(prompt, tools)
    if (row["group_hint"] or "").startswith("opening "):
        row["group_hint"] = f"opening {opening_key(prompt)}"


def _replaced(table: pa.Table, rows: dict[int, dict[str, Any]]) -> pa.Table:
    """A table with other rows at some of its places."""
    if not rows:
        return table
    order = np.arange(table.num_rows)
    order[list(rows)] = table.num_rows + np.arange(len(rows))
    new = pa.Table.from_pylist(list(rows.values()), table.schema)
    return pa.concat_tables([table, new]).take(pa.array(order)).combine_chunks()
