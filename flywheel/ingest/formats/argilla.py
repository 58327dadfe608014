"""Argilla's flat records: fields, and for each question parallel lists of answers, users, status.

Only answers with the status `submitted` are labels; drafts and discarded ones are counted, and so
are suggestions, which are a model's. A label that names a side or a tie is a comparison, a list
of ranks a ranking, a number a rating on the scale that the row names as rating_min and rating_max
(Argilla does not export it), a plain yes or no a rubric score, text a critique, or a correction
if the question is named so. Nested records have no status, so that drafts would pass for labels:
they are refused.
Source: argilla-io/argilla, argilla/src/argilla/records/_io/_generic.py.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from flywheel.errors import RecordError
from flywheel.ingest.formats.fields import Judged, judged
from flywheel.ingest.formats.label_studio import CORRECTIONS
from flywheel.ingest.formats.labels import Labels, account, mark, rubric_weight, scale
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
            found.append(
                _record(
                    question,
                    answer,
                    shown,
                    value,
                    prompt=shown.prompt,
                    id=f"{name}/{question}" if name else None,
                    annotator_id=account("argilla", who),
                    annotator_kind="unknown" if who is None else "person",
                    metadata={"question": question},
                )
            )
    return Labels(found, skipped)


def _record(
    question: str, answer: Any, shown: Judged, row: dict[str, Any], **common: Any
) -> Record:
    if isinstance(answer, str) and (choice := shown.choice(answer)):
        sides = dict(zip(("response_a", "response_b"), shown.responses.values(), strict=True))
        return Comparison(choice=choice, **sides, **common)  # type: ignore[arg-type]
    if (
        isinstance(answer, list)
        and answer
        and all(isinstance(x, dict) and "rank" in x for x in answer)
    ):
        responses = tuple(one_turn(row[one["value"]], "assistant") for one in answer)
        return Ranking(responses=responses, ranks=tuple(x["rank"] for x in answer), **common)
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        return Rating(response=shown.one(), **scale(answer, row), **common)
    if (score := mark(answer)) is not None:
        weight = rubric_weight(question)
        return RubricScore(
            response=shown.one(), criterion=question, score=score, weight=weight, **common
        )
    if not isinstance(answer, str):
        raise RecordError(f"no kind of record can hold the answer {answer!r} to {question!r}")
    if any(part in question.lower() for part in CORRECTIONS):
        response = one_turn(answer, "assistant")
        return Demonstration(response=response, **common)
    return Critique(response=shown.one(), critique=answer, **common)
