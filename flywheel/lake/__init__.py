"""Parquet folders: append a batch, publish atomically, read."""

from flywheel.lake.files import Draft, ensure, read_folder, write_table
from flywheel.lake.schema import DERIVED, QUARANTINE, RAW, SCHEMAS

__all__ = [
    "DERIVED",
    "QUARANTINE",
    "RAW",
    "SCHEMAS",
    "Draft",
    "ensure",
    "read_folder",
    "write_table",
]
