"""Records that several rows of one file make together: spans of a trace, a score and its target.

A reader with `gather` sees all rows of a file at once, by line number, and the file's name. What
it yields names the lines that a record was made of, the one that stands for it first. A line that
no record came of is refused by whoever counts lines, so that no reader can pass over one. Of a
line that holds several parts, one that cannot be read is left out and counted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from flywheel.errors import RecordError
from flywheel.records import Record

# What the readers and Arrow raise where a value is not what its place needs.
UNFIT = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)
NO_LABEL = "no_label"  # kind of reason that is no fault and counts towards no limit
Rows = Mapping[int, Any]  # the objects of a file by line number, in order


class Gathered(NamedTuple):
    """A record and the lines it was made of, or why its first line makes none.

    Attributes:
        is_part: The reason is one of a part of its line: it counts as a reason of the line only
            where no record came of the others.
    """

    lines: tuple[int, ...]
    found: Record | str
    kind: str = "invalid_record"  # of the reason
    is_part: bool = False


Gather = Callable[[Rows, str], Iterator[Gathered]]


def unlabelled(line: int, reason: str) -> Gathered:
    """A line that is no fault and holds nothing to learn from."""
    return Gathered((line,), reason, NO_LABEL)


def unresolved(line: int, reason: str) -> Gathered:
    """A line that refers to what its file does not hold."""
    return Gathered((line,), reason, "unresolved")


def parsed(
    rows: Rows, parse: Callable[[int, Any], Any], into: dict[int, Any]
) -> Iterator[Gathered]:
    """Parse each row by itself into `into`; yields why a row cannot be."""
    for line, row in rows.items():
        try:
            into[line] = parse(line, row)
        except UNFIT as error:
            yield Gathered((line,), told(error))


def attempt(
    lines: Sequence[int], make: Callable[..., Record | list[Record]], *given: Any
) -> Iterator[Gathered]:
    """What `make` makes of what is given, each record of all lines, or the reason why it fails."""
    try:
        made = make(*given)
        for record in made if isinstance(made, list) else [made]:
            yield Gathered(tuple(dict.fromkeys(lines)), record)
    except UNFIT as error:
        yield Gathered(tuple(lines), told(error))


def told(error: Exception) -> str:
    """An error as a reason; one that a reader did not raise itself, with its name."""
    if isinstance(error, RecordError | msgspec.ValidationError):
        return str(error)
    return f"it cannot be read: {type(error).__name__} {error}"


def alone(gather: Gather, value: dict[str, Any], name: str = "") -> list[Record]:
    """What one object comes to in a file of its own.

    Raises:
        RecordError: It comes to nothing, or it is one part and cannot be read.
    """
    found = list(gather({1: value}, name))
    records = [one.found for one in found if not isinstance(one.found, str)]
    for one in found:
        if isinstance(one.found, str) and not (one.is_part and records):
            raise RecordError(one.found)
    if not records:
        raise RecordError("no record came of it")
    return records
