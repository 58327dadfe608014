"""Stretches of a file: lines that nobody has parsed yet, or units that are.

A reader that knows a format may take a stretch of lines as a whole. Whatever it does not take is
parsed strictly, one line at a time, by `unit`, which alone decides what a line is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import IO

import numpy as np

from flywheel.ingest.native import library
from flywheel.ingest.unit import Unit, json_unit

LINE_LIMIT = 32 * 2**20  # longer lines are not parsed
KEPT_LIMIT = 64 * 2**20  # bytes of an overlong line that quarantine keeps
BLOCK_BYTES = 2**20  # read at a time: what fits into a cache; parsed, ten times as much memory
BLOCK_UNITS = 10_000
UNIT_BYTES = 50  # of memory that a line takes beside its signs
Numbered = tuple[int, int, bytes]  # number, offset and bytes of a line


@dataclass(frozen=True)
class Lines:
    """Whole lines of JSON, in the order of the file.

    Attributes:
        first: Number of the first one.
        offset: Where it begins.
        data: All of them with their ends.
    """

    first: int
    offset: int
    data: bytes

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _count(self) -> int:
        if kernel := library():
            return int(kernel.lines_count(self.data, len(self.data)))
        is_end = np.frombuffer(self.data, np.uint8) == 0x0A  # bytes.count takes five times as long
        return int(np.count_nonzero(is_end)) + (not self.data.endswith(b"\n"))

    @cached_property
    def lines(self) -> list[bytes]:
        """Each without its end."""
        lines = self.data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        return lines

    def numbered(self) -> list[Numbered]:
        """Every line with its number and its place."""
        numbers = range(self.first, self.first + len(self))
        return list(zip(numbers, self.offsets, self.lines, strict=True))

    @property
    def held(self) -> int:
        """Bytes of memory, about."""
        return 2 * len(self.data) + UNIT_BYTES * len(self)

    @cached_property
    def offsets(self) -> list[int]:
        """Where each line begins."""
        return list(accumulate((len(line) + 1 for line in self.lines[:-1]), initial=self.offset))

    def units(self) -> Iterator[Unit]:
        """Every line, parsed strictly."""
        for at, (line, offset) in enumerate(zip(self.lines, self.offsets, strict=True)):
            yield json_unit(self.first + at, offset, line)

    def unit(self, number: int) -> Unit:
        """The line of a number, parsed strictly."""
        at = number - self.first
        return json_unit(number, self.offsets[at], self.lines[at])


@dataclass(frozen=True, slots=True)
class Parsed:
    """Units that are parsed: elements of an array, rows of a table."""

    parsed: Sequence[Unit]

    def __len__(self) -> int:
        return len(self.parsed)

    @property
    def first(self) -> int:
        """Number of the first one."""
        return self.parsed[0].number

    @property
    def held(self) -> int:
        """Bytes of memory, about, the parsed values aside."""
        return sum(len(one.raw) + UNIT_BYTES for one in self.parsed)

    def units(self) -> Iterator[Unit]:
        """All of them."""
        return iter(self.parsed)

    def unit(self, number: int) -> Unit:
        """The one of a number."""
        return next(one for one in self.parsed if one.number == number)


Block = Lines | Parsed


def gathered(units: Iterator[Unit]) -> Iterator[Parsed]:
    """Units by the ten thousand; those before an error come before it."""
    block: list[Unit] = []
    try:
        for unit in units:
            block.append(unit)
            if len(block) == BLOCK_UNITS:
                yield Parsed(block)
                block = []
    except Exception:
        if block:
            yield Parsed(block)
        raise
    if block:
        yield Parsed(block)


def lines_of(stream: IO[bytes]) -> Iterator[Block]:
    """The lines of a stream, in blocks; one that is too long to parse is a block of its own."""
    offset, number, held = 0, 1, 0
    buffer = bytearray(BLOCK_BYTES)  # the same for every block: memory that is in use costs less
    view = memoryview(buffer)
    while size := held + (read := stream.readinto(view[held:])):  # type: ignore[attr-defined]
        end = buffer.rfind(b"\n", 0, size) + 1 if read else size
        line = b"" if end else buffer[:size] + stream.readline(LINE_LIMIT + 1 - size)
        if len(line) > LINE_LIMIT and line[-1:] != b"\n":
            kept, length = _rest_of(stream, bytes(line))
            told = "" if length <= KEPT_LIMIT else f", of which {KEPT_LIMIT} are kept here"
            fault = ("line_too_long", f"{length} bytes, more than {LINE_LIMIT}{told}")
            yield Parsed([Unit(number, offset, kept, length, fault=fault)])
            offset, number, held = offset + length, number + 1, 0
            continue
        block = Lines(number, offset, bytes(line or view[:end]))
        yield block
        offset, number = offset + len(block.data), number + len(block)
        held = size - (end or size)
        view[:held] = view[size - held : size]


def _rest_of(stream: IO[bytes], start: bytes) -> tuple[bytes, int]:
    parts, length = [start], len(start)
    while more := stream.readline(2**20):
        if length < KEPT_LIMIT:
            parts.append(more)
        length += len(more)
        if more.endswith(b"\n"):
            break
    return b"".join(parts)[:KEPT_LIMIT], length
