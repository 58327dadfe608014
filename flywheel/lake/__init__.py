"""Parquet folders: append a batch, publish atomically, read."""

from flywheel.lake.files import ensure, read_folder, write_table
from flywheel.lake.schema import DERIVED, QUARANTINE, RAW, SCHEMAS

__all__ = ["DERIVED", "QUARANTINE", "RAW", "SCHEMAS", "ensure", "read_folder", "write_table"]
