"""TensorZero's inputs and outputs as conversations: messages of content blocks, JSON in strings."""

from typing import Any

from flywheel.errors import RecordError
from flywheel.ingest.formats.messages import message
from flywheel.ingest.formats.threads import as_text, decoded
from flywheel.records import Message
from flywheel.records.message import Conversation

THOUGHTS = ("thought",)  # which a model does not see again


def asked_of(value: Any) -> Conversation:
    """The input of an inference: `{"system", "messages"}`.

    Raises:
        RecordError: It is something else.
    """
    value = decoded(value)
    if not isinstance(value, dict) or not isinstance(value.get("messages"), list):
        raise RecordError("an input needs a list of messages")
    system = value.get("system")
    first = [Message(role="system", content=_text(system))] if system else []
    turns = [turn for one in value["messages"] for turn in _turns(one["role"], one["content"])]
    if not turns:
        raise RecordError("an input needs a message")
    return (*first, *turns)


def output_of(value: Any) -> Conversation:
    """The output of an inference: content blocks, or `{"parsed", "raw"}` of a JSON function.

    Raises:
        RecordError: There is none.
    """
    value = decoded(value)
    if value in (None, [], {}):
        raise RecordError("nothing was put out")
    if isinstance(value, dict):
        raw = value.get("raw")
        value = raw if isinstance(raw, str) else as_text(value.get("parsed", value))
    return _turns("assistant", value)


def _turns(role: str, content: Any) -> Conversation:
    """A message of blocks; every result of a tool in it is a turn of its own."""
    if isinstance(content, str):
        return (message({"role": role, "content": content}),)
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    results: list[Message] = []
    for block in content:
        kind = block.get("type")
        if kind in ("text", "raw_text"):
            texts.append(_text(block.get("text", block.get("value", block.get("arguments")))))
        elif kind == "template":
            texts.append(_text(block.get("arguments")))
        elif kind == "tool_call":
            calls.append(
                {
                    "id": block.get("id"),
                    "name": block.get("name") or block.get("raw_name"),
                    "arguments": block.get("arguments") or block.get("raw_arguments"),
                }
            )
        elif kind == "tool_result":
            said = {"role": "tool", "content": _text(block.get("result"))}
            results.append(message(said | {"tool_call_id": block.get("id")}))
        elif kind not in THOUGHTS:
            raise RecordError(f"a block of the type {kind!r} is not taken in")
    turn = message({"role": role, "content": "".join(texts), "tool_calls": calls})
    return (*results, turn) if texts or calls or not results else tuple(results)


def _text(value: Any) -> str:
    """Words as they are; the arguments of a template as JSON."""
    return value if isinstance(value, str) else as_text(value)
