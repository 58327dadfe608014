"""TensorZero's tables: inferences, and the feedback on them, in one file.

Rows are told apart by their columns, for a file of rows names no table. Inferences of an episode
that continue one another are a trajectory, a single one an interaction. A metric is about an
inference or an episode, whichever its configuration says: its target is looked for among both. A
later value of one metric replaces the earlier ones, which are kept in its metadata. A
demonstration is also preferred to the output it was given for. Of a datapoint the newest version
counts; one whose output was edited is a demonstration. Nobody is named but in `tags.author`.
Feedback lies in other tables than what it is about: join them to one file first.
Source: tensorzero/tensorzero 7a6159a, docs/gateway/data-model.mdx.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from flywheel.errors import RecordError
from flywheel.ingest.formats.gathered import (
    Gathered,
    Rows,
    alone,
    attempt,
    parsed,
    unlabelled,
    unresolved,
)
from flywheel.ingest.formats.labels import account
from flywheel.ingest.formats.messages import without_nulls
from flywheel.ingest.formats.scores import Said, Target, critique, number, rating, shares
from flywheel.ingest.formats.tensorzero_content import asked_of, output_of
from flywheel.ingest.formats.threads import Call, decoded, in_time, moment, threads
from flywheel.records import Comparison, Demonstration, Interaction, Record

INFERENCE = {"function_name", "variant_name", "episode_id", "input", "output"}
MODEL_INFERENCE = {"inference_id", "raw_request", "raw_response", "model_name"}
DATAPOINT = {"dataset_name", "function_name", "input", "output"}
METRIC = {"target_id", "metric_name", "value"}
COMMENT = {"target_id", "target_type", "value"}
DEMONSTRATION = {"inference_id", "value"}
HUMAN_CHECK = {"metric_name", "datapoint_id", "output", "value"}
TABLES = {  # the first whose columns are all there
    "inference": INFERENCE,
    "model_inference": MODEL_INFERENCE,
    "datapoint": DATAPOINT,
    "human_check": HUMAN_CHECK,
    "metric": METRIC,
    "comment": COMMENT,
    "demonstration": DEMONSTRATION,
}
Row = dict[str, Any]


def sniff(value: dict[str, Any]) -> float:
    """Sure of inferences; less of feedback, which has fewer columns of its own."""
    table = _table(value)
    if table in ("inference", "datapoint", "model_inference", "human_check"):
        return 1.0
    return 0.9 if table and "id" in value else 0.0


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one row as a file of its own."""
    return alone(gather, value)


def gather(rows: Rows, name: str) -> Iterator[Gathered]:
    """Read the rows of one file."""
    parts: dict[int, tuple[str, Row]] = {}
    yield from parsed(rows, _part, parts)
    tables: dict[str, dict[int, Row]] = defaultdict(dict)
    for line, (table, row) in parts.items():
        tables[table][line] = row
    calls: dict[int, Call] = {}
    yield from parsed(tables["inference"], _call, calls)
    by_id = {call.id: call for call in calls.values()}
    for line, row in tables["model_inference"].items():
        if call := by_id.get(row["inference_id"]):
            call.lines = (*call.lines, line)
            call.model = str(row["model_name"])
        else:
            yield unresolved(line, f"no inference {row['inference_id']!r} is in this file")
    targets: dict[str, Target] = {}
    episodes: dict[str, list[Call]] = defaultdict(list)
    for line, call in calls.items():
        episodes[str(parts[line][1]["episode_id"])].append(call)
    for episode, all_calls in episodes.items():
        for thread in threads(in_time(all_calls)):
            targets[episode] = thread.target
            targets |= {call.id: call.target for call in thread.calls}
            last = thread.calls[-1]
            yield from attempt(thread.all_lines, thread.record, last.id, {"episode_id": episode})
    yield from _datapoints(tables["datapoint"], targets)
    yield from _feedback(tables, targets)


def _table(row: Row) -> str | None:
    filled = {key for key, item in row.items() if item is not None and item != ""}
    return next((name for name, columns in TABLES.items() if filled >= columns), None)


def _part(line: int, given: Row) -> tuple[str, Row]:
    table = _table(given)
    if table is None:
        raise RecordError("the columns are those of no table that is read")
    row = {key: item for key, item in without_nulls(given).items() if item != ""}
    row["tags"] = dict(decoded(row.get("tags")) or {})  # a map of Parquet is a list of pairs
    return table, row


def _call(line: int, row: Row) -> Call:
    id = _id(row)
    return Call(
        lines=(line,),
        id=id,
        asked=asked_of(row.get("input")),
        answered=output_of(row.get("output")),
        at=_time(row),
        model=f"{row['function_name']}/{row['variant_name']}",
        tools=[decoded(one) for one in decoded(row.get("dynamic_tools")) or []] or None,
        extra={
            "function": row["function_name"],
            "variant": row["variant_name"],
            **({"tags": row["tags"]} if row["tags"] else {}),
        },
    )


def _datapoints(rows: dict[int, Row], targets: dict[str, Target]) -> Iterator[Gathered]:
    """The newest version of each datapoint; older ones are lines of it."""
    versions: dict[str, list[int]] = defaultdict(list)
    for line, row in rows.items():
        versions[str(row.get("id"))].append(line)
    for id, lines in versions.items():
        lines.sort(key=lambda line: (str(rows[line].get("updated_at", "")), line), reverse=True)
        row = rows[lines[0]]
        gone = [key for key in ("is_deleted", "staled_at") if row.get(key) not in (None, 0, False)]
        if gone:
            for line in lines:
                yield unlabelled(line, f"its source took it back: {gone[0]} is set")
            continue
        for one in attempt(lines, _datapoint, row):
            if not isinstance(one.found, str):
                response = one.found.response  # type: ignore[attr-defined]
                targets[id] = Target(one.found.conversation, response, one.lines)
            yield one


def _datapoint(row: Row) -> Record:
    edited = row.get("is_custom") in (True, 1)
    fields = {
        "id": _id(row),
        "prompt": asked_of(row["input"]),
        "response": output_of(row.get("output")),
        "metadata": without_nulls(
            {"dataset": row["dataset_name"], "tags": row["tags"] or None, "name": row.get("name")}
        ),
    }
    return msgspec.convert(fields, Demonstration if edited else Interaction)


def _feedback(tables: dict[str, dict[int, Row]], targets: dict[str, Target]) -> Iterator[Gathered]:
    unit = shares(
        (str(row["metric_name"]), row.get("value"))
        for table in ("metric", "human_check")
        for row in tables[table].values()
    )
    given: dict[tuple[str, ...], list[tuple[int, Row]]] = defaultdict(list)
    for line, row in tables["metric"].items():
        one = (row["target_id"], row["metric_name"], row["tags"].get("author"))
        given[tuple(map(str, one))].append((line, row))
    for (target_id, *_), several in given.items():
        several.sort(key=lambda one: (str(one[1].get("id", "")), one[0]), reverse=True)
        lines = [line for line, _ in several]
        if target := targets.get(target_id):
            versions = [row for _, row in several]
            yield from attempt((*lines, *target.lines), _rating, versions, target, unit)
        else:
            yield from (_no_target(line, target_id) for line in lines)
    for table, key in (
        ("human_check", "datapoint_id"),
        ("comment", "target_id"),
        ("demonstration", "inference_id"),
    ):
        for line, row in tables[table].items():
            target = targets.get(str(row.get(key)))
            if target is None:
                yield _no_target(line, row.get(key))
                continue
            lines = [line, *target.lines]
            if table == "human_check":
                yield from attempt(lines, _check, row, target, unit)
            elif table == "comment":
                yield from attempt(lines, _comment, row, target)
            else:
                yield from attempt(lines, _demonstration, row, target)


def _no_target(line: int, id: Any) -> Gathered:
    return unresolved(line, f"{id!r} is neither an inference, an episode nor a datapoint here")


def _rating(versions: list[Row], target: Target, unit: set[str]) -> Record:
    newest, *earlier = versions
    metadata = {"earlier": [row.get("value") for row in earlier]} if earlier else {}
    said = _said(newest, metadata)
    return rating(target, newest["metric_name"], number(newest.get("value")), said, unit)


def _check(row: Row, target: Target, unit: set[str]) -> Record:
    """What a person says of an output, to check a judge that is a model."""
    judged = target._replace(response=output_of(row.get("output")))
    said = _said(row, {"checks": row.get("evaluator_inference_id")})
    said = Said({**said.fields, "annotator_kind": "person"}, said.metadata)
    return rating(judged, row["metric_name"], number(row.get("value")), said, unit)


def _comment(row: Row, target: Target) -> Record:
    return critique(target, "comment", row.get("value", ""), _said(row, {}))


def _demonstration(row: Row, target: Target) -> list[Record]:
    """A better output, and that it was better than the one it was given for."""
    response = output_of(row.get("value"))
    found = [_made(row, Demonstration, prompt=target.prompt, response=response)]
    if response != target.response:
        sides = {"response_a": response, "response_b": target.response, "choice": "a"}
        found.append(_made(row, Comparison, prompt=target.prompt, **sides))
    return found


def _made(row: Row, kind: type[Record], **fields: Any) -> Record:
    said = _said(row, {})
    return msgspec.convert({**fields, **said.fields, "metadata": said.metadata}, kind)


def _said(row: Row, metadata: dict[str, Any]) -> Said:
    tags = dict(row["tags"])
    who = account("tensorzero", tags.pop("author", None))
    fields = {"id": _id(row), "annotator_id": who, "occurred_at": _time(row)}
    return Said(fields, without_nulls({**metadata, "tags": tags or None}))


def _id(row: Row) -> str:
    id = row.get("id", row.get("feedback_id"))
    if not isinstance(id, str):
        raise RecordError(f"id must be a text, found {id!r}")
    return id


def _time(row: Row) -> datetime | None:
    """When a row was written: its id says it (RFC 9562, version 7), or else its timestamp."""
    try:
        id = UUID(_id(row))
    except ValueError:
        return moment(row.get("timestamp"))
    if id.version != 7:
        return moment(row.get("timestamp"))
    return datetime.fromtimestamp((id.int >> 80) / 1000, UTC)
