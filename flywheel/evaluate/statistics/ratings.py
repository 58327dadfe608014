"""All checkpoints on one scale, from who answers better, over all generations.

A generation sets its own checkpoints side by side. What ties generations together is that they ask
the same prompts, and that a champion comes back: any two answers to one prompt make a comparison,
whichever evaluation they come from, as long as one grader scored both at one temperature, and is
the same in both: the weights of a model that scores, the code of a function, the version of the
set. A judge or people score no answer; what they say of two of them counts as it is, a share of it
for either side. Answers are known by the hash of the weights that gave them, so that a champion
adds to what it was as a challenger; where several answers of one checkpoint to a prompt are known,
or several comparisons of two, they share the weight of one.

Strengths are those of Bradley and Terry with Davidson's ties (`flywheel.labels.bradley_terry`), in
points as in chess: the base of the first generation has 1000, and a lead of 100 wins 64 % of what
is decided. Intervals are resampled over groups of prompts, with the base held at 1000, so that its
own is a point. Only checkpoints that comparisons connect to that base have a rating: between others
nothing is known. One that won or lost everything has a rating that a weak prior keeps finite.
"""

import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.evaluate.statistics.stats import SAME
from flywheel.labels.bradley_terry import from_counts
from flywheel.labels.charts import dot_plot
from flywheel.lake import DERIVED, ensure, read_folder, write_table
from flywheel.layout import Layout

Row = dict[str, Any]
Floats = npt.NDArray[np.float64]
Item = tuple[str | float | None, ...]
ALIKE = (  # what two answers must have in common to be compared
    "prompt_key",
    "evaluation_set",
    "evaluation_set_hash",
    "grader",
    "grader_identity",
    "temperature",
)
ANCHOR = 1000.0
POINTS = 400 / math.log(10)  # a log-odds of 1, in points
RESAMPLES = 200
ORDER = ("base", "sft", "policy", "champion")  # within a generation
NAME = "checkpoint_ratings"


def rate_checkpoints(layout: Layout) -> list[Row]:
    """Rate every checkpoint that was ever evaluated, and write `checkpoint_ratings` of the lake.

    Raises:
        LakeError: A file of outcomes is torn.
    """
    ensure(layout)
    folders = sorted(layout.evaluation("_none").parent.glob("*/outcomes"))
    rows = [row for folder in folders for row in _read(folder)]
    found = rated(rows)
    write_table(pa.Table.from_pylist(found, DERIVED[NAME]), layout.derived(NAME))
    return found


def read_ratings(layout: Layout) -> list[Row]:
    """The ratings as they were written last; none where they never were."""
    path = layout.derived(NAME)
    return [dict(one) for one in pq.read_table(path).to_pylist()] if path.exists() else []


def rating_plot(rows: list[Row]) -> str:
    """Ratings with their intervals as a picture; rows without a rating are left out."""
    points = [
        (row["name"], row["low"], row["rating"], row["high"]) for row in rows if row["is_connected"]
    ]
    ends = [one for _, low, _, high in points for one in (low, high)]
    low, high = (
        100 * round_(at / 100) for round_, at in ((math.floor, min(ends)), (math.ceil, max(ends)))
    )
    return dot_plot("Rating; the first base has 1000", points, (low, high + 100), ANCHOR)


def _read(folder: Path) -> list[Row]:
    return [dict(one) for one in read_folder(folder).to_pylist()]


def rated(outcomes: list[Row], *, resamples: int = RESAMPLES, seed: int = 0) -> list[Row]:
    """Ratings of all checkpoints that outcomes (`EVALUATION["outcomes"]`) are of, strongest first.

    Returns:
        One row a checkpoint (`DERIVED["checkpoint_ratings"]`); the rating and what belongs to it
        are None where comparisons do not connect it to the first base.
    """
    seen = _seen(outcomes)
    names = list(seen)
    place = {name: at for at, name in enumerate(names)}
    counts, pairs, prompts = _compared(outcomes, place)
    connected = _connected(len(names), pairs)
    strengths, drawn = _strengths(counts, pairs, len(names), connected, resamples, seed)
    beside = {at: {*pairs[pairs[:, 0] == at, 1], *pairs[pairs[:, 1] == at, 0]} for at in connected}
    rows = []
    for at, name in enumerate(names):
        mine = (pairs == at).any(axis=1)
        low, high = np.quantile(drawn[:, at], [0.025, 0.975])
        is_rated = at in connected
        rows.append(
            {
                "content_hash": name,
                "name": seen[name][0],
                "models": ", ".join(seen[name]),
                "first_generation": seen[name][0].split()[0],
                "is_connected": is_rated,
                "rating": ANCHOR + POINTS * float(strengths[at]) if is_rated else None,
                "low": ANCHOR + POINTS * float(low) if is_rated else None,
                "high": ANCHOR + POINTS * float(high) if is_rated else None,
                "standard_error": POINTS * float(drawn[:, at].std(ddof=1)) if is_rated else None,
                "comparison_count": round(float(counts[:, mine].sum())),
                "prompt_count": prompts[at],
                "opponent_count": len(beside.get(at, ())),
            }
        )
    return sorted(rows, key=lambda row: (row["rating"] is None, -(row["rating"] or 0.0)))


def _seen(outcomes: list[Row]) -> dict[str, list[str]]:
    """Where each checkpoint was seen, as "g0001 sft"; the first base first."""
    seen = {
        (len(row["generation"]), row["generation"], ORDER.index(row["model"]), row["content_hash"])
        for row in outcomes
    }
    found: dict[str, list[str]] = defaultdict(list)
    for _, generation, number, content in sorted(seen):
        found[content].append(f"{generation} {ORDER[number]}")
    return dict(found)


def _compared(
    outcomes: list[Row], place: dict[str, int]
) -> tuple[Floats, npt.NDArray[np.intp], list[int]]:
    """What each group of prompts says of each pair of checkpoints.

    Returns:
        (groups, P, 3) wins of the first, of the second, and ties; (P, 2) the pairs; how many
        prompts each checkpoint was compared on.
    """
    count = len(place)
    told = [row for row in outcomes if row["score"] is not None or row.get("outcome") is not None]
    if any(row["temperature"] > 0 for row in told):  # what is sampled is what is trained
        told = [row for row in told if row["temperature"] > 0]
    asked: dict[Item, list[Row]] = defaultdict(list)
    group: dict[str, str] = {}  # a prompt's, as the newest evaluation knows it
    for row in sorted(told, key=lambda row: row["evaluated_at"]):
        asked[tuple(row.get(name) for name in ALIKE)].append(row)
        group[row["prompt_key"]] = row["group_id"]
    groups = {name: at for at, name in enumerate(dict.fromkeys(group.values()))}
    first, second = np.triu_indices(count, 1)
    counts = np.zeros((len(groups), len(first), 3))
    prompts = [set[str]() for _ in place]
    for answers in asked.values():
        key = answers[0]["prompt_key"]
        won = _by_scores(answers, place) + _by_comparison(answers, place)
        counts[groups[group[key]]] += won[first, second]
        for at in np.flatnonzero(won.sum(axis=(1, 2)) > won.diagonal().sum(axis=0)):
            prompts[at].add(key)
    met = counts.sum(axis=(0, 2)) > 0
    pairs = np.stack([first[met], second[met]], axis=1)
    return counts[:, met], pairs, [len(one) for one in prompts]


def _by_scores(answers: list[Row], place: dict[str, int]) -> Floats:
    """`_outcome` of the answers that have a score."""
    scored = [row for row in answers if row["score"] is not None]
    who = np.array([place[row["content_hash"]] for row in scored], np.intp)
    return _outcome(who, np.array([row["score"] for row in scored]), len(place))


def _by_comparison(answers: list[Row], place: dict[str, int]) -> Floats:
    """(count, count, 3) shares of wins, defeats and ties, as who compares two answers says."""
    said: dict[tuple[int, int], list[list[float]]] = defaultdict(list)
    for row in answers:
        if (won := row.get("outcome")) is not None:
            mine, other = place[row["content_hash"]], place[row["against_content_hash"]]
            shares = [0.0, 0.0, 1.0] if won == 0.5 else [won, 1 - won, 0.0]
            said[mine, other].append(shares)
            said[other, mine].append([shares[1], shares[0], shares[2]])
    found = np.zeros((len(place), len(place), 3))
    for pair, told in said.items():
        found[pair] = np.mean(told, axis=0)
    return found


def _outcome(who: npt.NDArray[np.intp], scores: Floats, count: int) -> Floats:
    """(count, count, 3) shares of wins, defeats and ties; of several answers each pair alike."""
    one_hot = np.eye(count)[who] / np.bincount(who, minlength=count)[who][:, None]
    apart = scores[:, None] - scores[None, :]
    is_tie = np.abs(apart) <= SAME
    kinds = ((apart > 0) & ~is_tie, (apart < 0) & ~is_tie, is_tie)
    return np.stack([one_hot.T @ kind @ one_hot for kind in kinds], axis=-1)


def _connected(count: int, pairs: npt.NDArray[np.intp]) -> list[int]:
    """Places that comparisons lead to from the first; alone it is compared with nothing."""
    found, todo = set[int](), [0] if len(pairs) else []
    while todo:
        at = todo.pop()
        if at not in found:
            found.add(at)
            todo += pairs[pairs[:, 0] == at, 1].tolist() + pairs[pairs[:, 1] == at, 0].tolist()
    return sorted(found) if len(found) > 1 else []


def _strengths(
    counts: Floats,
    pairs: npt.NDArray[np.intp],
    count: int,
    connected: list[int],
    resamples: int,
    seed: int,
) -> tuple[Floats, Floats]:
    """(count,) strengths less the first's, and (resamples, count) with groups drawn anew."""
    place = np.zeros(count, np.intp)
    place[connected] = np.arange(len(connected))
    mine = np.isin(pairs[:, 0], connected)
    first, second = place[pairs[mine]].T
    counts = counts[:, mine]
    rng = np.random.default_rng(seed)
    found = from_counts(first, second, counts.sum(axis=0), len(connected))
    strengths, drawn = np.full(count, np.nan), np.full((resamples, count), np.nan)
    if not connected:
        return strengths, drawn
    strengths[connected] = found.strength - found.strength[0]
    flat, size = counts.reshape(len(counts), -1), len(counts)
    for number in range(resamples):
        times = np.bincount(rng.integers(size, size=size), minlength=size)
        weight = (times @ flat).reshape(-1, 3)
        again = from_counts(first, second, weight, len(connected), near=found)
        drawn[number, connected] = again.strength - again.strength[0]
    return strengths, drawn
