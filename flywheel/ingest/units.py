"""A file as units: lines of JSONL, elements of a JSON array, rows of CSV or Parquet.

Each unit ends as a value, as a fault with its reason, or as a blank; none is passed over. The
bytes of a unit can be found again at (offset, length) in the file, or in its decompressed stream.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
import pyarrow as pa

from flywheel.errors import IngestError
from flywheel.ingest.blocks import Block, Parsed, gathered, lines_of
from flywheel.ingest.tables import csv_units, parquet_units
from flywheel.ingest.unit import BLANK, BOM, Unit, json_unit


def read_blocks(path: Path) -> Iterator[Block]:
    """Every unit of a file in blocks, by what its name and its first byte say.

    Raises:
        IngestError: The file as a whole cannot be read: a torn archive, a torn Parquet file, an
            array that is no JSON, a table without names of columns.
    """
    name = path.name.lower().removesuffix(".gz")
    try:
        if name.endswith((".parquet", ".pq")):
            yield from gathered(parquet_units(path))
            return
        with _opened(path) as stream:
            if name.endswith((".csv", ".tsv")):
                delimiter = "\t" if name.endswith(".tsv") else ","
                yield from gathered(csv_units(stream, delimiter))
            elif name.endswith((".json", ".traj")):
                yield from _document(stream)
            else:
                yield from lines_of(stream)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise IngestError(f"the archive is torn: {error}") from error
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise IngestError(f"the file cannot be read: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with path.open("rb") as file:
        if path.name.lower().endswith(".gz"):
            with gzip.open(file) as packed:
                yield io.BufferedReader(packed, 2**20)  # type: ignore[type-var]
        else:
            yield file


def _document(stream: IO[bytes]) -> Iterator[Block]:
    """A .json or .traj file: one array, one object over many lines, or lines all the same.

    It is held in memory as a whole, and an array's elements beside it: two to three times the
    size of the file. What is larger than that belongs into JSONL, which is read line by line.
    """
    data = stream.read()
    text = data.removeprefix(BOM).strip(BLANK)
    if text[:1] == b"[":
        yield from gathered(_array(data))
        return
    if text[:1] == b"{" and b"\n" in text:
        try:
            msgspec.json.decode(text, type=msgspec.Raw)
        except (ValueError, RecursionError):
            pass
        else:
            yield Parsed([json_unit(1, 0, data)])
            return
    yield from lines_of(io.BytesIO(data))


def _array(data: bytes) -> Iterator[Unit]:
    try:
        elements = msgspec.json.decode(data.removeprefix(BOM), type=list[msgspec.Raw])
    except (ValueError, RecursionError) as error:
        raise IngestError(f"the array as a whole is no JSON: {error}") from error
    place = 0
    for number, element in enumerate(elements, start=1):
        raw = bytes(element)
        place = data.index(raw, place)
        yield json_unit(number, place, raw)
        place += len(raw)
