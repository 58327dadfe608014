"""How far each annotator can be trusted, and what a crowd's labels come to."""

from flywheel.labels.marks import Report, weigh_labels

__all__ = ["Report", "weigh_labels"]
