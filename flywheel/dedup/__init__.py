"""Which texts repeat, which prompts belong together, and which overlap an evaluation."""

from flywheel.dedup.control import positive_control
from flywheel.dedup.marks import Report, mark

__all__ = ["Report", "mark", "positive_control"]
