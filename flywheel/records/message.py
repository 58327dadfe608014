"""One turn of a conversation, in the shape chat models and their templates use.

A *prompt* is a conversation so far, ending in a user (or tool) turn; a *response* is one whole
reply, usually a single assistant turn. Both are tuples of `Message`. A bare string stands for
one user turn in a prompt and for one assistant turn in a response.
"""

from typing import Any, Literal

import msgspec

Role = Literal["system", "developer", "user", "assistant", "tool"]


class ToolCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A call an assistant makes. `arguments` is always an object here, never a JSON string."""

    name: str
    arguments: dict[str, Any]
    id: str | None = None


class Message(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,
):
    """One turn. Tool results name the call they answer where the source did."""

    role: Role
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


Conversation = tuple[Message, ...]


def prompt_of(value: str | Conversation) -> Conversation:
    """Read a prompt: a bare string is one user turn."""
    return (Message(role="user", content=value),) if isinstance(value, str) else value


def response_of(value: str | Conversation) -> Conversation:
    """Read a response: a bare string is one assistant turn."""
    return (Message(role="assistant", content=value),) if isinstance(value, str) else value


def text_of(conversation: Conversation) -> str:
    """The words of a conversation, turns joined by newlines; tool calls as name(arguments)."""
    lines: list[str] = []
    for message in conversation:
        calls = [
            f"{c.name}({msgspec.json.encode(c.arguments).decode()})" for c in message.tool_calls
        ]
        lines.extend(part for part in (message.content, *calls) if part)
    return "\n".join(lines)


def dump(conversation: Conversation) -> str:
    """JSON text of a conversation, as every Parquet column of conversations holds it."""
    return msgspec.json.encode(conversation).decode()


def load(text: str) -> Conversation:
    """Read back what `dump` wrote."""
    return msgspec.json.decode(text, type=Conversation)
