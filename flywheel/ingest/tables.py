"""Rows of CSV and of Parquet as units."""

import csv
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.errors import IngestError
from flywheel.ingest.unit import BOM, TextRow, Unit

FIELD_LIMIT = 32 * 2**20  # characters of one field of CSV
NAME_LIMIT = 200  # characters; a name of a column is shorter, a response often is not
NUMBER_OR_DATE = re.compile(r"[-+\d.,:/ ]*\d[-+\d.,:/TZeE ]*")


def csv_units(stream: IO[bytes], delimiter: str) -> Iterator[Unit]:
    """Rows of CSV below its header; an empty field is a null.

    Raises:
        IngestError: The header cannot be read, names a column twice, or looks like a row of
            data, which would be lost as one; or a stray quotation mark takes the rows below it
            for one field.
    """
    header: list[str] = []
    below = False
    for unit, row in _rows(stream, delimiter):
        if not header and (row or unit.fault):
            _check_header(unit.fault[1] if unit.fault else _unlike_a_header(row))
            header = row
            continue
        if unit.fault and unit.fault[0] == "invalid_csv":
            _check_quotes(unit)
        if row and not unit.fault:
            if not below:
                _check_header(_repeated(header, row))
                below = True
            if len(row) == len(header):
                pairs = zip(header, row, strict=True)
                unit.value = TextRow((name, text or None) for name, text in pairs)
            else:
                found = f"{len(row)} fields where the header has {len(header)}"
                unit.fault = ("wrong_field_count", found)
        yield unit


def _rows(stream: IO[bytes], delimiter: str) -> Iterator[tuple[Unit, list[str]]]:
    """Every row of CSV with its bytes, the header's too.

    Between tabs a quotation mark is a character like any other (text/tab-separated-values).
    """
    csv.field_size_limit(FIELD_LIMIT)
    taken: list[bytes] = []
    offset = 0

    def lines() -> Iterator[str]:
        for line in stream:
            text = line if offset or taken else line.removeprefix(BOM)
            taken.append(line)
            yield text.decode("utf-8", "surrogateescape")

    quoting: Any = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    reader = csv.reader(lines(), delimiter=delimiter, strict=True, quoting=quoting)
    while True:
        number, row, fault = reader.line_num + 1, list[str](), None
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fault = ("invalid_csv", str(error))
        raw = b"".join(taken)
        taken.clear()
        unit = Unit(number, offset, raw.rstrip(b"\r\n"), len(raw), fault=fault)
        offset += len(raw)
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError as error:
            unit.fault = fault or ("invalid_utf8", str(error))
        yield unit, row


def _check_quotes(unit: Unit) -> None:
    """Refuse a table in which a broken row holds whole others: their number is not its own."""
    swallowed = unit.raw.count(b"\n")
    if swallowed:
        raise IngestError(
            f"a quotation mark in line {unit.number} opens a field that does not end where it "
            f"should ({unit.fault and unit.fault[1]}), and the {swallowed} lines below it would "
            f"be lost with it; write a mark inside a field twice, in a field between marks, or "
            f"land the table as .tsv, where marks mean nothing"
        )


def _check_header(fault: str | None) -> None:
    if fault:
        raise IngestError(
            f"the first line must name the columns, each once, but {fault}; write such a line on "
            f"top of the file (with pandas: header=True, index=False)"
        )


def _unlike_a_header(row: list[str]) -> str | None:
    """What in a row no header holds; says where and not what, for it may be somebody's words."""
    if len(set(row)) < len(row):
        return "it says the same in two of them"
    for column, name in enumerate(row, start=1):
        if not name.strip():
            return f"column {column} of it is empty"
        if len(name) > NAME_LIMIT:
            return f"column {column} of it holds {len(name)} characters"
        if NUMBER_OR_DATE.fullmatch(name.strip()):
            return f"column {column} of it holds a number or a date"
    return None


def _repeated(header: list[str], row: list[str]) -> str | None:
    """A column that says in its first row what its name is: then the name was a row as well."""
    for column, (name, text) in enumerate(zip(header, row, strict=False), start=1):
        if name == text:
            return f"column {column} says the same in it as in the row below"
    return None


def parquet_units(path: Path) -> Iterator[Unit]:
    """Rows of Parquet; a null stays a null, as in JSON: only a reader knows what it says.

    Raises:
        IngestError: Two columns have one name.
    """
    source: Any = path
    if path.name.lower().endswith(".gz"):
        with gzip.open(path) as packed:
            source = pa.BufferReader(packed.read())
    file = pq.ParquetFile(source)
    names = file.schema_arrow.names
    if len(set(names)) < len(names):
        raise IngestError("two of its columns have one name")
    number = 0
    for batch in file.iter_batches(batch_size=4096):
        for row in batch.to_pylist():
            number += 1
            raw = json.dumps(row, default=str).encode()
            unit = Unit(number, -1, raw, len(raw), value=row)
            if b"NaN" in raw or b"Infinity" in raw:
                try:
                    msgspec.json.decode(raw, type=msgspec.Raw)
                except msgspec.DecodeError:
                    unit.value, unit.fault = None, ("invalid_json", "a number that is not finite")
            yield unit
