"""The ledger: every decision ever taken, one JSON line each, sealed by the hash of the one before.

Appending takes a lock and syncs. A last line torn by a kill is no entry: the next append removes
it. A line changed or taken out of the middle breaks the chain, and everything refuses to go on.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flywheel.errors import PromotionError
from flywheel.lake.files import sync
from flywheel.layout import Layout

FIRST = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One decision.

    Attributes:
        number: 1, 2, 3, ...
        action: PROMOTE, HOLD or REJECT by the gate; APPROVE, DECLINE or ROLLBACK by a person.
        awaiting: A promotion that waits for a person.
        champion: Generation of the champion after this entry; None where there is none.
        evidence: Path of the evaluation below the home, with its sha256.
    """

    number: int
    at: str
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
    before: str  # hash of the entry before
    hash: str


class Ledger:
    """The decisions of one home."""

    def __init__(self, layout: Layout) -> None:
        self.path = layout.registry / "ledger.jsonl"

    def entries(self) -> list[Entry]:
        """Every entry, oldest first.

        Raises:
            PromotionError: The chain is broken: an entry was changed or taken out.
        """
        return self._read()[0]

    @contextmanager
    def appending(self) -> Iterator[tuple[list[Entry], Callable[..., Entry]]]:
        """Hold the ledger: its entries, and a function that appends one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with (self.path.parent / ".ledger.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            entries, whole = self._read()
            if self.path.exists() and self.path.stat().st_size > whole:
                os.truncate(self.path, whole)  # a line torn by a kill was never an entry

            def append(**facts: Any) -> Entry:
                entry = _sealed(entries, facts)
                with self.path.open("ab") as file:
                    file.write(json.dumps(asdict(entry)).encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                sync(self.path.parent)
                entries.append(entry)
                return entry

            yield entries, append

    def _read(self) -> tuple[list[Entry], int]:
        """Entries and the bytes they take; a torn last line is left out."""
        data = self.path.read_bytes() if self.path.exists() else b""
        whole = data.rfind(b"\n") + 1
        entries: list[Entry] = []
        for place, line in enumerate(data[:whole].splitlines(), start=1):
            try:
                entry = Entry(**json.loads(line))
            except (ValueError, TypeError) as error:
                raise PromotionError(f"{self._at(place)} is no entry: {error}") from error
            expected = entries[-1].hash if entries else FIRST
            if entry.before != expected or entry.number != place or entry.hash != _hash(entry):
                raise PromotionError(
                    f"{self._at(place)} does not follow from the entries before it: the ledger "
                    f"was edited; restore it from a copy"
                )
            entries.append(entry)
        return entries, whole

    def _at(self, place: int) -> str:
        return f"line {place} of {self.path}"


def _sealed(entries: list[Entry], facts: dict[str, Any]) -> Entry:
    entry = Entry(
        **facts,
        number=len(entries) + 1,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        before=entries[-1].hash if entries else FIRST,
        hash="",
    )
    return Entry(**{**asdict(entry), "hash": _hash(entry)})


def _hash(entry: Entry) -> str:
    facts = {name: value for name, value in asdict(entry).items() if name != "hash"}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file of evidence."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
