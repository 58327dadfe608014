"""The rows of one file on their way to records that several of them make together.

A record falls with any of its lines, and a line with the last of its records: what is refused for
one line can be landed again, whole, once that line is mended. A line of many parts, such as a
batch of spans, stands while a record comes of one; those of which none came are counted.
"""

from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping
from typing import Any

from flywheel.ingest.formats.gathered import Gather
from flywheel.records import Record

NOTHING = "no record came of it: what it belongs to is not in this file, or could not be read"
PARTS = {"invalid_record": "unreadable"}  # kinds of reasons as they are counted for parts
Refusals = dict[int, tuple[str, str]]  # line -> kind of the reason, reason
Name = tuple[int, int]  # the line that a record stands for, and its place among those of the line


class Gathering:
    """Which lines each record of a file was made of; parts left out are counted in `skipped`."""

    def __init__(self, gather: Gather, skipped: Counter[str]) -> None:
        self._gather, self._skipped = gather, skipped
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
        parts: list[tuple[int, str, str]] = []
        made: list[tuple[tuple[int, ...], Record]] = []
        for lines, found, kind, is_part in self._gather(values, file):
            if not isinstance(found, str):
                made.append((lines, found))
            elif is_part:
                parts.append((lines[0], kind, found))
            else:
                refused.setdefault(lines[0], (kind, found))
        standing: dict[int, list[Record]] = defaultdict(list)
        used: set[int] = set()
        for lines, record in made:
            if refused.keys().isdisjoint(lines):
                self._lines_of[lines[0], len(standing[lines[0]])] = lines
                standing[lines[0]].append(record)
                used.update(lines)
        for line, kind, why in parts:
            if line in used:
                self._skipped[PARTS.get(kind, kind)] += 1
            else:
                refused.setdefault(line, (kind, why))
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
