"""The ledger: every decision ever taken, one JSON line each, sealed by the hash of the one before.

A `Chain` is how it is kept, whatever its entries say; erasures have one of their own.

Appending takes a lock and syncs. A last line torn by a kill is no entry: the next append removes
it. A line changed or taken out of the middle breaks the chain; for lines cut off its end, a second
file, the head, says how many entries there are and how the last one hashes. It is put in place
after each append, so that a kill leaves the ledger one entry ahead of it and in no other state;
that one is healed, and everything refuses to go on from any other. Who rewrites both files to
match, or removes both, is not found out: keep copies.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from flywheel.errors import LedgerError
from flywheel.lake import locked
from flywheel.lake.files import sync
from flywheel.layout import Layout

FIRST = "0" * 64
LATER = ("look", "stage")  # fields that entries did not have at first


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What every entry of a chain has: its number from 1, when it was made, the hash of the entry
    before and its own."""

    number: int
    at: str
    before: str
    hash: str


E = TypeVar("E", bound=Sealed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Sealed):
    """One decision.

    Attributes:
        action: PROMOTE, HOLD or REJECT by the gate; APPROVE, DECLINE or ROLLBACK by a person;
            ADVANCE or STOP of a stage, by the statistic or by a person; STOP, too, just before an
            entry by which another challenger or champion takes the place of who is on a stage.
        awaiting: A promotion that waits for a person.
        champion: Generation of the champion after this entry; None where there is none.
        evidence: Path of the evaluation below the home, with its sha256.
        look: How the challenger was sampled: other samples are another draw of its luck. Empty in
            entries of a person, and of before it was written down.
        stage: Which the challenger is on from here, shadow or canary; empty where the entry gives
            the title, or neither.
    """

    action: str
    generation: str
    reasons: list[str]
    by: str
    awaiting: bool
    champion: str | None
    checkpoint: str
    content_hash: str
    evidence: str
    evidence_sha256: str
    look: str = ""
    stage: str = ""


class Chain(Generic[E]):
    """Entries of one kind, `<name>.jsonl` in a folder."""

    def __init__(self, folder: Path, name: str, kind: type[E]) -> None:
        self.path = folder / f"{name}.jsonl"
        self.head_path = folder / f"{name}.head.json"
        self._kind = kind

    def entries(self) -> list[E]:
        """Every entry, oldest first.

        Raises:
            LedgerError: An entry was changed or taken out, of the middle or of the end.
        """
        head = self._head()  # before the ledger: somebody may append between the two
        entries, _ = self._read()
        if head == _head_of(entries):
            return entries
        with self.appending() as (entries, _):  # a kill came between, or somebody is appending
            return entries

    @contextmanager
    def appending(self) -> Iterator[tuple[list[E], Callable[..., E]]]:
        """Hold the ledger: its entries, and a function that appends one.

        Raises:
            LedgerError: An entry was changed or taken out, of the middle or of the end.
        """
        with locked(self.path.parent / f".{self.path.stem}.lock"):
            entries, whole = self._read()
            self._check_head(entries)
            if self.path.exists() and self.path.stat().st_size > whole:
                os.truncate(self.path, whole)  # a line torn by a kill was never an entry

            def append(**facts: Any) -> E:
                entry = self._sealed(entries, facts)
                with self.path.open("ab") as file:
                    file.write(json.dumps(asdict(entry)).encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                sync(self.path.parent)
                entries.append(entry)
                self._write_head(entries)
                return entry

            yield entries, append

    def _read(self) -> tuple[list[E], int]:
        """Entries and the bytes they take; a torn last line is left out."""
        data = self.path.read_bytes() if self.path.exists() else b""
        whole = data.rfind(b"\n") + 1
        entries: list[E] = []
        for place, line in enumerate(data[:whole].splitlines(), start=1):
            try:
                entry = self._kind(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise LedgerError(
                    f"{self._at(place)} is no entry: {error}; restore the ledger from a copy"
                ) from error
            expected = entries[-1].hash if entries else FIRST
            if entry.before != expected or entry.number != place or entry.hash != _hash(entry):
                raise LedgerError(
                    f"{self._at(place)} does not follow from the entries before it: the ledger "
                    f"was edited; restore it from a copy"
                )
            entries.append(entry)
        return entries, whole

    def _head(self) -> dict[str, Any]:
        """What the head says; that of an empty ledger where there is none."""
        if not self.head_path.exists():
            return _head_of([])
        try:
            return dict(json.loads(self.head_path.read_text()))
        except (ValueError, TypeError) as error:
            raise LedgerError(
                f"{self.head_path} is no head of a ledger: {error}; restore it from a copy"
            ) from error

    def _check_head(self, entries: list[E]) -> None:
        """Refuse a ledger that its head does not fit; the caller holds the ledger."""
        head = self._head()
        if head == _head_of(entries):
            return
        if entries and head == _head_of(entries[:-1]):
            self._write_head(entries)  # a kill came between append and head
            return
        raise LedgerError(
            f"{self.path} should hold {head.get('count')} entries and end as "
            f"{self.head_path.name} says, but holds {len(entries)}: some were cut off, or added by "
            f"hand; restore both files from a copy. Where you know this ledger to be whole, write "
            f"{json.dumps(_head_of(entries))} into {self.head_path}"
        )

    def _write_head(self, entries: list[E]) -> None:
        draft = self.head_path.with_name(f".{self.head_path.name}.draft")
        draft.write_text(json.dumps(_head_of(entries)) + "\n")
        sync(draft)
        os.replace(draft, self.head_path)
        sync(self.head_path.parent)

    def _at(self, place: int) -> str:
        return f"line {place} of {self.path}"

    def _sealed(self, entries: list[E], facts: dict[str, Any]) -> E:
        entry = self._kind(
            **facts,
            number=len(entries) + 1,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            before=entries[-1].hash if entries else FIRST,
            hash="",
        )
        return replace(entry, hash=_hash(entry))


class Ledger(Chain[Entry]):
    """The decisions of one home."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout.registry, "ledger", Entry)


def _head_of(entries: Sequence[Sealed]) -> dict[str, Any]:
    return {"count": len(entries), "hash": entries[-1].hash if entries else FIRST}


def _hash(entry: Sealed) -> str:
    facts = {name: value for name, value in asdict(entry).items() if name != "hash"}
    for name in LATER:
        if name in facts and not facts[name]:
            del facts[name]  # as it was hashed before there was one
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file of evidence."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
