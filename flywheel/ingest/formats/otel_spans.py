"""OpenTelemetry's JSON as spans and events, whichever way it was written.

Three shapes are read: the requests of the OTLP file exporter, for traces and for logs, whose
values are wrapped by type, and single spans with plain attributes, as SDKs print them.
Source: opentelemetry-proto, trace.proto, logs.proto, common.proto in their JSON form.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from flywheel.errors import RecordError
from flywheel.ingest.formats.gathered import UNFIT, Gathered, told
from flywheel.ingest.formats.threads import moment

WRAPPED = ("stringValue", "boolValue", "doubleValue", "bytesValue")


@dataclass(slots=True)
class Event:
    """Something that happened within a span; of an event in a log, its body is in `attributes`."""

    line: int
    name: str
    trace: str
    span: str
    at: datetime | None
    attributes: dict[str, Any]


@dataclass(slots=True)
class Span:
    """One span, with the attributes of events that describe it as a whole."""

    line: int
    trace: str
    id: str
    at: datetime | None
    is_error: bool
    attributes: dict[str, Any]
    events: list[Event] = field(default_factory=list)


def parts_of(line: int, row: dict[str, Any]) -> list[Span | Event | Gathered]:
    """Every span and every event of a log in one object, and why others cannot be read.

    Raises:
        RecordError: It is no shape of OpenTelemetry.
    """
    if spans := row.get("resourceSpans", row.get("resource_spans")):
        inner = _inner(spans, ("scopeSpans", "scope_spans"), "spans")
        return list(_each(line, inner, _span))
    if logs := row.get("resourceLogs", row.get("resource_logs")):
        inner = _inner(logs, ("scopeLogs", "scope_logs"), "logRecords", "log_records")
        return list(_each(line, inner, _event))
    if isinstance(row.get("attributes"), dict | list) and _id(row, "trace"):
        return [_span(line, row)]
    raise RecordError("neither resourceSpans, resourceLogs nor a span with attributes")


def _each(
    line: int, given: Iterable[Any], make: Callable[[int, Any], Span | Event]
) -> Iterator[Span | Event | Gathered]:
    for one in given:
        try:
            yield make(line, one)
        except UNFIT as error:
            yield Gathered((line,), told(error), is_part=True)


def _inner(outer: Any, middle: tuple[str, ...], *inner: str) -> Iterator[Any]:
    for resource in outer:
        for scope in _first(resource, *middle) or ():
            yield from _first(scope, *inner) or ()


def _first(value: Any, *keys: str) -> Any:
    return next((value[key] for key in keys if value.get(key) is not None), None)


def _span(line: int, given: dict[str, Any]) -> Span:
    trace, id = _id(given, "trace"), _id(given, "span")
    if not trace or not id:
        raise RecordError("a span needs the id of its trace and its own")
    status = given.get("status") or {}
    code = status.get("code", status.get("status_code"))
    attributes = _attributes(given.get("attributes"))
    events = [_event(line, one, trace, id) for one in given.get("events") or ()]
    started = _first(given, "startTimeUnixNano", "start_time_unix_nano", "start_time")
    return Span(
        line=line,
        trace=trace,
        id=id,
        at=_time(started),
        is_error=code in (2, "STATUS_CODE_ERROR", "ERROR") or "error.type" in attributes,
        attributes=attributes,
        events=events,
    )


def _event(line: int, given: dict[str, Any], trace: str = "", span: str = "") -> Event:
    attributes = _attributes(given.get("attributes"))
    body = _plain(given.get("body")) if isinstance(given.get("body"), dict) else None
    name = _first(given, "eventName", "event_name", "name") or attributes.get("event.name")
    return Event(
        line=line,
        name=str(name),
        trace=trace or _id(given, "trace"),
        span=span or _id(given, "span"),
        at=_time(_first(given, "timeUnixNano", "time_unix_nano", "timestamp")),
        attributes=attributes | (body if isinstance(body, dict) else {}),
    )


def _id(given: dict[str, Any], of: str) -> str:
    context = given.get("context")
    for place in (given, context if isinstance(context, dict) else {}):
        found = _first(place, f"{of}Id", f"{of}_id")
        if isinstance(found, str) and found:
            return found.lower().removeprefix("0x")
    return ""


def _attributes(given: Any) -> dict[str, Any]:
    """Attributes as a dict: already one, or OTLP's list of keys and wrapped values."""
    if isinstance(given, list):
        return {one["key"]: _plain(one.get("value")) for one in given}
    return dict(given or {})


def _plain(value: Any) -> Any:
    """A value of OTLP without its type around it; integers come as text there."""
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((kind, inner),) = value.items()
    if kind in WRAPPED:
        return inner
    if kind == "intValue":
        return int(inner)
    if kind == "arrayValue":
        return [_plain(one) for one in inner.get("values") or ()]
    if kind == "kvlistValue":
        return _attributes(inner.get("values") or [])
    return value


def _time(value: Any) -> datetime | None:
    """A time in nanoseconds since 1970, as a number or its text, or in words."""
    if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
        return datetime.fromtimestamp(int(value) / 1e9, UTC)
    return moment(value)
