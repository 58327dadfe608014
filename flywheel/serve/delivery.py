"""Feedback on its way to landing: from the log of what was said to files of the inbox."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flywheel.lake import locked
from flywheel.lake.files import sync
from flywheel.layout import Layout
from flywheel.serve.feedback import FOLDER, landing_line
from flywheel.serve.log import Row, Rows, whole_lines
from flywheel.serve.screening import SOURCE

OFFSETS = "delivered.json"  # file of feedback -> bytes of it that were handed over


def deliver(layout: Layout) -> int:
    """Hand feedback to the inbox that was not yet: one file, whole, for each file of the log.

    Killed between the two writes, it hands the same over again, and landing knows an event that
    it has by its content.

    Returns:
        Records handed over.
    """
    folder, inbox = layout.served / FOLDER, layout.inbox / SOURCE
    if not folder.exists():
        return 0
    handed = 0
    with delivery_held(layout):
        path = folder / OFFSETS
        offsets: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
        for source in sorted(folder.glob("[0-9]*.jsonl")):
            start = offsets.get(source.name, 0)
            data = whole_lines(source, start)
            rows = Rows(folder).parsed(data.splitlines())
            lines = list(_lines(row for row in rows if row.get("record")))
            if lines:
                _place(inbox / f"{source.stem}-{start}.jsonl", "".join(lines))
            offsets[source.name] = start + len(data)
            handed += len(lines)
        _place(path, json.dumps(offsets))
    return handed


@contextmanager
def delivery_held(layout: Layout) -> Iterator[None]:
    """Hold delivery: nothing is handed over meanwhile by anybody else."""
    with locked(layout.served / FOLDER / ".delivery.lock"):
        yield


def forget_offsets(layout: Layout) -> None:
    """Forget how far files were handed over that are gone; the caller holds delivery."""
    folder = layout.served / FOLDER
    path = folder / OFFSETS
    if path.exists():
        offsets: dict[str, int] = json.loads(path.read_text())
        _place(
            path, json.dumps({one: at for one, at in offsets.items() if (folder / one).exists()})
        )


def _lines(rows: Iterator[Row]) -> Iterator[str]:
    """Rows as lines; one that landing cannot read would block the others of its file."""
    for row in rows:
        try:
            yield landing_line(row["record"])
        except (ValueError, RecursionError) as error:
            told = f"{row['feedback_id']} stays in the log, landing cannot read it: {error}"
            print(f"flywheel serve: {told}", file=sys.stderr, flush=True)


def _place(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text)
    sync(draft)
    os.replace(draft, path)
    sync(path.parent)
