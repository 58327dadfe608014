"""OpenAI fine-tuning files: chat (demonstrations) and preference (comparisons).

An assistant turn with weight 0 is context. Every other assistant turn is a demonstration of what
to say after the turns before it; a row with a label is none, whatever the label. Nobody is named
as the author, and no tie can be said.
Source: OpenAPI document 2.3.0, FineTuneChatRequestInput, FineTunePreferenceRequestInput.
"""

from collections.abc import Sequence
from typing import Any

from flywheel.errors import RecordError
from flywheel.ingest.formats.messages import beyond, conversation, without_nulls
from flywheel.records import Comparison, Demonstration, Record

CHAT_KEYS = {"messages", "tools", "parallel_tool_calls", "functions"}
PREFERENCE_KEYS = {"input", "preferred_output", "non_preferred_output"}


def sniff(value: dict[str, Any]) -> float:
    """Sure of a preference; of a chat where nothing else stands beside it."""
    given = {key for key, item in value.items() if item is not None or key == "label"}
    if given >= PREFERENCE_KEYS:
        return 1.0
    return 0.95 if "messages" in given and given <= CHAT_KEYS else 0.0


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
    found = [
        Demonstration(
            prompt=turns[:place],
            response=(turn,),
            metadata={**_tools(value), **beyond(value["messages"])},
        )
        for place, turn in enumerate(turns)
        if turn.role == "assistant" and value["messages"][place].get("weight") != 0 and place
    ]
    if not found:
        raise RecordError("no assistant turn to imitate follows another turn")
    return found


def _tools(value: dict[str, Any]) -> dict[str, Any]:
    tools = value.get("tools") or value.get("functions")
    return {"tools": without_nulls(tools)} if tools else {}
