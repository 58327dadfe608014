"""From an answer or a checkpoint to the records behind it, and from a record to what it touched."""

from flywheel.lineage.card import write_card
from flywheel.lineage.edges import refresh
from flywheel.lineage.trace import trace

__all__ = ["refresh", "trace", "write_card"]
