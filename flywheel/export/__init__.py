"""Frozen datasets as the files of other tools, with a manifest of what became of every row."""

from flywheel.export.write import TARGETS, find_dataset, write_export

__all__ = ["TARGETS", "find_dataset", "write_export"]
