"""Single calls of a model, put together to the conversations that they were parts of.

A log of calls holds each turn of an agent with everything said before it. A call whose input
begins with all that an earlier one of its trace was asked and answered goes on where that one
stopped; the two are one *thread*. A thread of several calls is a trajectory, of one an
interaction. Ids of tool calls do not count in the comparison: some tools write new ones.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from flywheel.errors import RecordError
from flywheel.ingest.formats.messages import conversation, message
from flywheel.ingest.formats.scores import Target
from flywheel.records import Interaction, Message, Record, Trajectory
from flywheel.records.message import Conversation

CUT_OFF = {"length", "max_tokens"}  # reasons to stop that are no end


@dataclass(slots=True)
class Call:
    """One answer of a model; one that failed may have none.

    Attributes:
        lines: Where it was read, its own line first.
        asked: Everything said before.
        stop: Why the model stopped, where that is known; "error" for a call that failed.
    """

    lines: tuple[int, ...]
    id: str
    asked: Conversation
    answered: Conversation
    at: datetime | None = None
    model: str | None = None
    stop: str | None = None
    tools: Any = None
    extra: dict[str, Any] = field(default_factory=dict)  # for the metadata

    @property
    def target(self) -> Target:
        """This one answer, to be judged."""
        return Target(self.asked, self.answered, self.lines)


@dataclass(slots=True)
class Thread:
    """Calls that continue one another, and the lines that only belong to their trace."""

    calls: list[Call]
    lines: list[int] = field(default_factory=list)

    @property
    def prompt(self) -> Conversation:
        """What the first call was asked."""
        return self.calls[0].asked

    @property
    def steps(self) -> Conversation:
        """Everything said since."""
        last = self.calls[-1]
        return (*last.asked, *last.answered)[len(self.prompt) :]

    @property
    def all_lines(self) -> tuple[int, ...]:
        """Every line it was made of, that of the last call first."""
        return tuple(dict.fromkeys((*self.target.lines, *self.lines)))

    @property
    def target(self) -> Target:
        """All that was done, to be judged."""
        lines = [line for call in reversed(self.calls) for line in call.lines]
        return Target(self.prompt, self.steps, tuple(dict.fromkeys(lines)))

    def record(self, name: str, metadata: dict[str, Any]) -> Record:
        """The thread as a record called `name`.

        Raises:
            RecordError: Nothing was answered.
        """
        last = self.calls[-1]
        if not self.steps:
            raise RecordError("the call failed, and nothing was answered")
        tools = {"tools": last.tools} if last.tools else {}
        stop = {"stop_reason": last.stop} if last.stop else {}
        fields = {
            "prompt": self.prompt,
            "id": name,
            "metadata": {**tools, **stop, **last.extra, **metadata},
            "model": last.model,
            "occurred_at": self.calls[0].at,
        }
        if len(self.calls) == 1:
            return msgspec.convert({**fields, "response": self.steps}, Interaction)
        outcome = {"error": "error", **dict.fromkeys(CUT_OFF, "truncated")}.get(last.stop or "")
        fields |= {"steps": self.steps, "outcome": outcome or "unscored"}
        return msgspec.convert(fields, Trajectory)


def threads(calls: Iterable[Call]) -> list[Thread]:
    """The threads of one trace; `calls` in the order of time.

    Costs as much as the messages are long, however many calls there are.
    """
    found: list[Thread] = []
    ends: dict[bytes, Thread] = {}  # what was said up to the end of a thread -> the newest such
    for call in calls:
        said = _chain((*call.asked, *call.answered))
        asked = said[: len(call.asked)]
        end = next((one for one in reversed(asked) if one in ends), None)
        if end is None:
            thread = Thread([call])
            found.append(thread)
        else:
            thread = ends.pop(end)
            thread.calls.append(call)
        ends[said[-1]] = thread
    return found


def _chain(turns: Conversation) -> list[bytes]:
    """A hash of each beginning of a conversation, without ids."""
    digest = hashlib.blake2b(digest_size=16)
    found = []
    for turn in turns:
        calls = [(one.name, one.arguments) for one in turn.tool_calls]
        digest.update(msgspec.json.encode((turn.role, turn.content, calls), order="deterministic"))
        found.append(digest.digest())
    return found


def decoded(value: Any) -> Any:
    """JSON text of an object or a list as what it says; whatever else as it is, "" as null."""
    if not isinstance(value, str):
        return value
    if value.lstrip()[:1] in ("{", "["):
        try:
            return msgspec.json.decode(value)
        except (ValueError, RecursionError):
            return value
    return value or None


def asked_of(value: Any) -> Conversation:
    """The input of a call: a text, a message, messages, or an object that holds them.

    Raises:
        RecordError: There is none of these.
    """
    value = decoded(value)
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"]
    if isinstance(value, str):
        return (Message(role="user", content=value),)
    if isinstance(value, dict) and "role" in value:
        value = [value]
    if value is None:
        raise RecordError("a call has no input; switch on the capture of content")
    if isinstance(value, dict):
        return (Message(role="user", content=as_text(value)),)
    return conversation(value)


def answered_of(value: Any) -> Conversation:
    """The output of a call: a text, a message, messages, or the object of a chat completion.

    Raises:
        RecordError: There is none of these.
    """
    value = decoded(value)
    if value is None:
        raise RecordError("a call has no output; switch on the capture of content")
    if isinstance(value, dict) and isinstance(value.get("choices"), list) and value["choices"]:
        value = value["choices"][0]
    if isinstance(value, dict) and isinstance(value.get("message"), dict):
        value = value["message"]
    if isinstance(value, dict) and ("content" in value or "tool_calls" in value):
        value = [{"role": "assistant", **value}]
    if isinstance(value, str):
        return (Message(role="assistant", content=value),)
    if isinstance(value, list) and value and all(_is_message(one) for one in value):
        return tuple(message({"role": "assistant", **one}) for one in value)
    return (Message(role="assistant", content=as_text(value)),)


def as_text(value: Any) -> str:
    """A structured value as text, the same for the same value."""
    return msgspec.json.encode(value, order="deterministic", enc_hook=str).decode()


def identity(row: dict[str, Any], key: str) -> str:
    """What a row is called.

    Raises:
        RecordError: It is not.
    """
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise RecordError(f"{key} must be a text that is not empty, found {value!r}")
    return value


def moment(value: Any) -> datetime | None:
    """A time as exports write it; one without a zone is UTC.

    Raises:
        RecordError: It is no time.
    """
    if isinstance(value, datetime) or value in (None, ""):
        return value or None
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise RecordError(f"not a time: {value!r}") from error


def in_time(calls: Iterable[Call]) -> list[Call]:
    """Calls by the time they began, those without a time in the order of their lines."""
    return sorted(calls, key=lambda call: (call.at is None, in_seconds(call.at), call.lines))


def in_seconds(at: datetime | None) -> float:
    """A time as seconds since 1970, to be compared; one without a zone is UTC."""
    if at is None:
        return 0.0
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and ("content" in value or "tool_calls" in value)
