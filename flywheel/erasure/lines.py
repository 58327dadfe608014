"""Lines of text: served answers, what was said of them, and files of the inbox.

A line that goes is overwritten with spaces where it stands: a server may be appending to the same
file, and readers know lines by their offset. It is a blank line from then on, which every reader
passes over, and blanking it twice is blanking it once.
"""

import hashlib
import json
import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flywheel.erasure.plan import Plan, Spans
from flywheel.erasure.who import Who
from flywheel.errors import ErasureError
from flywheel.ingest import BatchManifest
from flywheel.ingest.discover import LINES, delivered_as
from flywheel.layout import Layout
from flywheel.serve.feedback import FOLDER
from flywheel.serve.screening import SOURCE

Row = dict[str, Any]
OF_LINES = tuple(one for one in LINES if one.endswith(("jsonl", "ndjson")))
BLANK = b" \t\r\n"
PART = 2**20  # bytes


def served_answers(layout: Layout, who: Who) -> tuple[dict[str, Spans], set[str]]:
    """Lines of the served log that somebody asked for, and the ids of the answers in them."""
    ids: set[str] = set()

    def is_wanted(row: Row) -> bool:
        name = row.get("response_id" if who.what == "record" else "user")
        if name not in who.names:
            return False
        ids.add(str(row.get("response_id")))
        return True

    if who.what not in ("record", "user"):
        return {}, ids
    return _spans_in(layout, layout.served, who, is_wanted), ids


def said_of_answers(
    layout: Layout, who: Who, responses: set[str], record_ids: set[str]
) -> dict[str, Spans]:
    """Lines of feedback, logged or on their way to landing, that somebody said or that are of his
    answers, or are the records that go."""
    people = who.names if who.what in ("annotator", "user") else frozenset()
    ids = record_ids | (who.names if who.what == "record" else frozenset())

    def is_logged(row: Row) -> bool:
        return (
            row.get("author") in people
            or row.get("response_id") in responses
            or row.get("feedback_id") in ids
        )

    def is_on_its_way(row: Row) -> bool:
        facts = row.get("metadata")
        response = facts.get("response_id") if isinstance(facts, dict) else None
        return row.get("annotator_id") in people or response in responses or row.get("id") in ids

    spans = _spans_in(layout, layout.served / FOLDER, who, is_logged)
    return spans | _spans_in(layout, layout.inbox / SOURCE, who, is_on_its_way, "*.jsonl")


def delivered_lines(
    layout: Layout,
    batches: Iterable[BatchManifest],
    places: dict[str, set[tuple[int, int]]],
) -> tuple[dict[str, Spans], list[str]]:
    """Lines of files in the inbox that batches were landed from, and which files hold some still.

    Only a file that is the very one that landed is written to, and only one of lines.
    """
    spans: dict[str, Spans] = {}
    left = []
    for batch in batches:
        path = delivered_as(batch.file, layout)
        wanted = sorted({offset for _, offset in places.get(batch.batch_id, ())})
        if not wanted or not path.is_file():
            continue
        inside = path.resolve().is_relative_to(layout.inbox.resolve())
        if not inside or not path.name.endswith(OF_LINES):
            told = "remove it: it has landed" if inside else "it lies outside this home"
            left.append(f"{batch.file} holds {len(wanted)} of the lines; {told}")
        elif hash_with_blanks(path, []) in batch.contents:
            spans[below(layout, path)] = [(at, end - at) for at, end in _lines_at(path, wanted)]
        else:
            left.append(f"{batch.file} has changed since it landed; land it and erase again")
    return spans, left


def hash_with_blanks(path: Path, spans: Spans) -> str:
    """SHA-256 of a file as it will be once these lines are blanked."""
    digest, at = hashlib.sha256(), 0
    with path.open("rb") as file:
        for offset, length in [*sorted(spans), (path.stat().st_size, 0)]:
            file.seek(at)
            while part := file.read(min(PART, offset - at)):
                digest.update(part)
                at += len(part)
            for start in range(0, length, PART):
                digest.update(b" " * min(PART, length - start))
            at = max(at, offset + length)
    return digest.hexdigest()


def blank(layout: Layout, plan: Plan) -> None:
    """Overwrite every line of the plan with spaces.

    Raises:
        ErasureError: A file cannot be written.
    """
    for name, spans in plan.spans.items():
        path = layout.root / name
        try:
            blank_lines(path, spans)
        except FileNotFoundError:
            continue  # it went with its time, or was removed: so is what it held
        except OSError as error:
            raise ErasureError(
                f"cannot write {path}: {error.strerror or error}; mend its permissions and give "
                f"the same command again, which goes on from here"
            ) from error


def blank_lines(path: Path, spans: Spans) -> None:
    """Overwrite lines of a file with spaces, on the disk before going on."""
    handle = os.open(path, os.O_WRONLY)
    try:
        for offset, length in spans:
            os.pwrite(handle, b" " * length, offset)
        os.fsync(handle)
    finally:
        os.close(handle)


def whole_lines_of(path: Path, *, is_closed: bool) -> Iterator[tuple[int, bytes]]:
    """Offset and bytes of each line of a file that is not blank; one that is being written aside.

    Args:
        path: The file.
        is_closed: Whether nobody appends any more, so that a torn last line is one as well.
    """
    offset = 0
    with path.open("rb") as file:
        for line in file:
            if line.strip(BLANK) and (is_closed or line.endswith(b"\n")):
                yield offset, line.rstrip(b"\r\n")
            offset += len(line)


def is_closed(path: Path) -> bool:
    """Whether the day of a log is over, after which nobody appends to it."""
    return path.name[:10] < f"{datetime.now(UTC):%Y-%m-%d}"


def _spans_in(
    layout: Layout, folder: Path, who: Who, is_wanted: Callable[[Row], bool], glob: str = ""
) -> dict[str, Spans]:
    """The lines that are wanted of the files of a folder; torn ones that hold the name, too."""
    found = {}
    for path in sorted(folder.glob(glob or "[0-9]*.jsonl")):
        spans = []
        for offset, line in whole_lines_of(path, is_closed=is_closed(path)):
            try:
                row = json.loads(line)
            except ValueError:
                goes = who.stands_in(line)
            else:
                goes = isinstance(row, dict) and is_wanted(row)
            if goes:
                spans.append((offset, len(line)))
        if spans:
            found[below(layout, path)] = spans
    return found


def _lines_at(path: Path, offsets: list[int]) -> Iterator[tuple[int, int]]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        for offset in offsets:
            end = held.find(b"\n", offset)
            yield offset, len(held) if end < 0 else end


def below(layout: Layout, path: Path) -> str:
    """A file by its name below the home, or as it is where it lies elsewhere."""
    return str(path.relative_to(layout.root) if path.is_relative_to(layout.root) else path)
