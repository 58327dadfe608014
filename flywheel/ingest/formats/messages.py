"""Chat messages as other tools write them, read into ours.

`content` may be a string, null or a list of text parts; the arguments of a tool call may be an
object or a JSON string of one; the call may be the one `function_call` of old files. What a
message carries beyond that is not silently dropped: the names of such keys come back for the
record's metadata.

A null and a key that is not there are one and the same, because Parquet holds a null for every
key that any other row has. A reader for which they differ must look before it calls
`without_nulls`.
"""

from typing import Any

import msgspec

from flywheel.errors import RecordError
from flywheel.records import Message, ToolCall
from flywheel.records.message import Conversation

ROLES = {"function": "tool", "human": "user", "gpt": "assistant", "ai": "assistant"}
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
    return ToolCall(name=function["name"], arguments=arguments, id=call.get("id"))


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
