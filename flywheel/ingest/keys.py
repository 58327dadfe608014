"""Content hashes: what makes two texts, or two things said, the same.

A key is 128 bits in hex over length-prefixed fields, so that ("ab", "c") and ("a", "bc") differ.
Texts are normalised for identity only: NFC, line ends as LF, no white space at line ends. Case
and punctuation stay. Ids of tool calls are left out: they differ in every run.
"""

import contextlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b, sha256
from itertools import repeat
from typing import Any

import msgspec

from flywheel.records.message import Conversation

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


def opening_key(conversation: Conversation) -> str:
    """The key of how a prompt opens, up to and with the first user's turn: its group.

    The turns of one conversation are prompts of each other's continuation: were they told apart,
    a later turn of a training row would hold the answer to an earlier one that is tested on.
    """
    users = (place for place, turn in enumerate(conversation) if turn.role == "user")
    end = next(users, len(conversation) - 1) + 1
    return prompt_key(conversation[:end])


def response_key(conversation: Conversation) -> str:
    """Key of a whole reply (or of the steps of a trajectory)."""
    return _key("response", _fields(conversation))


def events(
    kind: str, columns: Mapping[str, Sequence[Any]], given_ids: Sequence[str | None]
) -> list[Any]:
    """Unfinished hashes of events: who said what; `told_apart` finishes them.

    What enters them are `WHO` and, by kind, `SAID`, and the id that was given. What does not: in
    which file, form or format it came, its source, and what is known about it and was not said
    (time spent, cost, licence, domain, group, metadata, the models that wrote the responses).

    Args:
        kind: Kind of all of them.
        columns: Their rows of landing as columns, as far as `WHO` and `SAID` go.
        given_ids: The records' own ids, where they have one.
    """
    fields = (columns[name] for name in (*WHO, *SAID[kind]))
    said = zip(repeat(kind), given_ids, *fields, strict=False)
    return [sha256(one) for one in map(msgspec.json.Encoder().encode, said)]


def told_apart(events: Sequence[Any], named: Iterable[bool], times: Counter[bytes]) -> list[str]:
    """Hashes of events; equal ones are the same event, delivered again.

    An event without an id, an annotator and a time is told from its like by nothing but its
    place: the second of its kind in a file is another event, so that two anonymous votes in one
    file are two. The n-th of one file and the n-th of another are the same event: a file that
    was sent again, in another form or with more at its end, adds only what is new, and
    anonymous twins in two files count once.

    Args:
        events: What `events` made, in the order of the file.
        named: Which of them have an id, an annotator or a time.
        times: How often each anonymous event was seen in its file; counted on here.
    """
    for event, is_named in zip(events, named, strict=True):
        if not is_named:
            digest = event.digest()
            if before := times[digest]:
                event.update(str(before).encode())
            times[digest] += 1
    return [event.hexdigest() for event in events]


def normalised(text: str) -> str:
    """A text as it is compared."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\n" in text:
        text = "\n".join([line.rstrip() for line in text.split("\n")])
    return text.rstrip()


def key_of_text(kind: str, role: str) -> Callable[[str], str]:
    """The key of one turn without calls, for texts by the million: equal to that of its message."""
    start = start_of_key(kind, role)

    def key(text: str) -> str:
        encoded = normalised(text).encode("utf-8", "surrogatepass")
        size = len(encoded).to_bytes(8, "little")
        return blake2b(start + size + encoded, digest_size=16).hexdigest()

    return key


def start_of_key(kind: str, role: str) -> bytes:
    """What the key of one turn without calls hashes before the size and the bytes of its text."""
    return b"".join((_start(kind), *_sized(role)))


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
    parts = [_start(kind)]
    for field in fields:
        parts.extend(_sized(field))
    return blake2b(b"".join(parts), digest_size=16).hexdigest()


def _start(kind: str) -> bytes:
    return f"{kind}{KEY_VERSION}".encode()


def _sized(field: str) -> tuple[bytes, bytes]:
    encoded = field.encode("utf-8", "surrogatepass")
    return len(encoded).to_bytes(8, "little"), encoded
