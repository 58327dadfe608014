"""One line of an export, the rows behind it, and what the way there loses."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from flywheel.records.message import Conversation, load
from flywheel.records.tools import load_tools

Row = dict[str, Any]  # of a frozen dataset


@dataclass(frozen=True, slots=True)
class Line:
    """What is written, and what the manifest says of it.

    Attributes:
        value: The JSON object.
        rows: The rows of the dataset that it rests on.
        beside: What the target has no place for: `p`, that the side written as chosen is better,
            or the `score_frac` that was cut. The manifest adds weights other than 1.
    """

    value: dict[str, Any]
    rows: list[Row]
    beside: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Way:
    """How one export goes.

    Attributes:
        cut_off: Share of full marks from which a rating counts as a thumb up.
        lost: Rows or parts of rows that the target cannot hold, counted by what they were.
        settings: Numbers that the values written depend on.
    """

    cut_off: float = 0.5
    generation: str = ""
    lost: Counter[str] = field(default_factory=Counter)
    settings: dict[str, Any] = field(default_factory=dict)


Writer = Callable[[Iterable[Row], Way], Iterator[Line]]


def decided(
    rows: Iterable[Row], way: Way
) -> Iterator[tuple[Row, Conversation, Conversation, Line]]:
    """Preferences that have a better side: (row, chosen, rejected, a line without its value).

    Even ones are dropped.
    """
    for row in rows:
        p = row["probability_a"]
        if p == 0.5:
            way.lost["ties_dropped"] += 1
            continue
        a, b = load(row["response_a"]), load(row["response_b"])
        chosen, rejected = (a, b) if p > 0.5 else (b, a)
        yield row, chosen, rejected, Line({}, [row], {"p": max(p, round(1 - p, 6))})


def weighty(rows: Iterable[Row], way: Way) -> Iterator[Row]:
    """Rows that train: a weight of 0 is said to train nothing, and no trainer here knows weights.

    Other weights, as that of a pair which is one of many from a ranking, go to the manifest.
    """
    for row in rows:
        weight = row.get("weight")
        way.lost["weights_only_in_manifest"] += weight not in (None, 0, 1)
        if weight == 0:
            way.lost["rows_without_weight_dropped"] += 1
        else:
            yield row


def passed(rows: Iterable[Row], way: Way) -> Iterator[Row]:
    """Trajectories to imitate: those that passed."""
    for row in rows:
        if row["outcome"] == "passed":
            yield row
        else:
            way.lost["trajectories_not_passed"] += 1


def tools(row: Row, way: Way) -> dict[str, list[dict[str, Any]]]:
    """The tools of a row, under their name; nothing where there are none, or none can be read.

    Those that are written in another shape than they came in come back as those of another prompt.
    """
    found = load_tools(row.get("tools"))
    if not found:
        return {}
    way.lost["tools_rewritten"] += found != msgspec.json.decode(row["tools"])
    return {"tools": found}


def tools_left_out(line: Line) -> int:
    """Rows of a line that had tools of which it does not tell."""
    asked = line.value.get("input")  # where OpenAI's pairs have them
    told = line.value.get("tools") or (isinstance(asked, dict) and asked.get("tools"))
    return 0 if told else sum(load_tools(row.get("tools")) != [] for row in line.rows)


def log_odds(p: float) -> float:
    """Natural; 0 where p = 0.5."""
    return math.log(p / (1 - p))
