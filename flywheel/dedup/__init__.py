"""Which texts repeat, which prompts belong together, and which overlap an evaluation."""

from flywheel.dedup.marks import Report, mark, positive_control

__all__ = ["Report", "mark", "positive_control"]
