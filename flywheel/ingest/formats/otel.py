"""OpenTelemetry's GenAI spans and events: what models were asked and answered, and evaluations.

Calls of one conversation (or else of one trace) that continue one another are a trajectory, a
single one an interaction; spans of tools and of anything else belong to their trace. The messages
stand in attributes, as values or as JSON text, or, up to v1.36, in one event each. Spans of whole
agents repeat what their calls say and are read only where no call has content. Capture of content
is off by default: a line of which nothing can be learned is refused, and says so. A line is a
batch of spans, cut anywhere: each span is judged by itself, and one that cannot be read leaves the
others of its line and of its trace alone. An evaluation
names nobody unless `flywheel.feedback.author` and `.author_kind` stand beside it; one that failed
is no zero but no judgement at all.
Source: open-telemetry/semantic-conventions 7b0c0fe, docs/gen-ai.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from flywheel.errors import RecordError
from flywheel.ingest.formats.gathered import (
    UNFIT,
    Gathered,
    Rows,
    alone,
    attempt,
    parsed,
    told,
    unlabelled,
    unresolved,
)
from flywheel.ingest.formats.labels import account
from flywheel.ingest.formats.messages import message, without_nulls
from flywheel.ingest.formats.otel_spans import Event, Span, parts_of
from flywheel.ingest.formats.scores import Said, Target, critique, number, rating, shares
from flywheel.ingest.formats.threads import Call, as_text, decoded, in_time, threads
from flywheel.records import Message, Record
from flywheel.records.message import Conversation

EVALUATION = "gen_ai.evaluation.result"
DETAILS = "gen_ai.client.inference.operation.details"
SCORE = "gen_ai.evaluation.score."
CHOICE = "gen_ai.choice"
OLD = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
AGENTS = {"invoke_agent", "invoke_workflow", "create_agent"}
AUTHORS = {"human": "person", "end_user": "person", "llm": "model", "code": "program"}
FEEDBACK = "flywheel.feedback."
NO_TEXT = (
    "no call of a model with its messages: switch on the capture of content where it was recorded"
)


def sniff(value: dict[str, Any]) -> float:
    """Sure of requests of OTLP, and of attributes that begin with gen_ai."""
    if value.keys() & {"resourceSpans", "resourceLogs"}:
        return 1.0
    given = value.get("attributes")
    return 1.0 if isinstance(given, dict) and any(k.startswith("gen_ai.") for k in given) else 0.0


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one object as a file of its own."""
    return alone(gather, value)


def gather(rows: Rows, name: str) -> Iterator[Gathered]:
    """Read the rows of one file."""
    parts: dict[int, list[Span | Event | Gathered]] = {}
    yield from parsed(rows, lambda line, row: parts_of(line, without_nulls(row)), parts)
    every = [part for line in parts.values() for part in line]
    unread = [part for part in every if isinstance(part, Gathered)]
    spans, evaluations = _sorted(part for part in every if not isinstance(part, Gathered))
    used: set[int] = set()
    for one in (*unread, *_judged_threads(spans, evaluations)):
        used.update(one.lines)
        yield one._replace(is_part=True)
    for line in parts.keys() - used:
        yield unlabelled(line, NO_TEXT)


Key = tuple[str, str]  # ids of a trace and of a span in it


def _sorted(parts: Iterable[Span | Event]) -> tuple[dict[Key, Span], list[Event]]:
    """Spans with the events that hold their messages, and evaluations."""
    spans: dict[Key, Span] = {}
    events: list[Event] = []
    for part in parts:
        if isinstance(part, Span):
            spans[part.trace, part.id] = part
            events.extend(part.events)
            part.events = []
        else:
            events.append(part)
    for event in events:
        if event.name in OLD or event.name in (CHOICE, DETAILS):
            key = (event.trace, event.span)  # the span itself may not be there
            spans.setdefault(key, Span(event.line, *key, event.at, False, {})).events.append(event)
    return spans, [event for event in events if event.name == EVALUATION]


def _judged_threads(spans: dict[Key, Span], evaluations: list[Event]) -> Iterator[Gathered]:
    calls: dict[Key, Call] = {}
    unread: set[Key] = set()
    for key, span in spans.items():
        try:
            if call := _call(span):
                calls[key] = call
        except UNFIT as error:
            unread.add(key)
            yield Gathered((span.line,), told(error))
    failed = Counter(one.trace for one in evaluations if "error.type" in one.attributes)
    targets: dict[Any, Target] = {key: call.target for key, call in calls.items()}
    groups = _groups(spans)
    for keys in groups.values():
        inner = [key for key in keys if key in calls and not _is_agent(spans[key])]
        chosen = inner or [key for key in keys if key in calls]
        found = [one for one in threads(in_time(calls[key] for key in chosen)) if one.steps]
        if not found:
            continue
        found[-1].lines.extend(spans[key].line for key in keys if key not in unread)
        errors = sum(failed[trace] for trace in {trace for trace, _ in keys})
        for thread in found:
            extra = {"evaluations_failed": errors} if errors else {}
            yield from attempt(thread.all_lines, thread.record, thread.calls[-1].id, extra)
        for key in keys:
            if key not in unread:  # what is said of a call that cannot be read is about no other
                targets.setdefault(key, found[-1].target)
    by_response = {str(spans[key].attributes.get("gen_ai.response.id")): key for key in calls}
    unit = shares(_value(one) for one in evaluations if SCORE + "value" in one.attributes)
    for event in evaluations:
        if "error.type" in event.attributes:
            continue
        key = (event.trace, event.span)
        if key not in targets:
            key = by_response.get(str(event.attributes.get("gen_ai.response.id", "")), key)
        if key in targets:
            lines = (event.line, *targets[key].lines)
            yield from attempt(lines, _evaluation, event, targets[key], unit)
        else:
            yield unresolved(event.line, f"the judged span {event.span!r} is no call in this file")


def _groups(spans: dict[Key, Span]) -> dict[str, list[Key]]:
    """Spans by conversation; by trace where none is named."""
    named = {
        span.trace: str(span.attributes["gen_ai.conversation.id"])
        for span in reversed(spans.values())
        if "gen_ai.conversation.id" in span.attributes
    }
    groups: dict[str, list[Key]] = defaultdict(list)
    for key, span in spans.items():
        own = span.attributes.get("gen_ai.conversation.id")
        groups[str(own or named.get(span.trace, span.trace))].append(key)
    return groups


def _is_agent(span: Span) -> bool:
    return str(span.attributes.get("gen_ai.operation.name")) in AGENTS


def _call(span: Span) -> Call | None:
    """A span as a call of a model; None where it is none, or its messages were not captured."""
    given = dict(span.attributes)
    for event in span.events:
        given |= event.attributes if event.name == DETAILS else {}
    asked = [*_system(given.get("gen_ai.system_instructions"))]
    asked += [turn for one in _list(given.get("gen_ai.input.messages")) for turn in _turns(one)]
    answers = [(_turns(one), one) for one in _list(given.get("gen_ai.output.messages"))]
    for event in span.events:
        if event.name in OLD:
            asked.append(_old_turn(event.attributes, OLD[event.name]))
        elif event.name == CHOICE:
            inner = _body(event.attributes)
            answers.append(((_old_turn(inner, "assistant"),), event.attributes))
    if not asked or not (answers or span.is_error):
        return None
    reasons = given.get("gen_ai.response.finish_reasons") or [None]
    stop = answers[0][1].get("finish_reason") or reasons[0] if answers else None
    lines = (span.line, *(event.line for event in span.events))
    extra = {"choices_left_out": len(answers) - 1} if len(answers) > 1 else {}
    return Call(
        lines=tuple(dict.fromkeys(lines)),
        id=span.id,
        asked=tuple(asked),
        answered=answers[0][0] if answers else (),
        at=span.at,
        model=given.get("gen_ai.response.model") or given.get("gen_ai.request.model"),
        stop="error" if span.is_error else stop,
        tools=without_nulls(decoded(given.get("gen_ai.tool.definitions"))),
        extra=extra,
    )


def _list(value: Any) -> list[Any]:
    value = decoded(value) or []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise RecordError("the messages of a span must be a list of objects")
    return value


def _system(value: Any) -> Conversation:
    return _turns({"role": "system", "parts": parts}) if (parts := _list(value)) else ()


def _turns(given: dict[str, Any]) -> Conversation:
    """A message in parts; every answer of a tool in it is a turn of its own."""
    if "parts" not in given:
        return (message(given),)
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    answers: list[Message] = []
    for part in given["parts"]:
        kind = part.get("type")
        if kind == "text":
            texts.append(part["content"])
        elif kind == "tool_call":
            calls.append({key: part.get(key) for key in ("name", "arguments", "id")})
        elif kind == "tool_call_response":
            said = part.get("response", part.get("result"))
            said = said if isinstance(said, str) else as_text(said)
            answers.append(
                message({"role": "tool", "content": said, "tool_call_id": part.get("id")})
            )
        elif kind != "reasoning":  # which a model does not see again
            raise RecordError(f"a part of the type {kind!r} is not taken in")
    turn = message({"role": given["role"], "content": "".join(texts), "tool_calls": calls})
    return (turn, *answers) if texts or calls or not answers else tuple(answers)


def _body(given: dict[str, Any]) -> dict[str, Any]:
    """What an event of one message holds: in its body, or in an attribute as JSON."""
    inner = decoded(given.get("gen_ai.event.content"))
    given = inner if isinstance(inner, dict) else given
    inner = decoded(given.get("message"))
    if isinstance(inner, str):
        return {"content": inner, **given}
    return inner if isinstance(inner, dict) else given


def _old_turn(given: dict[str, Any], role: str) -> Message:
    body = _body(given)
    calls = decoded(body.get("tool_calls"))
    turn = {"role": body.get("role", role), "content": body.get("content"), "tool_calls": calls}
    return message(turn | ({"tool_call_id": body.get("id")} if role == "tool" else {}))


def _value(event: Event) -> tuple[str, Any]:
    given = event.attributes
    return str(given.get("gen_ai.evaluation.name")), given.get(SCORE + "value")


def _evaluation(event: Event, target: Target, on_unit_scale: set[str]) -> Record:
    given = event.attributes
    name = given.get("gen_ai.evaluation.name")
    if not isinstance(name, str):
        raise RecordError("an evaluation needs a name")
    ours = {k.removeprefix(FEEDBACK): v for k, v in given.items() if k.startswith(FEEDBACK)}
    kind = str(ours.get("author_kind", "unknown"))
    kind = AUTHORS.get(kind, kind)
    label, why = given.get(SCORE + "label"), given.get("gen_ai.evaluation.explanation")
    metadata = {"label": label, "rationale": why, "presented_order": ours.get("presented_order")}
    metadata |= {"min": ours.get("min"), "max": ours.get("max")}
    said = Said(
        {
            "annotator_id": account("otel", ours.get("author"), kind),
            "annotator_kind": kind,
            "guideline_version": ours.get("rubric_version"),
            "occurred_at": event.at,
        },
        without_nulls(metadata),
    )
    value = given.get(SCORE + "value")
    if value is not None:
        return rating(target, name, number(value), said, on_unit_scale)
    if not (why or label):
        raise RecordError("an evaluation holds neither a value, a label nor an explanation")
    return critique(target, name, str(why or label), said)
