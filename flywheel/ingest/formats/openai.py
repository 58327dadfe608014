"""OpenAI fine-tuning files: chat (demonstrations), preference (comparisons), reinforcement (tasks).

An assistant turn with weight 0 is context. Every other assistant turn is a demonstration of what
to say after the turns before it; a row with a label is none, whatever the label. A chat that ends
before the assistant's turn, with data for a grader beside it, is a task. What some vendors write
as `rejected_response` beside a chat is the side that lost to its last turn. Nobody is named as
the author, and no tie can be said.
Source: OpenAPI document 2.3.0, FineTuneChatRequestInput, FineTunePreferenceRequestInput,
FineTuneReinforcementRequestInput.
"""

from collections.abc import Sequence
from typing import Any

from flywheel.errors import RecordError
from flywheel.ingest.formats.labels import task
from flywheel.ingest.formats.messages import (
    beyond,
    conversation,
    demonstrations,
    one_turn,
    tools_of,
    without_nulls,
)
from flywheel.records import Comparison, Record

CHAT_KEYS = {"messages", "tools", "parallel_tool_calls", "functions"}
PREFERENCE_KEYS = {"input", "preferred_output", "non_preferred_output"}


def sniff(value: dict[str, Any]) -> float:
    """Sure of a preference; of a chat with nothing beside it; of a task by its last turn."""
    given = {key for key, item in value.items() if item is not None or key == "label"}
    if given >= PREFERENCE_KEYS:
        return 1.0
    turns = value.get("messages")
    if not isinstance(turns, list) or "label" in given or has_object_arguments(turns):
        return 0.0
    if given <= CHAT_KEYS or given <= CHAT_KEYS | {"rejected_response"}:
        return 0.95
    return 0.0 if _is_answered(turns) else 0.85


def has_object_arguments(turns: Any) -> bool:
    """Whether a call has its arguments as an object: TRL's way; OpenAI writes JSON text."""
    calls = [
        call.get("function")
        for turn in turns
        if isinstance(turn, dict) and isinstance(turn.get("tool_calls"), list)
        for call in turn["tool_calls"]
        if isinstance(call, dict)
    ]
    return any(isinstance(call, dict) and isinstance(call.get("arguments"), dict) for call in calls)


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one line."""
    if "label" in value:
        raise RecordError("a row with a label is judged, not to be imitated: land it as trl")
    if value.get("preferred_output") is not None:
        asked = value["input"] if isinstance(value.get("input"), dict) else {}
        return (
            Comparison(
                prompt=conversation(asked.get("messages")),
                response_a=conversation(value["preferred_output"]),
                response_b=conversation(value.get("non_preferred_output")),
                choice="a",
                metadata=_tools(asked),
            ),
        )
    turns = conversation(value.get("messages"))
    rest = {
        key: without_nulls(item)
        for key, item in value.items()
        if key not in CHAT_KEYS and key != "rejected_response" and item is not None
    }
    metadata = {**_tools(value), **beyond(value["messages"])}
    if (rejected := value.get("rejected_response")) is not None:
        if len(turns) < 2 or turns[-1].role != "assistant":
            raise RecordError("the last message must be the preferred one, the assistant's")
        return (
            Comparison(
                prompt=turns[:-1],
                response_a=turns[-1:],
                response_b=one_turn(rejected, "assistant"),
                choice="a",
                metadata=rest | metadata,
            ),
        )
    if rest and not _is_answered(value["messages"]):
        return (task(turns, rest | metadata, "openai_reinforcement"),)
    masked = {n for n, turn in enumerate(value["messages"]) if turn.get("weight") == 0}
    return demonstrations(turns, rest | metadata, masked)


def _is_answered(turns: list[Any]) -> bool:
    last = turns[-1] if turns else None
    return isinstance(last, dict) and last.get("role") == "assistant"


def _tools(value: dict[str, Any]) -> dict[str, Any]:
    return tools_of(value.get("tools") or value.get("functions"))
