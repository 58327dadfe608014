"""The columns of a table as the Dagster UI shows them."""

from collections.abc import Iterable, Mapping

import dagster as dg
import pyarrow as pa


def column_schema(
    columns: Iterable[tuple[str, str]], descriptions: Mapping[str, str] | None = None
) -> dg.TableSchema:
    """Columns by name and type, in their order; what a description says of them where one does."""
    said = descriptions or {}
    return dg.TableSchema(
        [dg.TableColumn(name, kind, description=said.get(name) or None) for name, kind in columns]
    )


def parquet_columns(schema: pa.Schema) -> dg.TableSchema:
    """The columns of a Parquet file."""
    return column_schema((field.name, str(field.type)) for field in schema)
