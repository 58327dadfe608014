r"""Questions with worked answers, as GSM8K publishes them: demonstrations.

A row that says what somebody made of the answer is refused: it may be one not to imitate.
Where the answer ends in `#### number`, the number goes to the metadata, without its commas.
Source: openai/grade-school-math.
"""

from collections.abc import Sequence
from typing import Any

from flywheel.errors import RecordError
from flywheel.ingest.formats.labels import to_imitate
from flywheel.ingest.formats.messages import without_nulls
from flywheel.records import Demonstration, Record


def sniff(value: dict[str, Any]) -> float:
    """Sure where both are text."""
    both = all(isinstance(value.get(key), str) for key in ("question", "answer"))
    return 0.9 if both else 0.0


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one row."""
    question, answer = value.get("question"), value.get("answer")
    if not isinstance(question, str) or not isinstance(answer, str):
        raise RecordError("question and answer must both be text")
    rest = without_nulls(value)
    to_imitate(rest)
    del rest["question"], rest["answer"]
    _, mark, final = answer.rpartition("####")
    if mark:
        rest["final_answer"] = final.strip().replace(",", "")
    return (Demonstration(prompt=question, response=answer, metadata=rest),)
