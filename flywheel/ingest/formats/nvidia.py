"""NVIDIA's data-flywheel logs: one request to a model and its response a line.

A response is what was served, not what is right: an interaction, never a demonstration. Several
choices are several interactions, that nobody has ranked yet. Requests repeat, because caches and
retries are logged: equal prompts have equal keys, by which duplicates are found.
Source: NVIDIA-AI-Blueprints/data-flywheel 419e2cc, README, "Log schema".
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from flywheel.errors import RecordError
from flywheel.ingest.formats.messages import beyond, conversation, message, without_nulls
from flywheel.records import Interaction, Record

KEYS = {"workload_id", "client_id", "request", "response"}
LATEST = 32503680000  # the year 3000 in seconds; a larger number is milliseconds


def sniff(value: dict[str, Any]) -> float:
    """Sure where all four keys are there."""
    return 1.0 if value.keys() >= KEYS else 0.0


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one call of a model."""
    value = without_nulls(value)
    request, response = value.get("request"), value.get("response")
    if not isinstance(request, dict) or not isinstance(response, dict):
        raise RecordError("request and response must be objects")
    choices = response.get("choices")
    if not isinstance(choices, list) or not choices:
        raise RecordError("the response holds no choice")
    prompt = conversation(request.get("messages"))
    about = {
        "tools": request.get("tools"),
        "workload_id": value.get("workload_id"),
        "client_id": value.get("client_id"),
        **beyond(request["messages"]),
    }
    return [
        msgspec.convert(
            {
                "prompt": prompt,
                "response": (message({"role": "assistant", **choice["message"]}),),
                "model": response.get("model") or request.get("model"),
                "occurred_at": _time(value.get("timestamp")),
                "metadata": without_nulls(
                    about
                    | {"stop_reason": choice.get("finish_reason")}
                    | ({"choice": place} if len(choices) > 1 else {})
                ),
            },
            Interaction,
        )
        for place, choice in enumerate(choices)
    ]


def _time(seconds: Any) -> datetime | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise RecordError(f"timestamp must be seconds since 1970, found {seconds!r}")
    if not 0 <= seconds < LATEST:
        raise RecordError(f"timestamp must be seconds since 1970, found {seconds}: milliseconds?")
    return datetime.fromtimestamp(seconds, UTC)
