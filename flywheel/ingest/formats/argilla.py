"""Argilla's flat records: fields, and for each question parallel lists of answers, users, status.

Only answers with the status `submitted` are labels; drafts and discarded ones are counted, and so
are suggestions, which are a model's. A label that names a side or a tie is a comparison, a list
of ranks a ranking, a number a rating on the scale that the row names as rating_min and rating_max
(Argilla does not export it), a plain yes or no a rubric score, text a critique, or a correction
if the question is named so. Nested records have no status, so that drafts would pass for labels:
they are refused. An answer that is none of these, such as several labels at once or text about the
two sides together, goes to the metadata of what the same annotator said beside it.
Source: argilla-io/argilla, argilla/src/argilla/records/_io/_generic.py.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from flywheel.errors import RecordError
from flywheel.ingest.formats.fields import Judged, judged
from flywheel.ingest.formats.label_studio import CORRECTIONS
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
from flywheel.records import (
    Comparison,
    Critique,
    Demonstration,
    Ranking,
    Rating,
    Record,
    RubricScore,
)

ANSWERS = ".responses"


def sniff(value: dict[str, Any]) -> float:
    """Sure of the flat form; the nested one is known, to be refused with its remedy."""
    if any(key.endswith(f"{ANSWERS}.status") for key in value):
        return 1.0
    is_nested = isinstance(value.get("fields"), dict) and isinstance(value.get("responses"), dict)
    return 1.0 if is_nested else 0.0


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one record: what everybody submitted to each of its questions."""
    if isinstance(value.get("responses"), dict):
        raise RecordError(
            "nested records do not tell drafts from labels; export with to_list(flatten=True)"
        )
    value = without_nulls(value)
    questions = [key.removesuffix(ANSWERS) for key in value if key.endswith(ANSWERS)]
    skipped = Counter(prediction=sum(key.endswith(".suggestion") for key in value))
    shown = judged(value) if questions else None
    found: list[Record] = []
    unheld: list[Unheld] = []
    for question in questions:
        answers, users, status = (
            value.get(f"{question}{ANSWERS}{part}") for part in ("", ".users", ".status")
        )
        lists = [one for one in (answers, users, status) if isinstance(one, list)]
        if len(lists) < 3 or len({len(one) for one in lists}) > 1:
            raise RecordError(
                f"answers, users and status of {question!r} must be lists of one length"
            )
        for answer, who, state in zip(*lists, strict=True):
            if state != "submitted":
                skipped[str(state)] += 1
                continue
            assert shown
            name = value.get("_server_id") or value.get("id")
            author = account("argilla", who), "unknown" if who is None else "person"
            if why := _no_kind(question, answer, shown):
                unheld.append(Unheld(why, question, answer, author))
                continue
            found.append(
                _record(
                    question,
                    answer,
                    shown,
                    value,
                    prompt=shown.prompt,
                    id=f"{name}/{question}" if name else None,
                    annotator_id=author[0],
                    annotator_kind=author[1],
                    metadata={"question": question},
                )
            )
    return with_answers(found, skipped, unheld)


def _no_kind(question: str, answer: Any, shown: Judged) -> str:
    """Why no kind of record can hold an answer; empty where one can."""
    if _is_order(answer) or (isinstance(answer, str) and shown.choice(answer)):
        return ""
    if not isinstance(answer, str | int | float):
        return f"no kind of record can hold the answer {answer!r} to {question!r}"
    if shown.pair and not _is_correction(question, answer):
        return (
            f"the answer {answer!r} to {question!r} names none of the sides {shown.pair}, and no "
            f"kind of record is about both together"
        )
    return ""


def _is_order(answer: Any) -> bool:
    is_list = isinstance(answer, list) and bool(answer)
    return is_list and all(isinstance(one, dict) and "rank" in one for one in answer)


def _is_correction(question: str, answer: Any) -> bool:
    is_named_so = any(part in question.lower() for part in CORRECTIONS)
    return isinstance(answer, str) and mark(answer) is None and is_named_so


def _record(
    question: str, answer: Any, shown: Judged, row: dict[str, Any], **common: Any
) -> Record:
    if isinstance(answer, str) and (choice := shown.choice(answer)):
        sides = dict(zip(("response_a", "response_b"), shown.responses.values(), strict=True))
        return Comparison(choice=choice, **sides, **common)  # type: ignore[arg-type]
    if _is_order(answer):
        responses = tuple(one_turn(row[one["value"]], "assistant") for one in answer)
        return Ranking(responses=responses, ranks=tuple(x["rank"] for x in answer), **common)
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        common["metadata"] |= rated(question)
        return Rating(response=shown.one(), **scale(answer, row), **common)
    if (score := mark(answer)) is not None:
        weight = rubric_weight(question)
        return RubricScore(
            response=shown.one(), criterion=question, score=score, weight=weight, **common
        )
    if _is_correction(question, answer):
        response = one_turn(answer, "assistant")
        return Demonstration(response=response, **common)
    return Critique(response=shown.one(), critique=answer, **common)
