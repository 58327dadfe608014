"""Lines of text: served answers, what was said of them, and files of the inbox.

A line that goes is overwritten with spaces where it stands: a server may be appending to the same
file, and readers know lines by their offset. It is a blank line from then on, which every reader
passes over, and blanking it twice is blanking it once.
"""

import hashlib
import json
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from blake3 import blake3

from flywheel.erasure.found import Found, Place
from flywheel.erasure.plan import Plan, Spans
from flywheel.erasure.who import Who
from flywheel.errors import ErasureError
from flywheel.ingest import BatchManifest
from flywheel.ingest.batch import older
from flywheel.ingest.discover import LINES, by_content, delivered_as, find_files, known_as
from flywheel.ingest.formats import RAW, named
from flywheel.layout import Layout
from flywheel.privacy import erased_name
from flywheel.serve.feedback import FOLDER
from flywheel.serve.screening import SOURCE

Row = dict[str, Any]
OF_LINES = tuple(one for one in LINES if one.endswith(("jsonl", "ndjson")))
BLANK = b" \t\r\n"
PART = 2**20  # bytes


def served_answers(layout: Layout, who: Who) -> tuple[dict[str, Spans], set[str]]:
    """Lines of the served log that somebody asked for, and the ids of the answers in them; with an
    answer those that others gave in its shadow."""
    ids: set[str] = set()

    def is_wanted(row: Row) -> bool:
        of = ("response_id", "shadow_of") if who.what == "record" else ("user",)
        if not any(row.get(one) in who.names for one in of):
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


@dataclass
class Delivered:
    """Files of the inbox that hold lines that go.

    Attributes:
        spans: File to these lines.
        files: Batch to the files that hold what landed as it.
        names: What tombstones call the lines of which nothing stays.
        left: Which files will hold some still, and what to do.
    """

    spans: dict[str, Spans] = field(default_factory=dict)
    files: dict[str, list[str]] = field(default_factory=dict)
    names: list[bytes] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def delivered_lines(layout: Layout, batches: list[BatchManifest], found: Found) -> Delivered:
    """Lines of the inbox that batches were landed from, in whatever files of the same content.

    Only a file that is the very one that landed is written to, and only one of lines.
    """
    known = {content for batch in batches for content in batch.contents}
    before = older(batches)
    contents = by_content(find_files([layout.inbox]), before) if found.places else {}
    delivered = Delivered()
    for batch in batches:
        places = sorted(found.places.get(batch.batch_id, ()), key=lambda one: one[1])
        if not places:
            continue
        same = [path for one in sorted(batch.contents) for path in contents.get(one, ())]
        path, told = delivered_as(batch.file, layout), f"{len(places)} of the lines"
        for one in same:
            _note(layout, batch, one, places, found.kept[batch.batch_id], delivered)
        if path.is_file() and not any(one.samefile(path) for one in same):
            if not path.resolve().is_relative_to(layout.inbox.resolve()):
                delivered.left.append(
                    f"{batch.file} holds {told}; it lies outside the inbox: remove it there"
                )
            elif known_as(path, before) not in known:  # else it was delivered anew since
                delivered.left.append(
                    f"{batch.file} has changed since it landed; land it and erase again"
                )
        elif not same:
            delivered.left.append(
                f"{batch.file} held {told} and is not in the inbox any more; remove it where it is"
            )
    return delivered


def _note(
    layout: Layout,
    batch: BatchManifest,
    path: Path,
    places: list[Place],
    kept: set[int],
    delivered: Delivered,
) -> None:
    """Note the lines of one file that is what a batch was landed from."""
    file, told = below(layout, path), f"{len(places)} of the lines"
    if not path.resolve().is_relative_to(layout.inbox.resolve()):
        delivered.left.append(f"{file} holds {told}; it lies outside the inbox: remove it there")
        return
    if not path.name.endswith(OF_LINES):
        delivered.left.append(f"{file} holds {told}; remove it: it has landed")
        return
    if batch.format != RAW and named(batch.format).gather:
        delivered.left.append(
            f"{file} holds records that are made of several lines each, of which only the first "
            f"is blanked; remove it: it has landed"
        )
    numbers = [number for number, _ in places]
    for number, (at, line) in zip(numbers, _lines_at(path, [at for _, at in places]), strict=True):
        delivered.spans.setdefault(file, []).append((at, len(line)))
        if number not in kept and line.strip(BLANK):  # blanked for another, earlier: no name of it
            delivered.names.append(erased_name("line", line))
    delivered.files.setdefault(batch.batch_id, []).append(file)


def hash_with_blanks(path: Path, spans: Spans, how: Callable[[], Any] = blake3) -> str:
    """Hash of a file as it will be once these lines are blanked."""
    digest, at = how(), 0
    with path.open("rb") as file:
        for offset, length in [*sorted(spans), (path.stat().st_size, 0)]:
            file.seek(at)
            while at < offset and (part := file.read(min(PART, offset - at))):
                digest.update(part)
                at += len(part)
            for start in range(0, length, PART):
                digest.update(b" " * min(PART, length - start))
            at = max(at, offset + length)
    return str(digest.hexdigest())


def blank(layout: Layout, plan: Plan) -> list[str]:
    """Overwrite every line of the plan with spaces.

    Returns:
        Files that are others than when it was made, which are left as they are.

    Raises:
        ErasureError: A file cannot be written.
    """
    left = []
    for name, spans in plan.spans.items():
        path = layout.root / name
        try:
            if name in plan.hashes and not any(
                hash_with_blanks(path, spans, how) == plan.hashes[name]
                for how in (blake3, hashlib.sha256)  # an older release may have made the plan
            ):
                left.append(f"{name} has changed meanwhile; land it and erase again")
                continue
            blank_lines(path, spans)
        except FileNotFoundError:
            continue  # it went with its time, or was removed: so is what it held
        except OSError as error:
            raise ErasureError(
                f"cannot write {path}: {error.strerror or error}; mend its permissions and give "
                f"the same command again, which goes on from here"
            ) from error
    return left


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


def _lines_at(path: Path, offsets: list[int]) -> Iterator[tuple[int, bytes]]:
    """Lines that begin at some offsets, without their ends."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
        for offset in offsets:
            end = held.find(b"\n", offset)
            yield offset, held[offset : len(held) if end < 0 else end]


def below(layout: Layout, path: Path) -> str:
    """A file by its name below the home, or as it is where it lies elsewhere."""
    return str(path.relative_to(layout.root) if path.is_relative_to(layout.root) else path)
