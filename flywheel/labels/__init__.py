"""How far each annotator can be trusted, and what a crowd's labels come to."""

from flywheel.labels.marks import Report, weigh_labels
from flywheel.labels.overview import Overview, overview
from flywheel.labels.page import plots, write_page

__all__ = ["Overview", "Report", "overview", "plots", "weigh_labels", "write_page"]
