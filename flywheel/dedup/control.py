"""Copies of evaluation prompts planted among training texts, to see that the net catches them."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from flywheel.dedup.join import similar_pairs
from flywheel.dedup.leaks import contaminated
from flywheel.dedup.overlap import EvaluationRuns, is_sought
from flywheel.dedup.sets import is_sign, words_of
from flywheel.dedup.texts import Row, open_texts

PROMPTS = pa.schema(
    [
        pa.field("text_key", pa.string()),
        pa.field("role", pa.string()),
        pa.field("is_evaluation", pa.bool_()),
        pa.field("evaluation_set", pa.string()),
    ]
)

PLANTED = 20  # evaluation prompts of each sort
LONG_WORD = 30  # letters


@dataclass(frozen=True, slots=True)
class Control:
    """How many plants were caught, of how many; anything but equality is a broken net.

    `missed` and `unprotected` are evaluation prompts, by set and key: those whose plants were not
    caught, and those that are looked for in no text though they are long. `too_short` ones are not
    looked for either, for they are common; `looked_for_whole` are those of boilerplate alone.
    """

    caught: int
    planted: int
    missed: list[str]
    unprotected: list[str]
    too_short: int
    looked_for_whole: int

    @property
    def passed(self) -> bool:
        """Whether the net is whole."""
        return self.caught == self.planted and not self.unprotected

    @property
    def problem(self) -> str | None:
        """What is not protected, and what to do; None where all is."""
        told = [
            f"{len(names)} evaluation prompts {what}: {'; '.join(names[:10])}; {remedy}"
            for names, what, remedy in (
                (self.missed, "were planted and not caught", MEND),
                (self.unprotected, "cannot be looked for inside other texts", WITHOUT),
            )
            if names
        ]
        return ". ".join(told) or None


MEND = "report it, and freeze nothing until it is mended"
WITHOUT = "their words are not told apart by spaces: take them out of their evaluation set"


def positive_control(database: Path) -> Control:
    """Plant copies of evaluation prompts among training texts and look for them.

    Plants up to 20 prompts, and 20 of those that are looked for whole, word for word as a prompt,
    nearly so, and inside a response and what a tool of a trajectory answered. All evaluation
    prompts are looked for at once, as in earnest: a rule on what they share is on trial as well.
    Where the warehouse has no evaluation prompts, two of the control's own are planted.
    """
    with open_texts(database) as texts:
        items = list(texts.items)
    for text in () if any(item["text"] for item in items) else CONTROL_PROMPTS:
        items.append(_planted("prompt", text, text, evaluation_set="control"))
    runs = EvaluationRuns([item["text"] for item in items])
    said = [place for place, item in enumerate(items) if item["text"]]
    spread = said[:: -(-len(said) // PLANTED)]
    chosen = [items[place] for place in dict.fromkeys(spread + runs.whole[:PLANTED])]
    plants = [plant for item in chosen for plant in _plants(item)]
    expected = {plant["text_key"]: plant for plant in plants}
    prompts = [row for row in (*chosen, *plants) if row["role"] == "prompt"]
    found = (column.tolist() for column in similar_pairs([row["text"] for row in prompts], 0.8))
    overlaps = runs.find([plant["text"] for plant in plants])
    contained = [(plants[one.text], items[one.item], one.span) for one in overlaps]
    columns = pa.Table.from_pylist(prompts, PROMPTS)
    for leak in contaminated(columns, list(zip(*found, strict=True)), contained):
        plant = expected.get(leak["text_key"], {})
        if (leak["kind"], leak["evaluation_prompt_key"]) == (plant.get("kind"), plant.get("item")):
            del expected[leak["text_key"]]
    unsought = [items[place] for place in runs.unsought]
    unprotected = [item for item in unsought if _is_unbroken(item["text"])]
    planted = len({plant["text_key"] for plant in plants})
    return Control(
        planted - len(expected),
        planted,
        sorted({_name(plant["item"], items) for plant in expected.values()}),
        sorted({_name(item["text_key"], items) for item in unprotected}),
        len(unsought) - len(unprotected),
        len(runs.whole),
    )


def _is_unbroken(text: str) -> bool:
    """Whether a text of few words is long all the same: its script has no spaces."""
    return any(len(word) >= LONG_WORD and not word.isascii() for word in words_of(text))


def _name(key: str, items: list[Row]) -> str:
    sets = sorted({item["evaluation_set"] for item in items if item["text_key"] == key})
    return f"{', '.join(sets)}: {key}"


def _plants(item: Row) -> list[Row]:
    """Copies of an evaluation prompt, with the kind of overlap each must be found as."""
    key, text, words = item["text_key"], item["text"], words_of(item["text"])
    plants = [_planted("prompt", key, text, kind="exact")]
    if len(set(zip(words, words[1:], words[2:], strict=False))) >= 6:  # one more leaves 6/7
        plants.append(_planted("prompt", f"near {key}", f"{text} please", kind="near"))
    if is_sought(words):
        gap = "" if is_sign(text[0]) and is_sign(text[-1]) else " "
        inside = f"You asked the following .{gap}{text}{gap}Here is what I think ."
        plants.append(_planted("response", f"inside {key}", inside, kind="contained"))
        answered = f"$ grep -rn question . ./notes.txt:7:{gap}{text}{gap}1 match"
        plants.append(_planted("trajectory", f"found {key}", answered, kind="contained"))
    return [plant | {"item": key} for plant in plants]


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
