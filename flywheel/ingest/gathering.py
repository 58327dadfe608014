"""The rows of one file on their way to records that several of them make together.

A record falls with any of its lines, and a line with the last of its records: what is refused for
one line can be landed again, whole, once that line is mended.
"""

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from typing import Any

from flywheel.ingest.formats.gathered import Gather
from flywheel.records import Record

NOTHING = "no record came of it: what it belongs to is not in this file, or could not be read"
Refusals = dict[int, tuple[str, str]]  # line -> kind of the reason, reason
Name = tuple[int, int]  # the line that a record stands for, and its place among those of the line


class Gathering:
    """Which lines each record of a file was made of."""

    def __init__(self, gather: Gather) -> None:
        self._gather = gather
        self._lines_of: dict[Name, tuple[int, ...]] = {}

    def records(
        self, values: Mapping[int, Any], file: str
    ) -> tuple[dict[int, list[Record]], Refusals]:
        """The records of each line that stands for some, and why lines make none.

        Args:
            values: The objects of a file by line number.
            file: Its name.
        """
        refused: Refusals = {}
        made: list[tuple[tuple[int, ...], Record]] = []
        for lines, found, kind in self._gather(values, file):
            if isinstance(found, str):
                refused.setdefault(lines[0], (kind, found))
            else:
                made.append((lines, found))
        standing: dict[int, list[Record]] = defaultdict(list)
        used: set[int] = set()
        for lines, record in made:
            if refused.keys().isdisjoint(lines):
                self._lines_of[lines[0], len(standing[lines[0]])] = lines
                standing[lines[0]].append(record)
                used.update(lines)
        for line in values.keys() - used:
            refused.setdefault(line, ("unresolved", NOTHING))
        return dict(standing), refused

    def fallen(self, bad: Container[int]) -> tuple[set[Name], Iterator[tuple[int, int]]]:
        """Records that fall with the lines `bad`, and lines that are left without any.

        Returns:
            Their names; pairs of a line and the bad one that it falls with.
        """
        faults = {
            name: next(line for line in lines if line in bad)
            for name, lines in self._lines_of.items()
            if any(line in bad for line in lines)
        }
        kept = [lines for name, lines in self._lines_of.items() if name not in faults]
        used = {line for lines in kept for line in lines}
        return set(faults), (
            (line, fault)
            for name, fault in faults.items()
            for line in self._lines_of[name]
            if line not in used and line not in bad
        )
