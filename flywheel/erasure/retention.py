"""Served answers and what was said of them, once their time is over.

`[serve] keep_days` is how long a line is kept that may be, `keep_days_without_consent` how long
the numbers of one that may not; 0 keeps them. Feedback is handed to landing first: what landed has
prompt, answer and judgement of its own, and needs the log no longer. A file of which every line is
over goes; of another, only those lines. Today's file is somebody's to write to, and stays.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flywheel.erasure.lines import blank_lines, is_closed, whole_lines_of
from flywheel.erasure.plan import alone, pending
from flywheel.errors import ErasureError
from flywheel.layout import Layout
from flywheel.lineage import Erasure, Erasures
from flywheel.serve.delivery import deliver, delivery_held, forget_offsets
from flywheel.serve.feedback import FOLDER, NOT_KEPT
from flywheel.serve.settings import ServeSettings

BY = "[serve] keep_days"


def forget_served(
    layout: Layout, settings: ServeSettings, now: datetime | None = None
) -> Erasure | None:
    """Remove the lines whose time is over, and enter how many they were; None where none is.

    Raises:
        ErasureError: A file cannot be written, or an erasure was cut off, which goes first.
    """
    if not settings.keep_days and not settings.keep_days_without_consent:
        return None
    now = now or datetime.now(UTC)
    with alone(layout):
        if told := pending(layout):
            raise ErasureError(f"served logs keep what is over its time: {told}")
        deliver(layout)
        removed: dict[str, int] = {}
        with delivery_held(layout):
            for folder, place in ((layout.served, "served"), (layout.served / FOLDER, "feedback")):
                for path in sorted(folder.glob("[0-9]*.jsonl")):
                    lines, files = _forget(path, settings, now)
                    removed[f"{place}_lines"] = removed.get(f"{place}_lines", 0) + lines
                    removed[f"{place}_files"] = removed.get(f"{place}_files", 0) + files
            forget_offsets(layout)
        removed = {place: count for place, count in removed.items() if count}
        if not removed:
            return None
        with Erasures(layout).appending() as (_, append):
            return append(
                what="retention",
                subject="",
                by=BY,
                reason=f"kept {settings.keep_days or 'all'} days, without consent "
                f"{settings.keep_days_without_consent or 'all'}",
                removed=removed,
            )


def _forget(path: Path, settings: ServeSettings, now: datetime) -> tuple[int, int]:
    """How many lines of a file went, and whether the file did."""
    if not is_closed(path):
        return 0, 0
    over, stays = [], 0
    for offset, line in whole_lines_of(path, is_closed=True):
        if _is_over(line, path, settings, now):
            over.append((offset, len(line)))
        else:
            stays += 1
    try:
        if not stays:
            path.unlink()
            return len(over), 1
        if over:
            blank_lines(path, over)
    except OSError as error:
        raise ErasureError(
            f"cannot remove what is over its time from {path}: {error.strerror or error}; mend its "
            f"permissions: it is tried again every night"
        ) from error
    return len(over), 0


def _is_over(line: bytes, path: Path, settings: ServeSettings, now: datetime) -> bool:
    """Whether the time of a line is over; one that is torn is as old as its file, and as long
    kept as any."""
    day, consent = datetime.fromisoformat(path.name[:10]).replace(tzinfo=UTC), True
    try:
        row = json.loads(line)
        at = datetime.fromisoformat(row["at"])
        consent = bool(row.get("consent", row.get("withheld", "") != NOT_KEPT))
    except (ValueError, KeyError, TypeError):
        at = day
    days = settings.keep_days if consent else settings.keep_days_without_consent
    return bool(days) and at < now - timedelta(days=days)
