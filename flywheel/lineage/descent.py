"""How a checkpoint came about: each training behind it, what that read, and what it cost."""

import json
from typing import Any

from flywheel.layout import Layout
from flywheel.lineage.checkpoints import Known

HOUR = 3600.0


def descent(
    layout: Layout, known: Known, ids: list[str], usd_per_hour: float
) -> list[dict[str, Any]]:
    """A row for each checkpoint of an ancestry, nearest first.

    `hours` is the wall clock of the processes that trained it, also of those that were killed and
    gone on from, None where its run is gone or was of other weights; `usd` is None as well where no
    price of an hour is set (0).
    """
    rows = []
    for name in ids:
        facts = known.get(name, {})
        result = facts.get("result", {})
        hours = _hours(layout, name, facts.get("content_hash", ""))
        rows.append(
            {
                "checkpoint": name,
                "content": str(facts.get("content_hash", "not here any more"))[:12],
                "datasets": ", ".join(
                    f"{one} {content[:12]}" for one, content in facts.get("datasets", {}).items()
                ),
                "records": facts.get("records", {}).get("count"),
                "tokens": result.get("tokens"),
                "hours": None if hours is None else round(hours, 4),
                "usd": round(hours * usd_per_hour, 4)
                if hours is not None and usd_per_hour
                else None,
            }
        )
    return rows


def _hours(layout: Layout, name: str, content: str) -> float | None:
    kind, _, generation = name.partition("/")
    path = layout.run(kind, generation) / "result.json"
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    if told.get("content_hash", content) != content:  # trained again since, and cut off
        return None
    seconds = told.get("process_seconds")  # of the last launch
    if seconds is None:
        return None
    return (float(seconds) + float(told.get("earlier_seconds", 0.0))) / HOUR
