"""One file on its way in: units become rows, rows are judged, and every line is counted.

What is held in memory is a few blocks, whatever the size of the file: rows go to drafts of the
lake's tables as soon as they are judged, and count once the whole file has come in.
"""

from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from flywheel.errors import RecordError
from flywheel.ingest.batch import ExpectationResult
from flywheel.ingest.blocks import Block, Lines
from flywheel.ingest.columns import (
    Columns,
    Said,
    add_to,
    as_landed,
    columns_of,
    raw_table,
    record_uid,
    table_of,
    with_ids,
    without_rows,
)
from flywheel.ingest.drafts import Drafts
from flywheel.ingest.formats import OWN, RAW, named
from flywheel.ingest.formats.gathered import NO_LABEL, UNFIT
from flywheel.ingest.formats.own_lines import read_lines
from flywheel.ingest.gathering import Gathering
from flywheel.ingest.native import library
from flywheel.ingest.ordinary import CACHED_BYTES, CACHED_ROWS, OrdinaryLines
from flywheel.ingest.refused import Bad, Refused, Row
from flywheel.ingest.screening import REASON, Screening
from flywheel.ingest.unit import Unit, json_unit
from flywheel.lake import SCHEMAS
from flywheel.records import Record

JUDGED_ROWS = 50_000  # rows judged at a time: a judgement costs a tenth of a second, whatever for
HELD_BYTES = 128 * 2**20  # of lines whose rows are not judged yet, and of refused ones
Judge = Callable[[str, pa.Table], Iterable[Any]]  # flywheel.quality.judge


class Intake:
    """Takes one file, a block of units at a time.

    Attributes:
        lines: Units seen; always rows + quarantined + blanks.
        skipped: What lines hold besides labels, by why: drafts, predictions, unreadable parts.
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
        self.lines = self.rows = self.blanks = self._held_bytes = 0
        self.skipped: Counter[str] = Counter()
        self.is_unreadable = False
        self._facts, self._reader, self._pseudonym, self._judge = facts, reader, pseudonym, judge
        self._read = named(reader).read if reader != RAW else None
        gather = named(reader).gather if reader != RAW else None
        self._gathering = Gathering(gather, self.skipped) if gather else None
        self._held: dict[int, Unit] = {}  # all units of a file of which several make one record
        self._drafts, self._screening = drafts, screening
        self._is_looked_at = bool(judge or screening)  # then rows may yet turn out bad
        self._ordinary = OrdinaryLines(facts) if reader == OWN and library() else None
        self._refused = Refused(facts)
        self._blocks: list[Block] = []
        self._tables: dict[str, list[pa.Table]] = {}
        self._times: Counter[bytes] = Counter()
        self._results: dict[tuple[str, str], ExpectationResult] = {}

    @property
    def quarantined(self) -> int:
        """Units refused."""
        return self._refused.count

    @property
    def set_aside(self) -> int:
        """Those of the quarantined that are no fault: lines that hold no label."""
        return self._refused.set_aside

    @property
    def expectations(self) -> list[ExpectationResult]:
        """How each expectation fared on all rows together."""
        return list(self._results.values())

    @property
    def personal_data(self) -> dict[str, int]:
        """Values of persons taken out or refused, by kind."""
        return dict(self._screening.counts) if self._screening else {}

    @property
    def held(self) -> int:
        """Bytes of memory, about, of the lines that rows at hand are made of and of refused ones.

        Lines of which several make one record aside: those are held to the end of the file.
        """
        return self._held_bytes + self._refused.held

    def discard(self) -> None:
        """Leave nothing of what was written so far."""
        self._drafts.discard()
        if self._screening:
            self._screening.discard()

    def take(self, block: Block) -> None:
        """Count the units of a block, and make rows of each or quarantine it."""
        self.lines += len(block)
        if self._gathering:
            self._held |= {unit.number: unit for unit in self._fit_units(block.units())}
            return
        rows, block = self.rows, self._drafts.without_erased_lines(block)
        (self._take_raw if self._read is None else self._take_records)(block)
        if self.rows > rows:
            self._held_bytes += block.held
            if self._is_looked_at:  # else nobody will ask for a line of it
                self._blocks.append(block)
        at_hand = sum(one.num_rows for parts in self._tables.values() for one in parts)
        at_hand += self._ordinary.count if self._ordinary else 0
        is_full = not self._is_looked_at and self.held >= CACHED_BYTES and at_hand >= CACHED_ROWS
        if is_full or at_hand >= JUDGED_ROWS or self.held >= HELD_BYTES:
            self.flush()

    def flush(self) -> None:
        """Judge the rows at hand and write those that pass; called once more at the end."""
        if self._gathering:
            self._gather(self._gathering)
        tables = {kind: pa.concat_tables(parts) for kind, parts in self._tables.items()}
        tables = self._ordinary.taken(tables) if self._ordinary else tables
        bad: Bad = {}
        for kind, table in tables.items() if self._screening else ():
            tables[kind] = self._screened(kind, table, bad)
        for kind, table in tables.items() if self._judge and self._read else ():
            self._judged(kind, table, bad)
        for line_no, why in sorted(bad.items()):
            block = self._blocks[bisect(self._blocks, line_no, key=lambda one: one.first) - 1]
            self._refused.add(block.unit(line_no), *why)
        self.rows -= len(bad)
        for kind, table in tables.items():
            if (table := without_rows(table, "line_no", list(bad))).num_rows:
                self._drafts.add(kind, table)
        if refused := self._refused.taken():
            self._drafts.refuse(self._screening.lines(refused) if self._screening else refused)
        self._tables, self._blocks, self._held_bytes = {}, [], 0

    def _take_raw(self, block: Block) -> None:
        table = raw_table(self._fit_units(block.units()), self._facts, self._pseudonym)
        self.rows += table.num_rows
        self._tables.setdefault(RAW, []).append(table)

    def _take_records(self, block: Block) -> None:
        bad: Bad = {}
        tables = self._tabled(self._said(block), bad)
        for line_no, why in sorted(bad.items()):
            self._refused.add(block.unit(line_no), *why)
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
            self._refused.add(self._held.pop(number), *because)
        said: dict[str, Said] = {}
        for number, records in sorted(found.items()):
            add_to(said, number, self._held[number].offset, records)
        bad: Bad = {}
        tables = self._tabled(said, bad)
        for kind, table in tables.items() if self._screening else ():
            tables[kind] = self._screened(kind, table, bad)
        for kind, table in tables.items() if self._judge else ():
            self._judged(kind, table, bad)
        names, left = gathering.fallen(bad)
        for line, fault in left:
            bad.setdefault(line, ("unresolved", f"it belongs to the refused line {fault}", None))
        for line_no, why in sorted(bad.items()):
            self._refused.add(self._held.pop(line_no), *why)
        self.rows += len(self._held)
        fallen = [record_uid(self._facts["batch_id"], *name) for name in names]
        for kind, table in tables.items():
            table = without_rows(table, "line_no", list(bad))
            if (table := without_rows(table, "record_uid", fallen)).num_rows:
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
                add_to(said, unit.number, unit.offset, records)
            return said
        left = self._ordinary.take(block) if self._ordinary else block.numbered()
        read = read_lines([line for _, _, line in left])
        self.rows += len(block) - read.count(None)
        for (number, offset, line), record in zip(left, read, strict=True):
            if record is not None:
                add_to(said, number, offset, (record,))
            else:
                for _, made in self._strictly([json_unit(number, offset, line)]):
                    add_to(said, number, offset, made)
        return said

    def _strictly(self, units: Iterable[Unit]) -> Iterator[tuple[Unit, Sequence[Record]]]:
        """Each unit that a reader takes, with its records."""
        assert self._read
        for unit in self._fit_units(units):
            try:
                records = self._read(unit.value)
            except (*UNFIT, RecordError) as error:
                self._refused.add(unit, "invalid_record", self._told(error))
                continue
            skipped: Mapping[str, int] = getattr(records, "skipped", {})
            self.skipped.update(skipped)
            if records:
                self.rows += 1
                yield unit, records
            else:
                told = ", ".join(f"{count} {why}" for why, count in sorted(skipped.items()))
                self._refused.add(unit, NO_LABEL, f"it holds no label: {told or 'nobody gave one'}")

    def _fit_units(self, units: Iterable[Unit]) -> Iterator[Unit]:
        """The units that hold a value; blanks and faults are counted."""
        for unit in units:
            if unit.is_blank:
                self.blanks += 1
            elif unit.fault:
                self._refused.add(unit, *unit.fault)
            else:
                yield unit

    def _told(self, error: Exception) -> str:
        if isinstance(error, RecordError | msgspec.ValidationError):
            return str(error)
        return f"not a {self._reader} record: {type(error).__name__} {error}"

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

    def _screened(self, kind: str, table: pa.Table, bad: Bad) -> pa.Table:
        assert self._screening
        table, refused = self._screening.rows(kind, as_landed(kind, table))
        for place, reason in refused.items():
            row = None if kind == RAW else Row(kind, table["record_uid"][place].as_py())
            bad.setdefault(table["line_no"][place].as_py(), (REASON, reason, row))
        return table

    def _judged(self, kind: str, table: pa.Table, bad: Bad) -> None:
        assert self._judge
        for one in self._judge(kind, as_landed(kind, table)):
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
