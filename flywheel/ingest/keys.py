"""Content hashes: what makes two texts, or two things said, the same.

A key is 128 bits in hex over length-prefixed fields, so that ("ab", "c") and ("a", "bc") differ.
Texts are normalised for identity only: NFC, line ends as LF, no white space at line ends. Case
and punctuation stay. Ids of tool calls are left out: they differ in every run.
"""

import contextlib
import hashlib
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

import msgspec

from flywheel.records import Record
from flywheel.records.message import Conversation

SPACE_AT_LINE_END = re.compile(r"[^\S\n]\n")
KEY_VERSION = "2"  # goes into every key: a change of the rules changes all of them


def prompt_key(conversation: Conversation, tools: Any = None) -> str:
    """Key of what was asked, and of the tools there were to answer with.

    Args:
        conversation: The prompt.
        tools: Their definitions as a list or as JSON text of one; the order of keys is nothing.
    """
    return _key("prompt", [*_fields(conversation), *_tools(tools)])


def opening_group(conversation: Conversation) -> str:
    """The group of all prompts that open alike, up to and with the first user's turn.

    The turns of one conversation are prompts of each other's continuation: were they told apart,
    a later turn of a training row would hold the answer to an earlier one that is tested on.
    """
    users = (place for place, turn in enumerate(conversation) if turn.role == "user")
    end = next(users, len(conversation) - 1) + 1
    return f"opening {prompt_key(conversation[:end])}"


def response_key(conversation: Conversation) -> str:
    """Key of a whole reply (or of the steps of a trajectory)."""
    return _key("response", _fields(conversation))


def content_sha256(record: Record) -> str:
    """Hash of everything a record says; an equal one is the same event delivered again."""
    return hashlib.sha256(msgspec.json.encode(record, order="deterministic")).hexdigest()


def normalised(text: str) -> str:
    """A text as it is compared."""
    plain = text.isascii() and "\r" not in text
    if plain and ("\n" not in text or not SPACE_AT_LINE_END.search(text)):
        return text.rstrip()
    lines = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\n".join(line.rstrip() for line in lines).rstrip()


def _fields(conversation: Conversation) -> Iterable[str]:
    for message in conversation:
        yield message.role
        yield normalised(message.content)
        for call in message.tool_calls:
            yield call.name
            yield msgspec.json.encode(call.arguments, order="deterministic").decode()


def _tools(tools: Any) -> Iterable[str]:
    if isinstance(tools, str):
        with contextlib.suppress(msgspec.DecodeError):  # what is no JSON stands for itself
            tools = msgspec.json.decode(tools)
    if tools:
        yield "tools"
        yield msgspec.json.encode(tools, order="deterministic", enc_hook=str).decode()


def _key(kind: str, fields: Iterable[str]) -> str:
    digest = hashlib.blake2b(f"{kind}{KEY_VERSION}".encode(), digest_size=16)
    for field in fields:
        encoded = field.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little"))
        digest.update(encoded)
    return digest.hexdigest()
