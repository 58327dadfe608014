"""Judgements of a logged answer, as monitoring tools keep them: a name and a number or words.

A number is a rating on the scale given beside it. Most exports give none: then a name whose
numbers in the file all lie in 0..1 is on that scale, as the tools advise, and says so in its
metadata; any other is refused, because a scale that is guessed makes wrong labels. Words are a
critique: a category is no number, and which of two is better no export says.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from flywheel.errors import RecordError
from flywheel.ingest.formats.labels import rated
from flywheel.records import Critique, Rating
from flywheel.records.message import Conversation


class Target(NamedTuple):
    """What was judged, and the lines that hold it."""

    prompt: Conversation
    response: Conversation
    lines: tuple[int, ...]


class Said(NamedTuple):
    """Fields of a judgement that do not depend on its kind, and its metadata."""

    fields: Mapping[str, Any]
    metadata: dict[str, Any]


def shares(numbers: Iterable[tuple[str, Any]]) -> set[str]:
    """The names all of whose numbers lie in 0..1."""
    inside, outside = set[str](), set[str]()
    for name, value in numbers:
        try:
            (inside if 0 <= number(value) <= 1 else outside).add(name)
        except RecordError:
            continue  # its own line is refused
    return inside - outside


def rating(
    target: Target, name: str, value: float, said: Said, on_unit_scale: Iterable[str]
) -> Rating:
    """A number about a target.

    Raises:
        RecordError: Nothing tells its scale, or it lies outside.
    """
    lowest, highest = (said.metadata.get(key) for key in ("min", "max"))
    metadata = {**rated(name), **said.metadata}
    if lowest is None or highest is None:
        if name not in on_unit_scale:
            raise RecordError(
                f"nothing tells the scale of {name!r}, and its numbers do not all lie in 0..1; "
                f"give `min` and `max` in the metadata of the score"
            )
        lowest, highest = 0.0, 1.0
        metadata["scale_assumed"] = True
    return msgspec.convert(
        {
            "prompt": target.prompt,
            "response": target.response,
            "rating": float(value),
            "rating_min": float(lowest),
            "rating_max": float(highest),
            "metadata": metadata,
            **said.fields,
        },
        Rating,
    )


def critique(target: Target, name: str, words: str, said: Said) -> Critique:
    """Words about a target."""
    return msgspec.convert(
        {
            "prompt": target.prompt,
            "response": target.response,
            "critique": words,
            "metadata": {"criterion": name, **said.metadata},
            **said.fields,
        },
        Critique,
    )


def number(value: Any) -> float:
    """A number, or the text of one.

    Raises:
        RecordError: It is neither, or not finite.
    """
    try:
        found = float(value) if isinstance(value, int | float | str) else float("nan")
    except (ValueError, OverflowError):
        found = float("nan")
    if not abs(found) < float("inf"):
        raise RecordError(f"expected a finite number, found {value!r}")
    return found
