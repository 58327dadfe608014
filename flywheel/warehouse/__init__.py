"""The warehouse as Python sees it: a read copy, its tables, and snapshots frozen from them.

dbt owns the warehouse and nobody else opens it. After each dbt step a whole copy is published;
everything here reads that copy, shortly, and closes it again.
"""

from flywheel.warehouse.read import (
    TextsToScreen,
    column_types,
    newest_batch_number,
    open_copy,
    open_texts_to_screen,
    publish_read_copy,
    read_table,
    row_counts,
    set_aside_if_damaged,
)
from flywheel.warehouse.snapshot import freeze, groups_in_two_splits

__all__ = [
    "TextsToScreen",
    "column_types",
    "freeze",
    "groups_in_two_splits",
    "newest_batch_number",
    "open_copy",
    "open_texts_to_screen",
    "publish_read_copy",
    "read_table",
    "row_counts",
    "set_aside_if_damaged",
]
