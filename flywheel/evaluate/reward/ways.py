"""Answers along a way from the SFT policy: what people can judge, whatever else is the gold."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.evaluate.graders.graders import BY_REWARD, PAIRWISE, Asked
from flywheel.evaluate.reward.curves import Floats
from flywheel.evaluate.reward.overoptimisation import Form

FILE = "way.parquet"


def has_gold(one: Asked) -> bool:
    """Whether one answer to this prompt has a score that is not the reward model's own."""
    return one.grader not in (BY_REWARD, *PAIRWISE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One answer to each prompt at each place, the start first.

    Dimension key: P prompts, K places.

    Attributes:
        kind: "best of n", or "run".
        form: The published form of its curve.
        places: (K,) n, or steps.
        texts: (K, P) answers.
        proxy: (P, K) what the reward model says of a place.
        nats: (P, K) how far a place strays from the start.
    """

    kind: str
    form: Form
    places: list[int]
    asked: list[Asked]
    texts: list[list[str]]
    proxy: Floats
    nats: Floats


def write_ways(folder: Path, ways: list[Way]) -> list[Path]:
    """Write the answers of all places but the start beside those of the start, for the queue."""
    rows: list[dict[str, Any]] = [
        {
            "prompt_key": one.key,
            "kind": way.kind,
            "place": place,
            "response": said[at],
            "start": way.texts[0][at],
        }
        for way in ways
        for place, said in zip(way.places[1:], way.texts[1:], strict=True)
        for at, one in enumerate(way.asked)
    ]
    path = folder / FILE
    path.unlink(missing_ok=True)
    if not rows:
        return []
    pq.write_table(pa.Table.from_pylist(rows), path)
    return [path]


def alike(way: Way) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(P, K - 1) where a place says what the start says, so that nobody needs be asked."""
    start = way.texts[0]
    same = [[one == two for one, two in zip(said, start, strict=True)] for said in way.texts[1:]]
    return np.array(same, bool).T
