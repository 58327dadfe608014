"""Content hashes: what makes two texts, or two things said, the same.

A key is 128 bits in hex over length-prefixed fields, so that ("ab", "c") and ("a", "bc") differ.
Texts are normalised for identity only: NFC, line ends as LF, no white space at line ends. Case
and punctuation stay. Ids of tool calls are left out: they differ in every run.
"""

import contextlib
import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from flywheel.records.message import Conversation

SPACE_AT_LINE_END = re.compile(r"[^\S\n]\n")
WHO = ("prompt_key", "annotator_id", "guideline_version", "occurred_at")
SAID = {  # columns that hold what an event says; conversations are compared by their keys
    "demonstration": ("response_key",),
    "comparison": ("response_a_key", "response_b_key", "choice", "reason"),
    "ranking": ("response_keys", "ranks"),
    "rating": ("response_key", "rating", "rating_min", "rating_max"),
    "critique": ("response_key", "critique", "corrected_response_key"),
    "rubric_score": ("response_key", "criterion", "score", "weight"),
    "trajectory": ("steps_key", "outcome", "task_id", "trial", "reward"),
    "step_rating": ("steps_key", "rating", "rating_min", "rating_max"),
    "interaction": ("response_key", "thumbs", "edited_response_key"),
    "evaluation_prompt": ("evaluation_set", "grader", "reference"),
}
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


def content_sha256(row: Mapping[str, Any], given_id: str | None, times: Counter[bytes]) -> str:
    """Hash of an event: who said what; an equal one is the same event, delivered again.

    What enters it are `WHO` and, by kind, `SAID`, and the id that was given. What does not: in
    which file, form or format it came, its source, and what is known about it and was not said
    (time spent, cost, licence, domain, group, metadata, the models that wrote the responses).

    An event without an id, an annotator and a time is told from its like by nothing but its
    place: the second of its kind in a file is another event, so that two anonymous votes in one
    file are two. The n-th of one file and the n-th of another are the same event: a file that
    was sent again, in another form or with more at its end, adds only what is new, and
    anonymous twins in two files count once.

    Args:
        row: Its row of landing, as far as `WHO` and `SAID` go.
        given_id: The record's own id, where it has one.
        times: How often each anonymous event was seen in its file; counted on here.
    """
    kind = row["kind"]
    said = [str(kind), given_id, *(row[name] for name in (*WHO, *SAID[kind]))]
    digest = hashlib.sha256(msgspec.json.encode(said))
    if not (given_id or row["annotator_id"] or row["occurred_at"]):
        event = digest.digest()
        digest.update(str(times[event] or "").encode())
        times[event] += 1
    return digest.hexdigest()


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
