"""From an answer or a checkpoint to the records behind it, and from a record to what it touched."""

from flywheel.lineage.behind import Reading, reading_of
from flywheel.lineage.card import write_card
from flywheel.lineage.edges import refresh
from flywheel.lineage.page import write_page
from flywheel.lineage.trace import trace

__all__ = ["Reading", "reading_of", "refresh", "trace", "write_card", "write_page"]
