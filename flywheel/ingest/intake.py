"""One file on its way in: units become rows, rows are judged, and every line is counted.

What is held in memory is a few blocks, whatever the size of the file: rows go to drafts of the
lake's tables as soon as they are judged, and count once the whole file has come in.
"""

from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.errors import RecordError
from flywheel.ingest.batch import ExpectationResult
from flywheel.ingest.blocks import Block, Lines
from flywheel.ingest.columns import Columns, Said, columns_of, table_of, with_ids
from flywheel.ingest.drafts import Drafts
from flywheel.ingest.formats import OWN, RAW, named
from flywheel.ingest.formats.own_lines import read_lines
from flywheel.ingest.screening import REASON, Screening
from flywheel.ingest.unit import Unit, json_unit
from flywheel.lake import RAW as RAW_SCHEMA
from flywheel.lake import SCHEMAS
from flywheel.records import KINDS, Record

JUDGED_ROWS = 50_000  # rows judged at a time: a judgement costs a tenth of a second, whatever for
# What the readers and Arrow raise where a value is not what its place needs.
UNFIT = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)
Judge = Callable[[str, pa.Table], Iterable[Any]]  # flywheel.quality.judge


class Row(NamedTuple):
    """What quarantine tells of a row that was made and refused."""

    kind: str
    record_uid: str


class Intake:
    """Takes one file, a block of units at a time.

    Attributes:
        lines: Units seen; always rows + quarantined + blanks.
        is_unreadable: The file as a whole cannot be read, whatever share of it might be lost.
    """

    def __init__(
        self,
        facts: dict[str, Any],
        pseudonym: Callable[[str], str],
        judge: Judge | None,
        drafts: Drafts,
        screening: Screening | None,
        reader: str,
    ) -> None:
        self.lines = self.rows = self.blanks = self.quarantined = 0
        self.is_unreadable = False
        self._facts, self._reader, self._pseudonym, self._judge = facts, reader, pseudonym, judge
        self._read = named(reader).read if reader != RAW else None
        self._drafts, self._screening = drafts, screening
        self._refused: list[dict[str, Any]] = []
        self._blocks: list[Block] = []
        self._tables: dict[str, list[pa.Table]] = {}
        self._times: Counter[bytes] = Counter()
        self._results: dict[tuple[str, str], ExpectationResult] = {}

    @property
    def expectations(self) -> list[ExpectationResult]:
        """How each expectation fared on all rows together."""
        return list(self._results.values())

    @property
    def personal_data(self) -> dict[str, int]:
        """Values of persons taken out or refused, by kind."""
        return dict(self._screening.counts) if self._screening else {}

    def discard(self) -> None:
        """Leave nothing of what was written so far."""
        self._drafts.discard()
        if self._screening:
            self._screening.discard()

    def take(self, block: Block) -> None:
        """Count the units of a block, and make rows of each or quarantine it."""
        self.lines += len(block)
        self._blocks.append(block)
        if self._read is None:
            self._take_raw(block)
        else:
            self._take_records(block)
        if sum(one.num_rows for parts in self._tables.values() for one in parts) >= JUDGED_ROWS:
            self.flush()

    def flush(self) -> None:
        """Judge the rows at hand and write those that pass; called once more at the end."""
        tables = {kind: pa.concat_tables(parts) for kind, parts in self._tables.items()}
        bad: dict[int, tuple[str, str, Row | None]] = {}
        for kind, table in tables.items() if self._screening else ():
            tables[kind] = self._screened(kind, table, bad)
        for kind, table in tables.items() if self._judge and self._read else ():
            self._judged(kind, table, bad)
        for line_no, why in sorted(bad.items()):
            block = self._blocks[bisect(self._blocks, line_no, key=lambda one: one.first) - 1]
            self._refuse(block.unit(line_no), *why)
        self.rows -= len(bad)
        for kind, table in tables.items():
            if bad:
                refused = pa.array(list(bad), pa.int64())
                table = table.filter(pc.invert(pc.is_in(table["line_no"], refused)))
            if table.num_rows:
                self._drafts.add(kind, table)
        if self._refused:
            clean = self._screening.lines(self._refused) if self._screening else self._refused
            self._drafts.refuse(clean)
        self._tables, self._blocks, self._refused = {}, [], []

    def _take_raw(self, block: Block) -> None:
        columns: dict[str, list[Any]] = {name: [] for name in RAW_SCHEMA.names}
        for unit in self._fit_units(block.units()):
            facts = {name: self._facts[name] for name in ("source", "batch_id", "file")}
            place = {"line_no": unit.number, "byte_offset": unit.offset}
            for name, value in (facts | place | {"record": unit.json}).items():
                columns[name].append(value)
            self.rows += 1
        self._tables.setdefault(RAW, []).append(pa.table(columns, schema=RAW_SCHEMA))

    def _take_records(self, block: Block) -> None:
        said: dict[str, Said] = {}
        bad: dict[int, tuple[str, str, Row | None]] = {}
        for number, offset, records in self._records(block):
            self.rows += 1
            for place, record in enumerate(records):
                kind = str(record.__struct_config__.tag)
                if kind not in said:
                    said[kind] = Said(kind)
                said[kind].add(record, number, offset, place)
        made = {kind: self._fitting(one, bad) for kind, one in said.items()}
        if bad:
            for line_no, why in sorted(bad.items()):
                self._refuse(block.unit(line_no), *why)
            self.rows -= len(bad)
            said = {kind: kept for kind, one in said.items() if (kept := one.without(bad)).records}
            made = {kind: self._fitting(one, {}) for kind, one in said.items()}
        for kind, one in said.items():
            self._tables.setdefault(kind, []).append(with_ids(one, *made[kind], self._times))

    def _records(self, block: Block) -> Iterator[tuple[int, int, Sequence[Record]]]:
        """Number, offset and records of each unit that holds some; the others are counted."""
        if isinstance(block, Lines) and self._reader == OWN:
            at_once = read_lines(block.data, block.lines)
            for at, (record, offset) in enumerate(zip(at_once, block.offsets, strict=True)):
                if record is not None:
                    yield block.first + at, offset, (record,)
                else:
                    yield from self._strictly(
                        [json_unit(block.first + at, offset, block.lines[at])]
                    )
        else:
            yield from self._strictly(block.units())

    def _strictly(self, units: Iterable[Unit]) -> Iterator[tuple[int, int, Sequence[Record]]]:
        assert self._read
        for unit in self._fit_units(units):
            try:
                records = tuple(self._read(unit.value))
            except (*UNFIT, RecordError) as error:
                self._refuse(unit, "invalid_record", self._told(error))
            else:
                yield unit.number, unit.offset, records

    def _fit_units(self, units: Iterable[Unit]) -> Iterator[Unit]:
        """The units that hold a value; blanks and faults are counted."""
        for unit in units:
            if unit.is_blank:
                self.blanks += 1
            elif unit.fault:
                self._refuse(unit, *unit.fault)
            else:
                yield unit

    def _told(self, error: Exception) -> str:
        if isinstance(error, RecordError | msgspec.ValidationError):
            return str(error)
        return f"not a {self._reader} record: {type(error).__name__} {error}"

    def _refuse(self, unit: Unit, kind: str, reason: str, row: Row | None = None) -> None:
        """Quarantine a unit with its bytes."""
        self.quarantined += 1
        self._refused.append(
            {
                "batch_id": self._facts["batch_id"],
                "file": self._facts["file"],
                "kind": row.kind if row else _named_kind(unit.value),
                "line_no": unit.number,
                "byte_offset": unit.offset,
                "byte_length": unit.length,
                "raw": unit.raw,
                "reason_kind": kind,
                "reason": reason.encode("utf-8", "replace").decode()[:1000],
                "record_uid": row.record_uid if row else None,
                "seen_at": self._facts["landed_at"],
            }
        )

    def _fitting(
        self, said: Said, bad: dict[int, tuple[str, str, Row | None]]
    ) -> tuple[Columns, pa.Table]:
        """The columns of records; one that they cannot hold (a number too large) is bad."""
        columns: Columns = {}
        try:
            columns = columns_of(said, self._facts, self._pseudonym)
            return columns, table_of(said.kind, columns)
        except (*UNFIT, RecordError):
            for at, line_no in enumerate(said.line_nos):
                row = None
                try:
                    columns = columns_of(said[at], self._facts, self._pseudonym)
                    row = Row(said.kind, columns["record_uid"][0])
                    table_of(said.kind, columns)
                except (*UNFIT, RecordError) as error:
                    told = str(error) if row else self._told(error)
                    bad.setdefault(line_no, ("invalid_record", told, row))
            return columns, SCHEMAS[said.kind].empty_table()

    def _screened(
        self, kind: str, table: pa.Table, bad: dict[int, tuple[str, str, Row | None]]
    ) -> pa.Table:
        assert self._screening
        table, refused = self._screening.rows(kind, table)
        for place, reason in refused.items():
            row = None if kind == RAW else Row(kind, table["record_uid"][place].as_py())
            bad.setdefault(table["line_no"][place].as_py(), (REASON, reason, row))
        return table

    def _judged(
        self, kind: str, table: pa.Table, bad: dict[int, tuple[str, str, Row | None]]
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
                row = Row(kind, table["record_uid"][place].as_py())
                bad.setdefault(table["line_no"][place].as_py(), (one.check, told, row))


def _named_kind(value: Any) -> str | None:
    """The kind that a refused line gives itself, where it can be read."""
    kind = value.get("kind") if isinstance(value, dict) else None
    return kind if isinstance(kind, str) and kind in KINDS else None
