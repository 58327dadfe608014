"""Our messages as other tools write them: the inverse of `flywheel.ingest.formats.messages`."""

from collections.abc import Iterator
from typing import Any

import msgspec

from flywheel.records.message import Conversation, Message, ToolCall, text_of


def with_objects(turns: Conversation) -> list[dict[str, Any]]:
    """Messages for Hugging Face chat templates: the arguments of a call are an object."""
    return [
        _message(turn, [_call(call, call.id, call.arguments) for call in turn.tool_calls])
        for turn in turns
    ]


def with_texts(turns: Conversation, number: int = 0) -> list[dict[str, Any]]:
    """Messages for OpenAI: arguments are JSON text, and every call and answer has an id.

    Where none was given, calls are numbered in order from `number`, answers take the ids of the
    calls in the same order.
    """
    ids = (f"call_{place}" for place in range(number, number + sum(map(_calls, turns))))
    open_calls: list[str] = []
    written = []
    for turn in turns:
        calls = list(_text_calls(turn, ids))
        open_calls += [call["id"] for call in calls]
        message = _message(turn, calls)
        if calls and not turn.content:
            message["content"] = None
        if turn.role == "tool":
            id = turn.tool_call_id or (open_calls[0] if open_calls else f"call_{number}")
            message["tool_call_id"] = id
            if id in open_calls:
                open_calls.remove(id)
        written.append(message)
    return written


def is_plain(turns: Conversation, role: str) -> bool:
    """Whether a conversation is the text of one turn and nothing else."""
    return turns == (Message(role=role, content=turns[0].content),)  # type: ignore[arg-type]


def as_text(turns: Conversation, role: str) -> str:
    """The text of one turn of `role`; of anything more, each turn under the name of its role."""
    if is_plain(turns, role):
        return turns[0].content
    return "\n\n".join(f"{turn.role}: {text_of((turn,))}" for turn in turns)


def _calls(turn: Message) -> int:
    return len(turn.tool_calls)


def _text_calls(turn: Message, ids: Iterator[str]) -> Iterator[dict[str, Any]]:
    for call, id in zip(turn.tool_calls, ids, strict=False):
        yield _call(call, call.id or id, msgspec.json.encode(call.arguments).decode())


def _call(call: ToolCall, id: str | None, arguments: Any) -> dict[str, Any]:
    named = {"id": id} if id else {}
    function = {"name": call.name, "arguments": arguments}
    return {**named, "type": "function", "function": function}


def _message(turn: Message, calls: list[dict[str, Any]]) -> dict[str, Any]:
    beside = {"tool_calls": calls, "tool_call_id": turn.tool_call_id, "name": turn.name}
    given = {key: item for key, item in beside.items() if item}
    return {"role": turn.role, "content": turn.content, **given}
