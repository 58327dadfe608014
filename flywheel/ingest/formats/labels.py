"""What readers share about labels: those that do not count, who gave them, on what scale.

An export of an annotation tool holds more than labels: cancelled annotations, drafts, guesses of
models. A reader counts these in `Labels.skipped`. A line that holds nothing else makes no record;
it is kept in quarantine as `no_label`, which is no fault and blocks no file. An answer that no kind
of record can hold is counted, and stays with what its author said beside it; alone it is refused.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flywheel.errors import RecordError
from flywheel.records import EvaluationPrompt, Record
from flywheel.records.message import Conversation

REFERENCES = ("reference", "reference_answer", "answer", "label", "solution", "ground_truth")
MARKS = {
    **dict.fromkeys(("yes", "true", "pass", "passed", "good", "correct", "up"), 1.0),
    **dict.fromkeys(("no", "false", "fail", "failed", "bad", "incorrect", "down"), 0.0),
}
JUDGED = {  # columns that say what somebody made of a response
    *("rating", "ratings", "score", "scores", "stars", "reward", "vote", "votes", "upvotes"),
    *("thumb", "thumbs", "thumbs_up", "thumbs_down", "label", "labels", "feedback"),
    *("correct", "is_correct"),
}
FAULTS = re.compile(  # criteria of which a response that has much is no better for it
    r"toxic|spam|\bhat(e|red)|violen|harm(?!less)|unsafe|sexual|pii|bias|hallucinat|error|fail|mismatch"
    r"|refus|inappropriate|\bno(t|n)?\b|length|humor"
)


class Labels(list[Record]):
    """The records of one line, and how much in it is no label, by why."""

    def __init__(self, records: Iterable[Record], skipped: Mapping[str, int]) -> None:
        super().__init__(records)
        self.skipped = Counter({why: count for why, count in skipped.items() if count})


class Unheld(RecordError):
    """An answer that no kind of record can hold; what is said beside it stands."""

    def __init__(self, why: str, question: str, answer: Any, author: tuple[Any, str]) -> None:
        super().__init__(why)
        self.question, self.answer, self.author = question, answer, author


def with_answers(
    found: Sequence[Record], skipped: Counter[str], unheld: Sequence[Unheld]
) -> Labels:
    """Labels; other answers are counted, and go to the metadata of those by the same author.

    Raises:
        Unheld: There is nothing else.
    """
    if unheld and not found:
        raise unheld[0]
    for one in unheld:
        skipped["without_kind"] += 1
        for record in found:
            if (record.annotator_id, record.annotator_kind) == one.author:
                answers = record.metadata.setdefault("answers", {})
                if isinstance(answers, dict):  # else the export has something of that name
                    answers[one.question] = one.answer
    return Labels(found, skipped)


def to_imitate(value: Mapping[str, Any]) -> None:
    """Hold a row without nulls against being read as a response to imitate.

    Raises:
        RecordError: It says what somebody made of the response, which may be nothing good.
    """
    told = (key for key, item in value.items() if item not in ("", [], {}))
    if key := next((key for key in told if key.lower() in JUDGED), None):
        raise RecordError(
            f"a row with {key!r} is judged, and no response to imitate: land the file as raw and "
            f"give it its meaning in a dbt model, or take the column out if it judges nothing"
        )


def account(system: str, who: Any, kind: str = "person") -> str | None:
    """An annotator of another tool, as an address: landing makes a pseudonym of each.

    So account 7 of two tools is two people, and no id of theirs is stored. None stays None, and
    what is a model or a program keeps its name.
    """
    if who is None or who == "":
        return None
    if kind in ("model", "program"):
        return who  # type: ignore[no-any-return]
    return who if isinstance(who, str) and "@" in who else f"{who}@{system}"


def mark(value: Any) -> float | None:
    """1 or 0 for a plain yes or no, in words or as a boolean; None for anything else."""
    if isinstance(value, bool):
        return float(value)
    return MARKS.get(value.strip().lower()) if isinstance(value, str) else None


def rubric_weight(criterion: str) -> float:
    """Weight of a criterion that an export does not explain: 0 where full marks are no praise.

    A yes to `toxic` is kept as it was said and trains nothing.
    """
    return 0.0 if FAULTS.search(criterion.lower().replace("_", " ").replace("-", " ")) else 1.0


def rated(name: str) -> dict[str, Any]:
    """What the metadata of a rating says of it: its criterion, and that a fault weighs nothing."""
    weight = rubric_weight(name)
    return {"criterion": name} | ({} if weight else {"weight": weight})


def scale(value: Any, given: Mapping[str, Any], otherwise: Any = None) -> dict[str, Any]:
    """The fields of a rating on the scale that stands beside it, or else `otherwise`.

    Raises:
        RecordError: The value is no number, or its scale is not told: 4 of 5 is not 4 of 10.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RecordError(f"a rating must be a number, found {value!r}")
    ends: list[Any] = [given.get("rating_min"), given.get("rating_max")]
    if otherwise and ends == [None, None]:
        ends = list(otherwise)
    try:
        lowest, highest = (float(end) for end in ends)
    except (TypeError, ValueError):
        raise RecordError(
            f"the scale of the rating {value} is not in the export; give the row rating_min and "
            f"rating_max"
        ) from None
    return {"rating": float(value), "rating_min": lowest, "rating_max": highest}


def task(prompt: Conversation, rest: dict[str, Any], evaluation_set: str) -> EvaluationPrompt:
    """A prompt that comes with what grades a response to it, and with no response.

    It is held out: a task whose right answer is known tests a model best, and no row to train on
    may overlap it. Its data for graders go to the metadata.
    """
    name = next((name for name in REFERENCES if isinstance(rest.get(name), str | int | float)), "")
    reference = str(rest[name]) if name else None
    grader = "reward_model" if reference is None else "exact"
    if reference is not None and _is_number(reference):
        grader = "numeric_answer"
    return EvaluationPrompt(
        prompt=prompt,
        evaluation_set=evaluation_set,
        grader=grader,
        reference=reference,
        metadata={key: item for key, item in rest.items() if key != name},
    )


def _is_number(text: str) -> bool:
    return text.strip().removeprefix("-").replace(",", "").replace(".", "", 1).isdecimal()
