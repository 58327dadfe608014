"""Langfuse's blob export: observations, and the scores given to them, in one file.

Generations of a trace that continue one another are a trajectory, a single one an interaction;
other observations belong to their trace. A score is about its observation, or, where it names
none, about the whole trace. `source` ANNOTATION is a person, EVAL a model, API either: unknown.
Without the column group `score_provenance` nobody is named, so that no agreement can be told.
Categories and texts are read from `string_value`: their `value` is an index, or always 0. Latency
is not read: its unit changed in 2026. Scores lie in another folder of the export than what they
judge: join the two first (`zcat observations_v2/*.gz scores/*.gz > joined.jsonl`).
Source: langfuse.com, blob storage export fields (2026-10).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from flywheel.errors import RecordError
from flywheel.ingest.formats.gathered import Gathered, Rows, alone, attempt, parsed, unresolved
from flywheel.ingest.formats.labels import account
from flywheel.ingest.formats.messages import message, without_nulls
from flywheel.ingest.formats.scores import Said, Target, critique, number, rating, shares
from flywheel.ingest.formats.threads import (
    Call,
    Thread,
    answered_of,
    asked_of,
    decoded,
    identity,
    in_time,
    moment,
    threads,
)
from flywheel.records import Record

SCORE = {"data_type", "name", "source"}  # that are filled in each score
OBSERVATION = {"trace_id", "type", "start_time"}
KINDS = {"ANNOTATION": "person", "EVAL": "model"}
NUMBERS = {"NUMERIC", "BOOLEAN"}
WORDS = {"CATEGORICAL", "TEXT"}
PROVENANCE = ("config_id", "queue_id", "evaluation_rule_id", "execution_trace_id")


def sniff(value: dict[str, Any]) -> float:
    """Sure of both kinds of rows."""
    filled = _filled(value).keys()
    return 1.0 if filled >= OBSERVATION or (filled >= SCORE and "string_value" in value) else 0.0


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one row as a file of its own."""
    return alone(gather, value)


def gather(rows: Rows, name: str) -> Iterator[Gathered]:
    """Read the rows of one file."""
    parts: dict[int, Any] = {}
    yield from parsed(rows, _part, parts)
    traces: dict[str, list[Call]] = defaultdict(list)
    beside: dict[str, list[int]] = defaultdict(list)
    scores: dict[int, dict[str, Any]] = {}
    for line, (trace, part) in parts.items():
        if isinstance(part, Call):
            traces[trace].append(part)
        elif part:
            scores[line] = part
        else:
            beside[trace].append(line)
    targets: dict[tuple[str, str], Target] = {}
    for trace, calls in traces.items():
        found = threads(in_time(calls))
        found[-1].lines.extend(beside[trace])
        for thread in found:
            targets["trace", trace] = thread.target
            for call in thread.calls:
                targets["observation", call.id] = call.target
            yield from attempt(thread.all_lines, _thread, thread, rows)
    unit = shares(
        (str(row.get("name")), row.get("value"))
        for row in scores.values()
        if row.get("data_type") == "NUMERIC"
    )
    for line, row in scores.items():
        level = "observation" if "observation_id" in row else "trace"
        target = targets.get((level, str(row.get(f"{level}_id"))))
        if target:
            yield from attempt((line, *target.lines), _score, row, target, unit)
        else:
            found_not = f"{level} {row.get(f'{level}_id')!r} is no call of a model in this file"
            yield unresolved(line, f"{found_not}; join observations and scores to one file")


def _filled(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its nulls; an empty text stands for one."""
    return {key: item for key, item in row.items() if item is not None and item != ""}


def _part(line: int, given: dict[str, Any]) -> tuple[str, Call | dict[str, Any] | None]:
    """The trace of a row, and what it is to it: a call, a score, or nothing of its own."""
    row = _filled(given)
    if "data_type" in row:
        return "", row
    trace = identity(row, "trace_id")
    if "type" not in row:
        raise RecordError("neither an observation, which has a type, nor a score")
    return trace, _call(line, row) if row["type"] == "GENERATION" else None


def _call(line: int, row: dict[str, Any]) -> Call:
    failed = row.get("level") == "ERROR"
    answered = () if failed and "output" not in row else answered_of(row.get("output"))
    calls = [decoded(one) for one in decoded(row.get("tool_calls")) or []]
    if calls and answered and not any(turn.tool_calls for turn in answered):
        last = answered[-1]
        turn = {"role": last.role, "content": last.content, "tool_calls": calls}
        answered = (*answered[:-1], message(turn))
    return Call(
        lines=(line,),
        id=identity(row, "id"),
        asked=asked_of(row.get("input")),
        answered=answered,
        at=moment(row.get("start_time")),
        model=row.get("provided_model_name"),
        stop="error" if failed else None,
        tools=without_nulls(decoded(row.get("tool_definitions"))),
    )


def _thread(thread: Thread, rows: Rows) -> Record:
    """The record of a thread; what its last call says about its trace goes to the metadata."""
    last = thread.calls[-1]
    row = rows[last.lines[0]]
    about = ("trace_id", "environment", "session_id", "user_id", "trace_name", "release", "tags")
    return thread.record(last.id, {key: row[key] for key in about if row.get(key)})


def _score(row: dict[str, Any], target: Target, on_unit_scale: set[str]) -> Record:
    kind = row.get("data_type")
    name = row.get("name")
    if kind not in NUMBERS | WORDS or not isinstance(name, str):
        raise RecordError(
            f"a score of the type {kind!r} named {name!r} is none we know how to read"
        )
    kind_of_author = KINDS.get(str(row.get("source")), "unknown")
    author = row.get("author_user_id") or row.get("evaluator_id")
    metadata = {key: row[key] for key in PROVENANCE if key in row}
    given = decoded(row.get("metadata"))
    metadata |= given if isinstance(given, dict) else {}
    metadata |= {"rationale": row["comment"]} if "comment" in row else {}
    said = Said(
        {
            "id": identity(row, "id"),
            "annotator_id": account("langfuse", author, kind_of_author),
            "annotator_kind": kind_of_author,
            "guideline_version": metadata.pop("rubric_version", None),
            "occurred_at": moment(row.get("timestamp")),
        },
        metadata,
    )
    if kind in WORDS:
        return critique(target, name, _words(row), said)
    if kind == "BOOLEAN":
        said = said._replace(metadata={**metadata, "min": 0, "max": 1})
    return rating(target, name, number(row.get("value")), said, on_unit_scale)


def _words(row: dict[str, Any]) -> str:
    words = row.get("string_value")
    if not isinstance(words, str):
        raise RecordError("a category or a text must be in string_value: value is only its index")
    return words
