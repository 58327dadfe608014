"""One file on its way in: units become rows, rows are judged, and every line is counted."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pyarrow as pa

from flywheel.errors import RecordError
from flywheel.ingest.batch import ExpectationResult
from flywheel.ingest.columns import Place, row_of, table_of
from flywheel.ingest.formats import RAW, named
from flywheel.ingest.screening import REASON, Screening
from flywheel.ingest.unit import Unit
from flywheel.lake import QUARANTINE
from flywheel.records import KINDS

CHUNK_LINES = 20_000  # parsed rows held as Python objects, and judged, at a time
# What the readers and Arrow raise where a value is not what its place needs.
UNFIT = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)
Judge = Callable[[str, pa.Table], Iterable[Any]]  # flywheel.quality.judge


class Intake:
    """Takes the units of one file, a chunk at a time.

    Attributes:
        lines: Units seen; always rows + quarantined + blanks.
        tables: What lands, by kind; "raw" for a table in no known format.
        is_unreadable: The file as a whole cannot be read, whatever share of it might be lost.
    """

    def __init__(
        self,
        facts: dict[str, Any],
        pseudonym: Callable[[str], str],
        judge: Judge | None,
        screening: Screening | None,
        reader: str,
    ) -> None:
        self.screening = screening
        self.lines = self.rows = self.blanks = 0
        self.is_unreadable = False
        self.tables: dict[str, list[pa.Table]] = {}
        self._facts, self._reader, self._pseudonym, self._judge = facts, reader, pseudonym, judge
        self._read = named(reader).read if reader != RAW else None
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
        table = pa.Table.from_pylist(self._refused, schema=QUARANTINE)
        return self.screening.quarantine(table) if self.screening else table

    def take(self, unit: Unit) -> None:
        """Count a unit, and make rows of it or quarantine it."""
        self.lines += 1
        if unit.is_blank:
            self.blanks += 1
        elif unit.fault:
            self._refuse(unit, *unit.fault)
        else:
            self._accept(unit)
            if len(self._accepted) >= CHUNK_LINES:
                self.flush()

    def flush(self) -> None:
        """Judge the rows at hand and keep those that pass; called once more at the end."""
        bad: dict[int, tuple[str, str, dict[str, Any]]] = {}
        tables = {kind: self._fitting(kind, rows, bad) for kind, rows in self._rows.items()}
        for kind, table in tables.items() if self.screening else ():
            tables[kind] = self._screened(kind, table, bad)
        for kind, table in tables.items() if self._judge and self._read else ():
            rows = [row for row in self._rows[kind] if row["line_no"] not in bad]
            if len(rows) < table.num_rows:
                table = table_of(kind, rows)
            self._judged(kind, table, rows, bad)
        for line_no, (check, told, row) in sorted(bad.items()):
            self._refuse(self._accepted.pop(line_no), check, told, row)
        for kind, table in tables.items():
            kept = [n not in bad for n in table["line_no"].to_pylist()]
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
        try:
            rows = [
                row_of(
                    record,
                    Place(unit.number, unit.offset, index),
                    self._facts,
                    self._pseudonym,
                    self._times,
                )
                for index, record in enumerate(self._read(unit.value))
            ]
        except (RecordError, msgspec.ValidationError) as error:
            self._refuse(unit, "invalid_record", str(error))
        except UNFIT as error:
            told = f"not a {self._reader} record: {type(error).__name__} {error}"
            self._refuse(unit, "invalid_record", told)
        else:
            self._accepted[unit.number] = unit
            for row in rows:
                self._rows.setdefault(row["kind"], []).append(row)

    def _refuse(
        self, unit: Unit, kind: str, reason: str, row: dict[str, Any] | None = None
    ) -> None:
        """Quarantine a unit with its bytes."""
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
        bad: dict[int, tuple[str, str, dict[str, Any]]],
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

    def _screened(
        self, kind: str, table: pa.Table, bad: dict[int, tuple[str, str, dict[str, Any]]]
    ) -> pa.Table:
        assert self.screening
        table, refused = self.screening.rows(kind, table)
        for place, reason in refused.items():
            row = table.slice(place, 1).select(["line_no"]).to_pylist()[0]
            bad.setdefault(row["line_no"], (REASON, reason, {"kind": _kind_of(kind)}))
        return table

    def _judged(
        self,
        kind: str,
        table: pa.Table,
        rows: list[dict[str, Any]],
        bad: dict[int, tuple[str, str, dict[str, Any]]],
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


def _kind_of(kind: str) -> str | None:
    return None if kind == RAW else kind


def _named_kind(value: Any) -> str | None:
    """The kind that a refused line gives itself, where it can be read."""
    kind = value.get("kind") if isinstance(value, dict) else None
    return kind if isinstance(kind, str) and kind in KINDS else None
