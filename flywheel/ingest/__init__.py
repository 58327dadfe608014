"""Foreign formats to records: one module a format; batches, quarantine, nothing lost."""

from flywheel.ingest.batch import (
    BatchManifest,
    ExpectationResult,
    landing_counts,
    latest_batch_number,
    only_committed,
    quarantine_kinds,
    quarantine_reasons,
    read_batches,
    standing_batches,
    unaccounted,
)
from flywheel.ingest.land import land, pending_files
from flywheel.ingest.left import keep_left, left_alone
from flywheel.ingest.refused import why_blocked

__all__ = [
    "BatchManifest",
    "ExpectationResult",
    "keep_left",
    "land",
    "landing_counts",
    "latest_batch_number",
    "left_alone",
    "only_committed",
    "pending_files",
    "quarantine_kinds",
    "quarantine_reasons",
    "read_batches",
    "standing_batches",
    "unaccounted",
    "why_blocked",
]
