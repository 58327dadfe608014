"""Alerts: one line a failure, and a webhook for where people look."""

import http.client
import json
import os
import urllib.request
from typing import Any

from flywheel.layout import Layout

TIMEOUT_SECONDS = 5.0


def alert(layout: Layout, event: dict[str, Any], *, webhook: str | None = None) -> None:
    """Write an alert down, and post it where a webhook is set.

    A webhook that cannot be reached is written down too, and raises nothing: the alert is about
    something else.
    """
    told = dict(event)
    if webhook:
        try:
            request = urllib.request.Request(
                webhook,
                data=json.dumps(event, default=str).encode(),
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
                told["webhook"] = answer.status
        except (OSError, ValueError, http.client.HTTPException) as error:
            told["webhook"] = f"failed: {error}"
    path = layout.registry / "alerts.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    line = json.dumps(told, default=str) + "\n"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())  # one write: lines of two processes do not mix
    finally:
        os.close(handle)
