"""From an answer or a checkpoint to the records behind it, and from a record to what it touched."""

from flywheel.lineage.behind import Reading, reading_of
from flywheel.lineage.card import write_card
from flywheel.lineage.edges import refresh
from flywheel.lineage.erased import Erasure, Erasures
from flywheel.lineage.page import write_page
from flywheel.lineage.permission import INVARIANT, against_its_use, forbidden_by
from flywheel.lineage.trace import reached_by, trace

__all__ = [
    "INVARIANT",
    "Erasure",
    "Erasures",
    "Reading",
    "against_its_use",
    "forbidden_by",
    "reached_by",
    "reading_of",
    "refresh",
    "trace",
    "write_card",
    "write_page",
]
