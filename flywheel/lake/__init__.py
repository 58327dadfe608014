"""Parquet folders: append a batch, publish atomically, read."""

from flywheel.lake.files import COMPRESSIONS, Draft, ensure, read_folder, write_table, written_as
from flywheel.lake.lock import locked
from flywheel.lake.schema import DERIVED, ERASED, EVALUATION, LINEAGE, QUARANTINE, RAW, SCHEMAS
from flywheel.lake.whole import whole

__all__ = [
    "COMPRESSIONS",
    "DERIVED",
    "ERASED",
    "EVALUATION",
    "LINEAGE",
    "QUARANTINE",
    "RAW",
    "SCHEMAS",
    "Draft",
    "ensure",
    "locked",
    "read_folder",
    "whole",
    "write_table",
    "written_as",
]
