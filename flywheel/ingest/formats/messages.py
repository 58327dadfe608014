"""Chat messages as other tools write them, read into ours.

`content` may be a string, null or a list of text parts; the arguments of a tool call may be an
object or a JSON string of one; the call may be the one `function_call` of old files. What a
message carries beyond that is not silently dropped: the names of such keys come back for the
record's metadata.

A null and a key that is not there are one and the same, because Parquet holds a null for every
key that any other row has. A reader for which they differ must look before it calls
`without_nulls`.
"""

from collections.abc import Collection
from typing import Any

import msgspec

from flywheel.errors import RecordError
from flywheel.records import Demonstration, Message, ToolCall
from flywheel.records.message import Conversation

ROLES = {
    **dict.fromkeys(("human", "prompter"), "user"),
    **dict.fromkeys(("gpt", "ai", "bot"), "assistant"),
    **dict.fromkeys(("function", "observation"), "tool"),
}
KNOWN = {"role", "content", "tool_calls", "function_call", "tool_call_id", "name", "weight"}


def conversation(turns: Any) -> Conversation:
    """Read a list of messages; a bare string is left to the caller.

    Raises:
        RecordError: It is no list of messages.
    """
    if not isinstance(turns, list) or not turns:
        raise RecordError(f"expected a list of messages, found {type(turns).__name__}")
    return tuple(message(turn) for turn in turns)


def message(turn: Any) -> Message:
    """Read one message.

    Raises:
        RecordError: It has no role, content that is no text, or a call that cannot be read.
    """
    if not isinstance(turn, dict) or not isinstance(turn.get("role"), str):
        raise RecordError("a message needs a role")
    calls = turn.get("tool_calls") or []
    if legacy := turn.get("function_call"):
        if calls:
            raise RecordError("a message calls by tool_calls or by function_call, not by both")
        calls = [legacy]
    return msgspec.convert(
        {
            "role": ROLES.get(turn["role"], turn["role"]),
            "content": text(turn.get("content")),
            "tool_calls": [tool_call(call) for call in calls],
            "tool_call_id": turn.get("tool_call_id"),
            "name": turn.get("name"),
        },
        Message,
    )


def one_turn(value: Any, role: str) -> Conversation:
    """A conversation that may be given as the text of its only turn."""
    if isinstance(value, str):
        return (Message(role=role, content=value),)  # type: ignore[arg-type]
    return conversation(value)


def demonstrations(
    turns: Conversation, metadata: dict[str, Any], masked: Collection[int] = (), **more: Any
) -> list[Demonstration]:
    """Each turn of the assistant as what to say after the turns before it.

    Args:
        turns: A whole conversation.
        metadata: Of every demonstration.
        masked: Places of turns that are context only.
        more: Fields of every demonstration.

    Raises:
        RecordError: No turn is to be imitated.
    """
    found = [
        Demonstration(prompt=turns[:place], response=(turn,), metadata=metadata, **more)
        for place, turn in enumerate(turns)
        if turn.role == "assistant" and place and place not in masked
    ]
    if not found:
        raise RecordError("no assistant turn to imitate follows another turn")
    return found


def tools_of(tools: Any) -> dict[str, Any]:
    """Metadata that hold the tools of a prompt, given as a list or as JSON text of one."""
    if isinstance(tools, str) and tools.strip():
        try:
            tools = msgspec.json.decode(tools)
        except msgspec.DecodeError as error:
            raise RecordError(f"the tools are not JSON: {error}") from error
    return {"tools": without_nulls(tools)} if tools else {}


def shared_turns(one: Conversation, other: Conversation) -> int:
    """How many whole turns two dialogues begin with alike; the last of each is never among them.

    Raises:
        RecordError: They share none, so there is no prompt.
    """
    shared = 0
    for left, right in zip(one[:-1], other[:-1], strict=False):
        if left != right:
            break
        shared += 1
    if not shared:
        raise RecordError("chosen and rejected share no beginning, so there is no prompt")
    return shared


def without_nulls(value: Any) -> Any:
    """A value without the keys that are null, at any depth; nulls of lists stay."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def text(content: Any) -> str:
    """The text of a message's content."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
    ):
        return "".join(part["text"] for part in content)
    raise RecordError("content must be text or a list of text parts; other parts are not taken in")


def tool_call(call: Any) -> ToolCall:
    """Read a call, its arguments as an object.

    A null in JSON text is an argument given as null; one in an object is an argument not given.
    """
    function = (call.get("function") or call) if isinstance(call, dict) else {}
    arguments = without_nulls(function.get("arguments") or {})
    if isinstance(arguments, str):
        try:
            arguments = msgspec.json.decode(arguments)
        except msgspec.DecodeError as error:
            raise RecordError(f"the arguments of a tool call are not JSON: {error}") from error
    if not isinstance(arguments, dict) or not isinstance(function.get("name"), str):
        raise RecordError("a tool call needs a name and arguments that are an object")
    id = call.get("id")
    if not isinstance(id, str | None):
        raise RecordError(f"the id of a tool call must be a text, found {id!r:.40}")
    return ToolCall(name=function["name"], arguments=arguments, id=id)


def beyond(turns: Any) -> dict[str, Any]:
    """Metadata that names what messages carry beyond what is read; empty where nothing."""
    names = {
        key
        for turn in turns
        if isinstance(turn, dict)
        for key, value in turn.items()
        if key not in KNOWN and value not in (None, [], {}, "")
    }
    return {"message_keys_left_out": sorted(names)} if names else {}
