"""Answers that were served, found in their log: `var/served/<date>-<pid>.jsonl`, a line an answer.

The log is appended to by whoever serves, so that its last line may be cut off. A line that is no
JSON tells of no answer; it is counted.
"""

import json
import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flywheel.layout import Layout

TOLD = ("at", "stage", "generation", "checkpoint_kind", "content_hash")


def find_served(layout: Layout, response_id: str) -> dict[str, Any] | None:
    """What the log says of an answer; None where it has none of that name.

    An answer that was written again (it was cut off while it was shown) counts as written last.
    `lines_torn` are those that may have been about it and cannot be read.
    """
    found, file, torn = last_line(served_log(layout), response_id)
    if found is None:
        return None
    return {
        **{key: found.get(key) for key in TOLD},
        "file": file,
        "prompt": _asked(found),
        "response": found.get("response"),
        "lines_torn": torn,
    }


def served_log(layout: Layout) -> list[Path]:
    """Files of the log, in the order of their days."""
    return sorted(layout.served.glob("[0-9]*.jsonl"))


def last_line(
    paths: Iterable[Path], response_id: str
) -> tuple[dict[str, Any] | None, str | None, int]:
    """The last line of an answer in some files of the log.

    Returns:
        The line, the name of its file, and how many lines may be about it and cannot be read.
    """
    wanted = response_id.encode()
    found: dict[str, Any] | None = None
    file, torn = None, 0
    for path in paths if wanted.strip() else ():
        for line in _lines_with(path, wanted):
            try:
                row = json.loads(line)
            except ValueError:
                torn += 1
                continue
            if isinstance(row, dict) and row.get("response_id") == response_id:
                found, file = row, path.name
    return found, file, torn


def _asked(row: dict[str, Any]) -> str | None:
    """The last turn of what was asked."""
    request = row.get("request")
    turns = request.get("messages") if isinstance(request, dict) else None
    last = turns[-1] if isinstance(turns, list) and turns else None
    return str(last.get("content")) if isinstance(last, dict) else None


def _lines_with(path: Path, wanted: bytes) -> list[bytes]:
    """Whole lines that hold these bytes; a day's log is searched, not parsed."""
    if not path.stat().st_size:
        return []
    lines = []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as log:
        at = log.find(wanted)
        while at >= 0:
            start, end = log.rfind(b"\n", 0, at) + 1, log.find(b"\n", at)
            lines.append(log[start : len(log) if end < 0 else end])
            at = log.find(wanted, len(log) if end < 0 else end)
    return lines
