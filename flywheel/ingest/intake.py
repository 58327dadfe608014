"""One file on its way in: units become rows, rows are judged, and every line is counted."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import repeat
from typing import Any

import msgspec
import pyarrow as pa

from flywheel.errors import RecordError
from flywheel.ingest.batch import ExpectationResult
from flywheel.ingest.columns import Place, record_uid, row_of, table_of
from flywheel.ingest.formats import RAW, named
from flywheel.ingest.formats.gathered import NO_LABEL, UNFIT
from flywheel.ingest.gathering import Gathering
from flywheel.ingest.unit import Unit
from flywheel.lake import QUARANTINE
from flywheel.records import KINDS, Record

CHUNK_LINES = 20_000  # parsed rows held as Python objects, and judged, at a time
Bad = dict[int, tuple[str, str, dict[str, Any]]]  # line -> kind of reason, reason, row
Judge = Callable[[str, pa.Table], Iterable[Any]]  # flywheel.quality.judge


class Intake:
    """Takes the units of one file, a chunk at a time.

    Attributes:
        lines: Units seen; always rows + quarantined + blanks.
        set_aside: Those of the quarantined that are no fault: lines that hold no label.
        skipped: What lines hold besides labels, by why: drafts, cancelled ones, predictions.
        tables: What lands, by kind; "raw" for a table in no known format.
        is_unreadable: The file as a whole cannot be read, whatever share of it might be lost.
    """

    def __init__(
        self,
        facts: dict[str, Any],
        reader: str,
        pseudonym: Callable[[str], str],
        judge: Judge | None,
    ) -> None:
        self.lines = self.rows = self.blanks = self.set_aside = 0
        self.skipped: Counter[str] = Counter()
        self.is_unreadable = False
        self.tables: dict[str, list[pa.Table]] = {}
        self._facts, self._reader, self._pseudonym, self._judge = facts, reader, pseudonym, judge
        self._read = named(reader).read if reader != RAW else None
        gather = named(reader).gather if reader != RAW else None
        self._gathering = Gathering(gather) if gather else None
        self._refused: list[dict[str, Any]] = []
        self._rows: dict[str, list[dict[str, Any]]] = {}
        self._accepted: dict[int, Unit] = {}
        self._times: Counter[bytes] = Counter()
        self._results: dict[tuple[str, str], ExpectationResult] = {}

    @property
    def quarantined(self) -> int:
        """Units refused so far."""
        return len(self._refused)

    @property
    def expectations(self) -> list[ExpectationResult]:
        """How each expectation fared on all chunks together."""
        return list(self._results.values())

    def quarantine(self) -> pa.Table:
        """The refused units with their bytes and reasons."""
        return pa.Table.from_pylist(self._refused, schema=QUARANTINE)

    def take(self, unit: Unit) -> None:
        """Count a unit, and make rows of it or quarantine it."""
        self.lines += 1
        if unit.is_blank:
            self.blanks += 1
        elif unit.fault:
            self._refuse(unit, *unit.fault)
        else:
            self._accept(unit)
            if len(self._accepted) >= CHUNK_LINES and not self._gathering:
                self.flush()

    def flush(self) -> None:
        """Judge the rows at hand and keep those that pass; called once more at the end."""
        bad: Bad = {}
        if self._gathering:
            self._gather(self._gathering, bad)
        tables = {kind: self._fitting(kind, rows, bad) for kind, rows in self._rows.items()}
        for kind, table in tables.items() if self._judge and self._read else ():
            rows = [row for row in self._rows[kind] if row["line_no"] not in bad]
            if len(rows) < table.num_rows:
                table = table_of(kind, rows)
            self._judged(kind, table, rows, bad)
        fallen: set[str] = set()
        if self._gathering and bad:
            names, left = self._gathering.fallen(bad)
            fallen = {record_uid(self._facts["batch_id"], *name) for name in names}
            for line, fault in left:
                bad.setdefault(line, ("unresolved", f"it belongs to the refused line {fault}", {}))
        for line_no, (check, told, row) in sorted(bad.items()):
            self._refuse(self._accepted.pop(line_no), check, told, row)
        for kind, table in tables.items():
            places = zip(
                table["line_no"].to_pylist(),
                table["record_uid"].to_pylist() if fallen else repeat(None, table.num_rows),
                strict=True,
            )
            kept = [n not in bad and uid not in fallen for n, uid in places]
            if any(kept):
                self.tables.setdefault(kind, []).append(table.filter(pa.array(kept)))
        self.rows += len(self._accepted)
        self._rows, self._accepted = {}, {}

    def _accept(self, unit: Unit) -> None:
        if self._read is None:
            facts = {name: self._facts[name] for name in ("source", "batch_id", "file")}
            place = {"line_no": unit.number, "byte_offset": unit.offset}
            self._rows.setdefault(RAW, []).append(facts | place | {"record": unit.json})
            self._accepted[unit.number] = unit
            return
        if self._gathering:  # all of them together, at the end
            self._accepted[unit.number] = unit
            return
        try:
            records = self._read(unit.value)
            rows = self._rows_of(unit, records)
        except (RecordError, msgspec.ValidationError) as error:
            self._refuse(unit, "invalid_record", str(error))
        except UNFIT as error:
            told = f"not a {self._reader} record: {type(error).__name__} {error}"
            self._refuse(unit, "invalid_record", told)
        else:
            skipped: Mapping[str, int] = getattr(records, "skipped", {})
            self.skipped.update(skipped)
            if not rows:
                told = ", ".join(f"{count} {why}" for why, count in sorted(skipped.items()))
                self._refuse(unit, NO_LABEL, f"it holds no label: {told or 'nobody gave one'}")
                return
            self._accepted[unit.number] = unit
            for row in rows:
                self._rows.setdefault(row["kind"], []).append(row)

    def _rows_of(self, unit: Unit, records: Iterable[Record]) -> list[dict[str, Any]]:
        return [
            row_of(
                record,
                Place(unit.number, unit.offset, index),
                self._facts,
                self._pseudonym,
                self._times,
            )
            for index, record in enumerate(records)
        ]

    def _gather(self, gathering: Gathering, bad: Bad) -> None:
        """Make rows of all units at hand; one that none comes of is refused."""
        values = {number: unit.value for number, unit in self._accepted.items()}
        found, refused = gathering.records(values, self._facts["file"])
        for number, why in sorted(refused.items()):
            self._refuse(self._accepted.pop(number), *why)
        for number, records in sorted(found.items()):
            try:
                rows = self._rows_of(self._accepted[number], records)
            except UNFIT as error:
                bad[number] = ("invalid_record", f"{type(error).__name__}: {error}", {})
                continue
            for row in rows:
                self._rows.setdefault(row["kind"], []).append(row)

    def _refuse(
        self, unit: Unit, kind: str, reason: str, row: dict[str, Any] | None = None
    ) -> None:
        """Quarantine a unit with its bytes."""
        self.set_aside += kind == NO_LABEL
        self._refused.append(
            {
                "batch_id": self._facts["batch_id"],
                "file": self._facts["file"],
                "kind": row["kind"] if row else _named_kind(unit.value),
                "line_no": unit.number,
                "byte_offset": unit.offset,
                "byte_length": unit.length,
                "raw": unit.raw,
                "reason_kind": kind,
                "reason": reason.encode("utf-8", "replace").decode()[:1000],
                "record_uid": row.get("record_uid") if row else None,
                "seen_at": self._facts["landed_at"],
            }
        )

    def _fitting(
        self,
        kind: str,
        rows: list[dict[str, Any]],
        bad: Bad,
    ) -> pa.Table:
        """The rows as a table; one that its columns cannot hold (a number too large) is bad."""
        try:
            return table_of(kind, rows)
        except UNFIT:
            fitting = []
            for row in rows:
                try:
                    table_of(kind, [row])
                    fitting.append(row)
                except UNFIT as error:
                    bad.setdefault(row["line_no"], ("invalid_record", f"{error}", row))
            return table_of(kind, fitting)

    def _judged(
        self,
        kind: str,
        table: pa.Table,
        rows: list[dict[str, Any]],
        bad: Bad,
    ) -> None:
        assert self._judge
        for one in self._judge(kind, table):
            before = self._results.get((kind, one.check))
            self._results[kind, one.check] = ExpectationResult(
                kind=kind,
                name=one.check,
                passed=one.passed and (before.passed if before else True),
                checked=one.checked + (before.checked if before else 0),
                failed=len(one.rows) + (before.failed if before else 0),
            )
            for place in one.rows if one.critical else ():
                told = f"fails the expectation {one.check}"
                bad.setdefault(rows[place]["line_no"], (one.check, told, rows[place]))


def _named_kind(value: Any) -> str | None:
    """The kind that a refused line gives itself, where it can be read."""
    kind = value.get("kind") if isinstance(value, dict) else None
    return kind if isinstance(kind, str) and kind in KINDS else None
