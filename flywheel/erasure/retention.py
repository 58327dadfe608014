"""Served answers and what was said of them, once their time is over.

`[serve] keep_days` is how long a line is kept that may be, `keep_days_without_consent` how long
the numbers of one that may not; 0 keeps them. Feedback is handed to landing first: what landed has
prompt, answer and judgement of its own, and needs the log no longer. A file of which every line is
over goes; of another, only those lines. Today's file is somebody's to write to, and stays.

What the statistic of a running stage counts stays until that stage is over, and the entry says so:
the statistic counts it anew at each look, and a user whose first line went would be another user.
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
from flywheel.serve.online import counted_now
from flywheel.serve.settings import ServeSettings

BY = "[serve] keep_days"


def forget_served(
    layout: Layout, settings: ServeSettings, now: datetime | None = None
) -> Erasure | None:
    """Remove the lines whose time is over, and enter how many they were, and what is kept for a
    stage; None where there is nothing new to enter.

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
        staged, counted = counted_now(layout)
        removed: dict[str, int] = {}
        left: list[str] = []
        with delivery_held(layout):
            for folder, place in ((layout.served, "served"), (layout.served / FOLDER, "feedback")):
                since = None
                if staged and folder == counted:
                    since = datetime.fromisoformat(staged.at)
                kept = 0
                for path in sorted(folder.glob("[0-9]*.jsonl")):
                    lines, files, held = _forget(path, settings, now, since)
                    removed[f"{place}_lines"] = removed.get(f"{place}_lines", 0) + lines
                    removed[f"{place}_files"] = removed.get(f"{place}_files", 0) + files
                    kept += held
                if staged and kept:
                    left.append(
                        f"{place} lines since {staged.at} whose time is over: the {staged.stage} "
                        f"of {staged.generation} (entry {staged.number} of the ledger) counts "
                        f"them, and they go once it is over"
                    )
            forget_offsets(layout)
        removed = {place: count for place, count in removed.items() if count}
        with Erasures(layout).appending() as (entries, append):
            before = [one.left for one in entries if one.what == "retention"]
            if not removed and (not left or before[-1:] == [left]):
                return None  # a stage is told of once, and not every night
            return append(
                what="retention",
                subject="",
                by=BY,
                reason=f"kept {settings.keep_days or 'all'} days, without consent "
                f"{settings.keep_days_without_consent or 'all'}",
                removed=removed,
                left=left,
            )


def _forget(
    path: Path, settings: ServeSettings, now: datetime, since: datetime | None
) -> tuple[int, int, int]:
    """How many lines of a file went, whether the file did, and how many are kept for a stage that
    counts those since then."""
    if not is_closed(path):
        return 0, 0, 0
    over, stays, held = [], 0, 0
    for offset, line in whole_lines_of(path, is_closed=True):
        at, days = _time_of(line, path, settings)
        is_over = bool(days) and at < now - timedelta(days=days)
        if is_over and not (since and at >= since):
            over.append((offset, len(line)))
        else:
            stays += 1
            held += is_over
    try:
        if not stays:
            path.unlink()
            return len(over), 1, 0
        if over:
            blank_lines(path, over)
    except OSError as error:
        raise ErasureError(
            f"cannot remove what is over its time from {path}: {error.strerror or error}; mend its "
            f"permissions: it is tried again every night"
        ) from error
    return len(over), 0, held


def _time_of(line: bytes, path: Path, settings: ServeSettings) -> tuple[datetime, int]:
    """When a line was written and how many days it is kept; one that is torn is as old as its
    file, and as long kept as any."""
    day, consent = datetime.fromisoformat(path.name[:10]).replace(tzinfo=UTC), True
    try:
        row = json.loads(line)
        at = datetime.fromisoformat(row["at"])
        consent = bool(row.get("consent", row.get("withheld", "") != NOT_KEPT))
    except (ValueError, KeyError, TypeError):
        at = day
    return at, settings.keep_days if consent else settings.keep_days_without_consent
