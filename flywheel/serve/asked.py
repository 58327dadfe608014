"""A request for an answer, read from OpenAI's JSON; what would be ignored is refused.

Taken: model, messages (text alone), temperature, max_tokens or max_completion_tokens, seed, user,
store, stream and stream_options.include_usage. Options that change the answer and that are not
done here are refused, unless they are set to what changes nothing.
"""

import json
from dataclasses import dataclass
from typing import Any

import msgspec

from flywheel.errors import FlywheelError
from flywheel.records.message import Conversation, Message, dump
from flywheel.serve.settings import ServeSettings

CHAMPION = "champion"  # the model's name; that of its generation is one too
NOTHING: dict[str, tuple[Any, ...]] = {  # options that are taken at values that change nothing
    "n": (1,),
    "top_p": (1,),
    "stop": ([], ""),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}


class Refused(FlywheelError):
    """A request that is answered with an error in OpenAI's shape."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked for."""

    model: str
    messages: Conversation
    temperature: float
    max_tokens: int
    seed: int | None
    user: str | None
    consent: bool
    stream: bool
    include_usage: bool

    @property
    def request(self) -> dict[str, Any]:
        """As the log keeps it."""
        return {
            "messages": json.loads(dump(self.messages)),
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }


def parsed(body: bytes) -> dict[str, Any]:
    """A JSON object, read as landing reads: what comes in here must get in there.

    Raises:
        Refused: It is none.
    """
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError) as error:
        raise Refused(
            f"the body is no JSON (which has no NaN, no Infinity and no half of a surrogate "
            f"pair): {error}"
        ) from error
    if not isinstance(value, dict):
        raise Refused(f"the body must be a JSON object, got a {type(value).__name__}")
    return value


def asked_of(body: dict[str, Any], settings: ServeSettings) -> Asked:
    """Read a request for an answer.

    Raises:
        Refused: Something is missing, of another type, out of range or not done here.
    """
    for name, harmless in NOTHING.items():
        if body.get(name) is not None and body[name] not in harmless:
            raise Refused(
                f"{name} is not done here; leave it out, or ask for {json.dumps(harmless[0])}",
                param=name,
                code="unsupported_parameter",
            )
    limit = _number(body, "max_completion_tokens", int) or _number(body, "max_tokens", int)
    if limit is not None and limit < 1:
        raise Refused(f"max_tokens must be at least 1, got {limit}", param="max_tokens")
    temperature = _number(body, "temperature", float)
    if temperature is not None and not 0 <= temperature <= 2:
        raise Refused(f"temperature must be from 0 to 2, got {temperature}", param="temperature")
    store = _of_type(body, "store", bool)
    options = _of_type(body, "stream_options", dict) or {}
    return Asked(
        model=_of_type(body, "model", str) or CHAMPION,
        messages=_messages(body.get("messages")),
        temperature=1.0 if temperature is None else temperature,
        max_tokens=min(limit or settings.most_tokens, settings.most_tokens),
        seed=_number(body, "seed", int),
        user=_of_type(body, "user", str) or None,
        consent=settings.store_by_default if store is None else store,
        stream=bool(_of_type(body, "stream", bool)),
        include_usage=bool(options.get("include_usage")),
    )


def _messages(given: Any) -> Conversation:
    if not isinstance(given, list) or not given:
        raise Refused("messages must be a list of at least one message", param="messages")
    turns = tuple(_message(one, place) for place, one in enumerate(given))
    if turns[-1].role not in ("user", "tool"):
        raise Refused(
            f"the last message must be of role user or tool, got {turns[-1].role}", param="messages"
        )
    return turns


def _message(given: Any, place: int) -> Message:
    where = f"messages[{place}]"
    if not isinstance(given, dict):
        raise Refused(f"{where} must be an object", param=where)
    known = {name: value for name, value in given.items() if value is not None}
    known["content"] = _text(known.get("content", ""), where)
    try:
        known["tool_calls"] = [_call(one) for one in known.get("tool_calls", [])]
        return msgspec.convert(known, Message)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refused(f"{where} cannot be read: {error}", param=where) from error


def _text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
    ):
        return "".join(part["text"] for part in content)
    raise Refused(f"content of {where} must be text", param=where)


def _call(given: dict[str, Any]) -> dict[str, Any]:
    function = given["function"]
    arguments = msgspec.json.decode(function["arguments"] or "{}")
    return {"id": given.get("id"), "name": function["name"], "arguments": arguments}


def _of_type(body: dict[str, Any], name: str, kind: type) -> Any:
    value = body.get(name)
    if value is not None and type(value) is not kind:
        raise Refused(f"{name} must be a {kind.__name__}, got {value!r:.80}", param=name)
    return value


def _number(body: dict[str, Any], name: str, kind: type) -> Any:
    value = body.get(name)
    if value is None:
        return None
    fits = type(value) is int or (kind is float and type(value) is float and value == value)
    if not fits or abs(value) > 2**53:
        raise Refused(f"{name} must be a number, got {value!r:.80}", param=name)
    return kind(value)
