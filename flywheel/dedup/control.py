"""Copies of evaluation prompts planted among training texts, to see that the net catches them."""

from pathlib import Path

import pyarrow as pa

from flywheel.dedup.join import similar_pairs
from flywheel.dedup.leaks import contaminated
from flywheel.dedup.overlap import LEAST_WORDS, EvaluationRuns
from flywheel.dedup.texts import Row, open_texts

PROMPTS = pa.schema(
    [
        pa.field("text_key", pa.string()),
        pa.field("role", pa.string()),
        pa.field("is_evaluation", pa.bool_()),
        pa.field("evaluation_set", pa.string()),
    ]
)


def positive_control(database: Path) -> tuple[int, int]:
    """Plant copies of evaluation prompts among training texts and look for them.

    Plants each of up to 20 prompts word for word as a prompt, nearly so, and inside a response and
    what a tool of a trajectory answered.
    Where the warehouse has no evaluation prompts, two of the control's own are planted.

    Returns:
        How many were caught, and how many were planted; anything but equality is a broken net.
    """
    with open_texts(database) as texts:
        items = [row for row in texts.items if row["text"]][:20]
    for text in () if items else CONTROL_PROMPTS:
        items.append(_planted("prompt", text, text, evaluation_set="control"))
    plants = [plant for item in items for plant in _plants(item)]
    expected = {plant["text_key"]: plant["kind"] for plant in plants}
    caught = set()
    for item in items:  # one at a time: the net is on trial, not the rule on boilerplate
        rows = [item, *plants]
        prompts = [row for row in rows if row["role"] == "prompt"]
        said = [row["text"] for row in prompts]
        found = (column.tolist() for column in similar_pairs(said, 0.8))
        overlaps = EvaluationRuns([item["text"]]).find([plant["text"] for plant in plants])
        contained = [(plants[one.text], item, one.span) for one in overlaps]
        columns = pa.Table.from_pylist(prompts, PROMPTS)
        for leak in contaminated(columns, list(zip(*found, strict=True)), contained):
            if leak["kind"] == expected[leak["text_key"]]:
                caught.add(leak["text_key"])
    return len(caught), len(expected)


def _plants(item: Row) -> list[Row]:
    """Copies of an evaluation prompt, with the kind of overlap each must be found as."""
    key, text, words = item["text_key"], item["text"], len(item["text"].split())
    plants = [_planted("prompt", key, text, kind="exact")]
    if words >= 8:  # one more word leaves a similarity of at least 6/7
        plants.append(_planted("prompt", f"near {key}", f"{text} please", kind="near"))
    if words >= LEAST_WORDS:
        inside = f"You asked the following . {text} Here is what I think ."
        plants.append(_planted("response", f"inside {key}", inside, kind="contained"))
        answered = f"$ grep -rn question . ./notes.txt:7: {text} 1 match"
        plants.append(_planted("trajectory", f"found {key}", answered, kind="contained"))
    return plants


CONTROL_PROMPTS = (
    "A train leaves the station at nine and another at ten ; when does the second one catch up ?",
    "Explain to a child of seven why the sky is blue at noon and red in the evening .",
)


def _planted(
    role: str, key: str, text: str, *, evaluation_set: str | None = None, kind: str | None = None
) -> Row:
    return {
        "text_key": key,
        "role": role,
        "text": text,
        "is_evaluation": evaluation_set is not None,
        "evaluation_set": evaluation_set,
        "kind": kind,
    }
