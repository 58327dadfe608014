"""The tables of one batch while its file is read: written aside as they come, published at its end.

The rows of a file are as many as there are; only 16 bytes of each stay in memory, of the hash of
its event, by which a batch tells what in it is new. What was erased here once is left out again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.errors import FlywheelError
from flywheel.ingest.batch import BatchManifest
from flywheel.ingest.blocks import Block, Lines
from flywheel.ingest.formats import RAW
from flywheel.ingest.runs import Digests
from flywheel.ingest.seen import EVENT, digests_of
from flywheel.lake import QUARANTINE, Draft, written_as
from flywheel.layout import Layout
from flywheel.privacy import Tombstones, erased_name


class Drafts:
    """Drafts of the tables of one batch; rows that land are written in a `compression`.

    Attributes:
        rows: Rows so far, by kind.
        events: Digests of their events, by kind; none for raw rows, which are all new.
        erased_lines: Numbers of lines of which a record was left out, because it was erased.
        erased_refused: Refused lines that were left out of quarantine for the same reason.
        erased_whole: Lines that were erased as they stand, of which nothing was read.
    """

    def __init__(
        self,
        layout: Layout,
        source: str,
        batch_id: str,
        tombstones: Tombstones,
        compression: str,
    ) -> None:
        self.rows: dict[str, int] = {}
        self.events: dict[str, list[Digests]] = {}
        self.erased_lines: set[int] = set()
        self.erased_refused = self.erased_whole = 0
        self._tombstones = tombstones
        self._layout, self._source, self._batch_id = layout, source, batch_id
        self._compression = compression
        self._drafts: dict[Path, Draft] = {}

    def add(self, kind: str, table: pa.Table) -> None:
        """Write rows of a kind."""
        raw = kind == RAW
        if self._tombstones and not (table := self._without_erased(kind, table)).num_rows:
            return
        self._draft(self._layout.raw(self._source) if raw else self._layout.landing(kind), table)
        self.rows[kind] = self.rows.get(kind, 0) + table.num_rows
        if not raw:
            self.events.setdefault(kind, []).append(digests_of(table[EVENT]))

    def without_erased_lines(self, block: Block) -> Block:
        """A block with blanks for the lines that were erased: whatever a reader or a judge would
        make of them today, nothing of them comes in. Not for lines of which several make one
        record: the others would be left without it."""
        if not self._tombstones or not isinstance(block, Lines):
            return block
        held = self._tombstones.hold(erased_name("line", line) for line in block.lines)
        gone = [one and bool(line.strip()) for one, line in zip(held, block.lines, strict=True)]
        if not any(gone):
            return block
        self.erased_whole += sum(gone)
        lines = zip(block.lines, gone, strict=True)
        data = b"\n".join(b" " * len(line) if goes else line for line, goes in lines)
        return replace(block, data=data + b"\n" * block.data.endswith(b"\n"))

    def refuse(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write rows of quarantine."""
        if self._tombstones:
            names = [erased_name("line", row["raw"]) for row in rows]
            gone = self._tombstones.hold(names)
            self.erased_refused += sum(gone)
            if not (rows := [row for row, one in zip(rows, gone, strict=True) if not one]):
                return
        self._draft(self._layout.quarantine, pa.Table.from_pylist(rows, schema=QUARANTINE))

    def publish(self, batch: BatchManifest) -> None:
        """Put every table in place, then the manifest that makes them count; all or nothing.

        Of a blocked batch only what is quarantined is put in place.
        """
        quarantine = self._layout.quarantine
        folders = sorted(self._drafts, key=lambda folder: folder != quarantine)
        published = [folder for folder in folders if folder == quarantine or not batch.blocked]
        try:
            for folder in published:
                self._drafts.pop(folder).publish()
            batch.save(self._layout)
        except FlywheelError:
            # the manifest first: one without its rows would make the file count as landed
            (self._layout.batches / f"{self._batch_id}.json").unlink(missing_ok=True)
            for folder in published:
                self._path(folder).unlink(missing_ok=True)
            raise

    def discard(self) -> None:
        """Leave nothing of what is not published; what is added from now on begins anew."""
        for draft in self._drafts.values():
            draft.discard()
        self.rows, self.events, self._drafts = {}, {}, {}
        self.erased_lines, self.erased_refused, self.erased_whole = set(), 0, 0

    def _without_erased(self, kind: str, table: pa.Table) -> pa.Table:
        column = "record" if kind == RAW else EVENT
        names = (erased_name(column, one) for one in table[column].to_pylist())
        gone = pa.array(self._tombstones.hold(names), pa.bool_())
        self.erased_lines.update(table["line_no"].filter(gone).to_pylist())
        return table.filter(pc.invert(gone))

    def _draft(self, folder: Path, table: pa.Table) -> None:
        if folder not in self._drafts:
            is_kept_small = folder == self._layout.quarantine
            compression = "zstd" if is_kept_small else self._compression
            self._drafts[folder] = Draft(self._path(folder), written_as(table), compression)
        self._drafts[folder].add(table)

    def _path(self, folder: Path) -> Path:
        return folder / f"{self._batch_id}.parquet"


@contextmanager
def drafts_of(
    layout: Layout, source: str, batch_id: str, tombstones: Tombstones, compression: str
) -> Iterator[Drafts]:
    """Drafts of which nothing is left but what was published."""
    drafts = Drafts(layout, source, batch_id, tombstones, compression)
    try:
        yield drafts
    finally:
        drafts.discard()
