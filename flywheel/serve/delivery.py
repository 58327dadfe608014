"""Feedback on its way to landing: from the log of what was said to files of the inbox."""

import fcntl
import json
import os
from pathlib import Path

from flywheel.lake.files import sync
from flywheel.layout import Layout
from flywheel.serve.feedback import FOLDER
from flywheel.serve.log import Rows, whole_lines
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
    with (folder / ".delivery.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = folder / OFFSETS
        offsets: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
        for source in sorted(folder.glob("[0-9]*.jsonl")):
            start = offsets.get(source.name, 0)
            data = whole_lines(source, start)
            rows = Rows(folder).parsed(data.splitlines())
            records = [row["record"] for row in rows if row.get("record")]
            if records:
                lines = "".join(json.dumps(one) + "\n" for one in records)
                _place(inbox / f"{source.stem}-{start}.jsonl", lines)
            offsets[source.name] = start + len(data)
            handed += len(records)
        _place(path, json.dumps(offsets))
    return handed


def _place(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text)
    sync(draft)
    os.replace(draft, path)
    sync(path.parent)
