"""MLflow assessments with the request and the response they are about.

A row is one assessment, or a trace of `mlflow.search_traces` with its `assessments`; an assessment
alone does not say what was judged, and is refused. Feedback that is yes or no is a rubric score, a
number is a rating on the scale its metadata name as rating_min and rating_max, an expectation is
the response to imitate, and a rationale is a critique. Feedback with an error has no value, and
that is not zero: it is counted. A person is the author of HUMAN, a model of LLM_JUDGE, a program of
CODE. An update keeps its id and has a later time. Feedback and expectations of other types go to
the metadata of what the same author said beside them.
Source: mlflow/mlflow, mlflow/protos/assessments.proto.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from flywheel.errors import RecordError
from flywheel.ingest.formats.labels import (
    Unheld,
    account,
    mark,
    rated,
    rubric_weight,
    scale,
    with_answers,
)
from flywheel.ingest.formats.messages import one_turn, without_nulls
from flywheel.records import Critique, Demonstration, Rating, Record, RubricScore
from flywheel.records.message import Conversation

AUTHORS = {"HUMAN": "person", "LLM_JUDGE": "model", "CODE": "program"}
ASKED, SAID = ("request", "inputs", "request_preview"), ("response", "outputs", "response_preview")


def sniff(value: dict[str, Any]) -> float:
    """Sure of one assessment, and of a trace that lists them."""
    listed = value.get("assessments")
    given = listed if isinstance(listed, list) and listed else [value]
    return float(
        all(
            isinstance(one, dict)
            and isinstance(one.get("assessment_name"), str)
            and isinstance(one.get("source"), dict)
            and "source_type" in one["source"]
            for one in given
        )
    )


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one assessment, or all of a trace."""
    value = without_nulls(value)
    prompt, response = _text(value, ASKED, "user"), _text(value, SAID, "assistant")
    found: list[Record] = []
    skipped: Counter[str] = Counter()
    unheld: list[Unheld] = []
    for one in value.get("assessments", [value]):
        if one.get("valid") is False:
            skipped["superseded"] += 1
        elif "error" in one or "error" in one.get("feedback", {}):
            skipped["failed"] += 1
        else:
            try:
                found += _records(one, prompt, response)
            except Unheld as error:
                unheld.append(error)
    return with_answers(found, skipped, unheld)


def _records(one: dict[str, Any], prompt: Conversation, response: Conversation) -> list[Record]:
    source, metadata = one["source"], one.get("metadata", {})
    kind = AUTHORS.get(source.get("source_type"), "unknown")
    who = source.get("source_id")
    moment = one.get("last_update_time") or one.get("create_time")
    name, id = one["assessment_name"], one.get("assessment_id")
    common: dict[str, Any] = {
        "prompt": prompt,
        "annotator_id": account("mlflow", who, kind),
        "annotator_kind": kind,
        "guideline_version": metadata.get("rubric_version"),
        "occurred_at": msgspec.convert(moment, datetime) if moment else None,
        "metadata": {"name": name, **metadata},
    }
    author = common["annotator_id"], kind
    if ("feedback" in one) == ("expectation" in one):
        raise RecordError("an assessment holds feedback or an expectation, and one of them")
    if "expectation" in one:
        wanted = one["expectation"].get("value")
        if not isinstance(wanted, str):
            why = f"an expectation must be text to be imitated, found {wanted!r}"
            raise Unheld(why, name, wanted, author)
        return [Demonstration(id=id, **common | {"response": one_turn(wanted, "assistant")})]
    common["response"] = response
    told = one["feedback"].get("value")
    if (score := mark(told)) is not None:
        weight = rubric_weight(name)
        found: list[Record] = [
            RubricScore(id=id, criterion=name, score=score, weight=weight, **common)
        ]
    elif not isinstance(told, int | float):
        raise Unheld(f"a rating must be a number, found {told!r}", name, told, author)
    else:
        rating = common | {"metadata": {**rated(name), **common["metadata"]}}
        found = [Rating(id=id, **scale(told, metadata), **rating)]
    if one.get("rationale"):
        found.append(Critique(id=id, critique=one["rationale"], **common))
    return found


def _text(value: dict[str, Any], names: tuple[str, ...], role: str) -> Conversation:
    """What was asked or said: text, messages, or JSON text of an object that holds them."""
    given = next((value[name] for name in names if name in value), None)
    if isinstance(given, str) and given[:1] in "{[":
        try:
            given = msgspec.json.decode(given)
        except msgspec.DecodeError:
            return one_turn(given, role)
    if isinstance(given, dict):
        given = (
            given.get("messages") or next(iter(given.values()), None)
            if len(given) == 1
            else given.get("messages")
        )
    if given is None:
        raise RecordError(
            f"an assessment alone does not say what was judged: give {names[0]} beside it, as "
            f"mlflow.search_traces does"
        )
    return one_turn(given, role)
