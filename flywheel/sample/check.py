"""Was every planted fault caught where it should be? The wheel's own test on known ground truth.

Reads what the platform concluded (lake, quarantine, marts) and compares it with
`sample/planted.json`; nothing else reads that file. `flywheel run` prints the answer as a table.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa

from flywheel.ingest import read_batches
from flywheel.lake import read_folder
from flywheel.layout import Layout
from flywheel.sample.annotators import ANNOTATORS
from flywheel.sample.deliver import read_truth
from flywheel.sample.faults import PERSON, Planted
from flywheel.warehouse import read_table

ORDER = ("expert", "careful", "hasty", "spammer")  # of reliability, best first
LEFT_TASTE = 0.8  # share of first places from which on a taste for the left side is plain


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultOutcome:
    """What became of one kind of planted fault; `where` is the place that should catch it."""

    fault: str
    planted: int
    caught: int
    where: str
    passed: bool


def check_faults(layout: Layout) -> list[FaultOutcome]:
    """Compare what was planted with what was caught; one outcome a fault, in planted order.

    Raises:
        SettingsError: The sample world was not delivered here.
        WarehouseError: The marts are not built yet.
    """
    found = _Found(layout)
    judges: dict[str, Callable[[Planted], tuple[int, int, str]]] = {
        "quarantine": found.in_quarantine,
        "blank": found.as_blank,
        "excluded": found.as_excluded,
        "conflict": found.as_conflict,
        "pseudonym": found.as_pseudonym,
        "no batch": found.as_no_batch,
    }
    outcomes = [
        _outcome(planted.fault, *judges[planted.where](planted))
        for planted in read_truth(layout).planted
    ]
    return [*outcomes, *found.annotators()]


def _outcome(fault: str, planted: int, caught: int, where: str) -> FaultOutcome:
    return FaultOutcome(
        fault=fault, planted=planted, caught=caught, where=where, passed=caught == planted
    )


class _Found:
    """What the platform concluded, read once."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.batches = read_batches(layout)
        self.quarantined = {
            (Path(row["file"]).name, row["line_no"])
            for row in read_folder(layout.quarantine).select(["file", "line_no"]).to_pylist()
        }
        self.landed = {
            kind: read_folder(layout.landing(kind))
            for kind in ("demonstration", "comparison", "ranking", "rating")
        }
        self.record_of = {
            uid: record
            for table in self.landed.values()
            for uid, record in zip(
                table["record_uid"].to_pylist(), table["record_id"].to_pylist(), strict=True
            )
        }
        self.statuses: dict[str, set[str]] = {}
        for row in self._mart("marts.fct_excluded", ["record_uid", "status"]):
            record = self.record_of.get(row["record_uid"])
            if record is not None:
                self.statuses.setdefault(record, set()).add(row["status"])

    def _mart(self, table: str, columns: list[str]) -> list[dict[str, Any]]:
        found: pa.Table = read_table(self.layout.warehouse_copy, table, columns)
        return list(found.to_pylist())

    def in_quarantine(self, planted: Planted) -> tuple[int, int, str]:
        caught = sum((planted.file, line) in self.quarantined for line in planted.lines)
        return len(planted.lines), caught, "quarantine"

    def as_blank(self, planted: Planted) -> tuple[int, int, str]:
        blanks = sum(b.blanks for b in self.batches if Path(b.file).name == planted.file)
        return len(planted.lines), blanks, "counted as blank"

    def as_no_batch(self, planted: Planted) -> tuple[int, int, str]:
        names = [Path(batch.file).name for batch in self.batches]
        twin = planted.file.replace("_resent", "")
        return 1, int(sum(name in (planted.file, twin) for name in names) == 1), "landed once"

    def as_excluded(self, planted: Planted) -> tuple[int, int, str]:
        wanted = set(planted.statuses)
        caught = sum(
            any(self.statuses.get(record, set()) & wanted for record in item)
            for item in planted.items
        )
        return len(planted.items), caught, f"fct_excluded: {planted.statuses[0]}"

    def as_conflict(self, planted: Planted) -> tuple[int, int, str]:
        marked: set[str | None] = set()
        for row in self._mart("marts.fct_preferences", ["is_conflict", "record_uids"]):
            if row["is_conflict"]:
                marked.update(self.record_of.get(uid) for uid in row["record_uids"])
        caught = sum(any(record in marked for record in item) for item in planted.items)
        return len(planted.items), caught, "fct_preferences: is_conflict"

    def as_pseudonym(self, planted: Planted) -> tuple[int, int, str]:
        table = self.landed["rating"]
        ids = dict(
            zip(table["record_id"].to_pylist(), table["annotator_id"].to_pylist(), strict=True)
        )
        hidden = [ids.get(item[0]) for item in planted.items]
        caught = sum(one is not None and one != PERSON and "@" not in one for one in hidden)
        return len(planted.items), caught, "pseudonym in landing"

    def annotators(self) -> Iterable[FaultOutcome]:
        """Spammers by their weight and by their taste for the left side, in dim_annotators."""
        types = self._types()
        columns = ["annotator_id", "weight", "left_share"]
        rows = [
            (types[row["annotator_id"]], row["weight"], row["left_share"])
            for row in self._mart("marts.dim_annotators", columns)
            if types.get(row["annotator_id"]) in ORDER
        ]
        mean = {
            kind: sum(found) / len(found)
            for kind in ORDER
            if (found := [weight for one, weight, _ in rows if one == kind])
        }
        ordered = [mean[kind] for kind in ORDER if kind in mean]
        falls = sum(a > b for a, b in pairwise(ordered))
        yield _outcome(
            "reliability: expert > careful > hasty > spammer",
            len(ORDER) - 1,
            falls,
            "dim_annotators: mean weight by type",
        )
        spammers = [one.name for one in ANNOTATORS if one.type == "spammer"]
        left = sum(kind == "spammer" and (share or 0) > LEFT_TASTE for kind, _, share in rows)
        others = sum(kind != "spammer" and (share or 0) > LEFT_TASTE for kind, _, share in rows)
        yield _outcome(
            "spammer who takes the left side",
            len(spammers),
            left if not others else 0,
            "dim_annotators: left_share",
        )

    def _types(self) -> dict[str, str]:
        """Type of each annotator by the id he landed with, from the records' metadata."""
        types: dict[str, str] = {}
        for kind in ("comparison", "ranking"):
            table = self.landed[kind].select(["annotator_id", "metadata"])
            for row in table.to_pylist():
                said = json.loads(row["metadata"] or "{}").get("annotator_type")
                if said and row["annotator_id"]:
                    types[row["annotator_id"]] = said
        return types
