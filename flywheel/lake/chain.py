"""A chain: entries that are only added to, one JSON line each, sealed by the hash before it.

Decisions, erasures and versions of evaluation sets are kept so.

Appending takes a lock and syncs. A last line torn by a kill is no entry: the next append removes
it. A line changed or taken out of the middle breaks the chain; for lines cut off its end or added
to it, a second file, the head, says how many entries there are and how the last one hashes. It is
put in place before each append, with the hash of the entry to come, and after it, without. So a
kill leaves the chain as the head says, or one entry ahead of it, the very one that it names as the
next: both are healed, and everything refuses to go on from any other state. Who rewrites both files
to match, or removes both, is not found out: keep copies.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from flywheel.errors import FlywheelError, LedgerError
from flywheel.lake.files import sync
from flywheel.lake.lock import locked

FIRST = "0" * 64
LATER = ("look", "stage")  # fields that entries did not have at first


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What every entry of a chain has: when it was made, the hash of the one before and its own."""

    at: str
    before: str
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed(Link):
    """An entry that has a number as well, from 1."""

    number: int


E = TypeVar("E", bound=Link)


class Chain(Generic[E]):
    """Entries of one kind, `<name>.jsonl` in a folder; of some chains it is called otherwise."""

    called: ClassVar[str] = "ledger"
    error: ClassVar[type[FlywheelError]] = LedgerError
    had_no_head: ClassVar[bool] = False  # at first: without one it is whole until the next entry

    def __init__(self, folder: Path, name: str, kind: type[E]) -> None:
        self.path = folder / f"{name}.jsonl"
        self.head_path = folder / f"{name}.head.json"
        self._kind = kind

    def entries(self) -> list[E]:
        """Every entry, oldest first.

        Raises:
            LedgerError: An entry was changed, added by hand or taken out, of the middle or the end.
        """
        head = self._head()  # before the ledger: somebody may append between the two
        entries, _ = self._read()
        if self._is_whole(head, entries):
            return entries
        with self.appending() as (entries, _):  # a kill came between, or somebody is appending
            return entries

    @contextmanager
    def appending(self) -> Iterator[tuple[list[E], Callable[..., E]]]:
        """Hold the ledger: its entries, and a function that appends one.

        Raises:
            LedgerError: An entry was changed, added by hand or taken out, of the middle or the end.
        """
        with locked(self.path.parent / f".{self.path.stem}.lock"):
            entries, whole = self._read()
            self._check_head(entries)
            if self.path.exists() and self.path.stat().st_size > whole:
                os.truncate(self.path, whole)  # a line torn by a kill was never an entry

            def append(**facts: Any) -> E:
                entry = self._sealed(entries, facts)
                self._write_head(entries, coming=entry)
                self._write(entry)
                entries.append(entry)
                self._write_head(entries)
                return entry

            yield entries, append

    def hash_of(self, entry: E) -> str:
        """What an entry is sealed by."""
        facts = {name: value for name, value in asdict(entry).items() if name != "hash"}
        for name in LATER:
            if name in facts and not facts[name]:
                del facts[name]  # as it was hashed before there was one
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _read(self) -> tuple[list[E], int]:
        """Entries and the bytes they take; a torn last line is left out."""
        data = self.path.read_bytes() if self.path.exists() else b""
        whole = data.rfind(b"\n") + 1
        entries: list[E] = []
        for place, line in enumerate(data[:whole].splitlines(), start=1):
            try:
                entry = self._kind(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise self.error(
                    f"{self._at(place)} is no entry: {error}; restore the {self.called} from a copy"
                ) from error
            is_next = entry.before == _last_hash(entries) and entry.hash == self.hash_of(entry)
            if not is_next or (isinstance(entry, Sealed) and entry.number != place):
                raise self.error(
                    f"{self._at(place)} does not follow from the entries before it: the "
                    f"{self.called} was edited; restore it from a copy"
                )
            entries.append(entry)
        return entries, whole

    def _head(self) -> dict[str, Any] | None:
        """What the head says; that of an empty ledger where there is none, or None of a chain
        that had none at first."""
        if not self.head_path.exists():
            return None if self.had_no_head else _head_of([])
        try:
            return dict(json.loads(self.head_path.read_text()))
        except (ValueError, TypeError) as error:
            raise self.error(
                f"{self.head_path} is no head of a {self.called}: {error}; restore it from a copy"
            ) from error

    def _is_whole(self, head: dict[str, Any] | None, entries: list[E]) -> bool:
        return head is None or head == _head_of(entries)

    def _check_head(self, entries: list[E]) -> None:
        """Refuse a ledger that its head does not fit; the caller holds the ledger."""
        head = self._head()
        if head is None or self._is_whole(head, entries):
            return
        was_killed = [_head_of(entries) | {"next": head.get("next")}]  # before the entry was there
        if entries:  # or before the head was told that it is
            was_killed.append(_head_of(entries[:-1]) | {"next": entries[-1].hash})
        if head in was_killed:
            self._write_head(entries)
            return
        raise self.error(
            f"{self.path} should hold {head.get('count')} entries and end as "
            f"{self.head_path.name} says, but holds {len(entries)}: some were cut off, or added by "
            f"hand; restore both files from a copy. Where you know this {self.called} to be whole, "
            f"write {json.dumps(_head_of(entries))} into {self.head_path}"
        )

    def _write_head(self, entries: list[E], coming: E | None = None) -> None:
        head = _head_of(entries) | ({"next": coming.hash} if coming else {})
        draft = self.head_path.with_name(f".{self.head_path.name}.draft")
        draft.write_text(json.dumps(head) + "\n")
        sync(draft)
        os.replace(draft, self.head_path)
        sync(self.head_path.parent)

    def _write(self, entry: E) -> None:
        with self.path.open("ab") as file:
            file.write(json.dumps(asdict(entry)).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        sync(self.path.parent)

    def _at(self, place: int) -> str:
        return f"line {place} of {self.path}"

    def _sealed(self, entries: list[E], facts: dict[str, Any]) -> E:
        number = {"number": len(entries) + 1} if issubclass(self._kind, Sealed) else {}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entry = self._kind(**facts, **number, at=now, before=_last_hash(entries), hash="")
        return replace(entry, hash=self.hash_of(entry))


def _head_of(entries: Sequence[Link]) -> dict[str, Any]:
    return {"count": len(entries), "hash": _last_hash(entries)}


def _last_hash(entries: Sequence[Link]) -> str:
    return entries[-1].hash if entries else FIRST
