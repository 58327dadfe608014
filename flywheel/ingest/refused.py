"""Units that did not become rows: counted, and kept with their bytes and the reason."""

from collections import Counter
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from flywheel.ingest.batch import UNREAD, BatchManifest
from flywheel.ingest.formats.gathered import NO_LABEL
from flywheel.ingest.unit import Unit
from flywheel.layout import Layout
from flywheel.records import KINDS

TOLD_CHARACTERS = 300  # of a reason, where it is one of many
ROW_BYTES = 1000  # of a row of quarantine beside its line


class Row(NamedTuple):
    """What quarantine tells of a row that was made and refused."""

    kind: str
    record_uid: str


Bad = dict[int, tuple[str, str, Row | None]]  # line -> kind of reason, reason, row


class Refused:
    """What one file was refused of.

    Attributes:
        count: Units refused.
        set_aside: Those of them that are no fault: lines that hold no label.
        held: Bytes of memory, about, of the rows that nobody has taken yet.
    """

    def __init__(self, facts: dict[str, Any]) -> None:
        self.count = self.set_aside = self.held = 0
        self._facts = facts
        self._rows: list[dict[str, Any]] = []

    def add(self, unit: Unit, kind: str, reason: str, row: Row | None = None) -> None:
        """Refuse a unit."""
        self.count += 1
        self.set_aside += kind == NO_LABEL
        self.held += len(unit.raw) + ROW_BYTES
        self._rows.append(
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

    def taken(self) -> list[dict[str, Any]]:
        """Rows of quarantine since it was asked last."""
        rows, self._rows, self.held = self._rows, [], 0
        return rows


def why_blocked(batch: BatchManifest, layout: Layout) -> str:
    """Why a file is blocked, with the commonest reason of its lines; empty where it is not."""
    why = batch.blocked_because
    path = layout.quarantine / f"{batch.batch_id}.parquet"
    if not why or why.startswith(UNREAD) or not path.exists():
        return why
    lines = pq.read_table(path, columns=["reason_kind", "reason"])
    grouped = lines.group_by(lines.column_names, use_threads=False)  # in their order
    rows = grouped.aggregate([([], "count_all")]).to_pylist()
    kinds: Counter[str] = Counter()  # many reasons name a value, and are one alike
    for row in rows:
        kinds[row["reason_kind"]] += row["count_all"]
    del kinds[NO_LABEL]
    if not kinds:
        return why  # what was refused has been erased since
    (kind, _), *_ = kinds.most_common(1)
    reason = max((r for r in rows if r["reason_kind"] == kind), key=lambda r: r["count_all"])
    told = reason["reason"]
    told = told if len(told) <= TOLD_CHARACTERS else f"{told[:TOLD_CHARACTERS]} ..."
    return f"{why}; most often ({reason['count_all']} of them): {told}"


def _named_kind(value: Any) -> str | None:
    """The kind that a refused line gives itself, where it can be read."""
    kind = value.get("kind") if isinstance(value, dict) else None
    return kind if isinstance(kind, str) and kind in KINDS else None
