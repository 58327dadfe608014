"""One file on its way in: units become rows, rows are judged, and every line is counted.

What is held in memory is a few blocks, whatever the size of the file: rows go to drafts of the
lake's tables as soon as they are judged, and count once the whole file has come in.
"""

from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.errors import RecordError
from flywheel.ingest.batch import ExpectationResult
from flywheel.ingest.blocks import Block, Lines
from flywheel.ingest.columns import Columns, Said, columns_of, record_uid, table_of, with_ids
from flywheel.ingest.drafts import Drafts
from flywheel.ingest.formats import OWN, RAW, named
from flywheel.ingest.formats.gathered import NO_LABEL, UNFIT
from flywheel.ingest.formats.own_lines import read_lines
from flywheel.ingest.gathering import Gathering
from flywheel.ingest.unit import Unit, json_unit
from flywheel.lake import RAW as RAW_SCHEMA
from flywheel.lake import SCHEMAS
from flywheel.records import KINDS, Record

JUDGED_ROWS = 50_000  # rows judged at a time: a judgement costs a tenth of a second, whatever for
Judge = Callable[[str, pa.Table], Iterable[Any]]  # flywheel.quality.judge


class Row(NamedTuple):
    """What quarantine tells of a row that was made and refused."""

    kind: str
    record_uid: str


Bad = dict[int, tuple[str, str, Row | None]]  # line -> kind of reason, reason, row


class Intake:
    """Takes one file, a block of units at a time.

    Attributes:
        lines: Units seen; always rows + quarantined + blanks.
        set_aside: Those of the quarantined that are no fault: lines that hold no label.
        skipped: What lines hold besides labels, by why: drafts, cancelled ones, predictions.
        is_unreadable: The file as a whole cannot be read, whatever share of it might be lost.
    """

    def __init__(
        self,
        facts: dict[str, Any],
        reader: str,
        pseudonym: Callable[[str], str],
        judge: Judge | None,
        drafts: Drafts,
    ) -> None:
        self.lines = self.rows = self.blanks = self.quarantined = self.set_aside = 0
        self.skipped: Counter[str] = Counter()
        self.is_unreadable = False
        self._facts, self._reader, self._pseudonym, self._judge = facts, reader, pseudonym, judge
        self._read = named(reader).read if reader != RAW else None
        gather = named(reader).gather if reader != RAW else None
        self._gathering = Gathering(gather) if gather else None
        self._held: dict[int, Unit] = {}  # all units of a file of which several make one record
        self._drafts = drafts
        self._refused: list[dict[str, Any]] = []
        self._blocks: list[Block] = []
        self._tables: dict[str, list[pa.Table]] = {}
        self._times: Counter[bytes] = Counter()
        self._results: dict[tuple[str, str], ExpectationResult] = {}

    @property
    def expectations(self) -> list[ExpectationResult]:
        """How each expectation fared on all rows together."""
        return list(self._results.values())

    def take(self, block: Block) -> None:
        """Count the units of a block, and make rows of each or quarantine it."""
        self.lines += len(block)
        if self._gathering:
            self._held |= {unit.number: unit for unit in self._fit_units(block.units())}
            return
        self._blocks.append(block)
        if self._read is None:
            self._take_raw(block)
        else:
            self._take_records(block)
        if sum(one.num_rows for parts in self._tables.values() for one in parts) >= JUDGED_ROWS:
            self.flush()

    def flush(self) -> None:
        """Judge the rows at hand and write those that pass; called once more at the end."""
        if self._gathering:
            self._gather(self._gathering)
        tables = {kind: pa.concat_tables(parts) for kind, parts in self._tables.items()}
        bad: Bad = {}
        for kind, table in tables.items() if self._judge and self._read else ():
            self._judged(kind, table, bad)
        for line_no, why in sorted(bad.items()):
            block = self._blocks[bisect(self._blocks, line_no, key=lambda one: one.first) - 1]
            self._refuse(block.unit(line_no), *why)
        self.rows -= len(bad)
        for kind, table in tables.items():
            if (table := _without(table, "line_no", list(bad))).num_rows:
                self._drafts.add(kind, table)
        if self._refused:
            self._drafts.refuse(self._refused)
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
        said = self._said(block)
        bad: Bad = {}
        tables = self._tabled(said, bad)
        for line_no, why in sorted(bad.items()):
            self._refuse(block.unit(line_no), *why)
        self.rows -= len(bad)
        for kind, table in tables.items():
            self._tables.setdefault(kind, []).append(table)

    def _gather(self, gathering: Gathering) -> None:
        """Write the records that rows of the file make together; called once, at the end.

        A record falls with each of its lines, and a line with the last of its records.
        """
        values = {number: unit.value for number, unit in self._held.items()}
        found, refused = gathering.records(values, self._facts["file"])
        for number, because in sorted(refused.items()):
            self._refuse(self._held.pop(number), *because)
        said: dict[str, Said] = {}
        for number, records in sorted(found.items()):
            _add(said, number, self._held[number].offset, records)
        bad: Bad = {}
        tables = self._tabled(said, bad)
        for kind, table in tables.items() if self._judge else ():
            self._judged(kind, table, bad)
        names, left = gathering.fallen(bad)
        for line, fault in left:
            bad.setdefault(line, ("unresolved", f"it belongs to the refused line {fault}", None))
        for line_no, why in sorted(bad.items()):
            self._refuse(self._held.pop(line_no), *why)
        self.rows += len(self._held)
        fallen = [record_uid(self._facts["batch_id"], *name) for name in names]
        for kind, table in tables.items():
            table = _without(table, "line_no", list(bad))
            if (table := _without(table, "record_uid", fallen)).num_rows:
                self._drafts.add(kind, table)

    def _tabled(self, said: dict[str, Said], bad: Bad) -> dict[str, pa.Table]:
        """Records of each kind as a table, without the lines that turn out bad."""
        made = {kind: self._fitting(one, bad) for kind, one in said.items()}
        if bad:
            said = {kind: kept for kind, one in said.items() if (kept := one.without(bad)).records}
            made = {kind: self._fitting(one, {}) for kind, one in said.items()}
        return {kind: with_ids(one, *made[kind], self._times) for kind, one in said.items()}

    def _said(self, block: Block) -> dict[str, Said]:
        """The records of a block by kind; units that hold none are counted."""
        said: dict[str, Said] = {}
        if not (isinstance(block, Lines) and self._reader == OWN):
            for unit, records in self._strictly(block.units()):
                _add(said, unit.number, unit.offset, records)
            return said
        at_once = zip(read_lines(block.data, block.lines), block.offsets, strict=True)
        for number, (record, offset) in enumerate(at_once, start=block.first):
            if record is not None:
                self.rows += 1
                _add(said, number, offset, (record,))
            else:
                unit = json_unit(number, offset, block.lines[number - block.first])
                for _, records in self._strictly([unit]):
                    _add(said, number, offset, records)
        return said

    def _strictly(self, units: Iterable[Unit]) -> Iterator[tuple[Unit, Sequence[Record]]]:
        """Each unit that a reader takes, with its records."""
        assert self._read
        for unit in self._fit_units(units):
            try:
                records = self._read(unit.value)
            except (*UNFIT, RecordError) as error:
                self._refuse(unit, "invalid_record", self._told(error))
                continue
            skipped: Mapping[str, int] = getattr(records, "skipped", {})
            self.skipped.update(skipped)
            if records:
                self.rows += 1
                yield unit, records
            else:
                told = ", ".join(f"{count} {why}" for why, count in sorted(skipped.items()))
                self._refuse(unit, NO_LABEL, f"it holds no label: {told or 'nobody gave one'}")

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
        self.set_aside += kind == NO_LABEL
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

    def _fitting(self, said: Said, bad: Bad) -> tuple[Columns, pa.Table]:
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

    def _judged(self, kind: str, table: pa.Table, bad: Bad) -> None:
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


def _add(said: dict[str, Said], number: int, offset: int, records: Iterable[Record]) -> None:
    """Put the records of one line with those of their kind."""
    for place, record in enumerate(records):
        kind = str(record.__struct_config__.tag)
        if kind not in said:
            said[kind] = Said(kind)
        said[kind].add(record, number, offset, place)


def _without(table: pa.Table, column: str, values: list[Any]) -> pa.Table:
    if not values:
        return table
    gone = pa.array(values, table.schema.field(column).type)
    return table.filter(pc.invert(pc.is_in(table[column], gone)))


def _named_kind(value: Any) -> str | None:
    """The kind that a refused line gives itself, where it can be read."""
    kind = value.get("kind") if isinstance(value, dict) else None
    return kind if isinstance(kind, str) and kind in KINDS else None
