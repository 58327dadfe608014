"""Frozen datasets as elements to train on: rendered rows, prompts with their pairs, rated steps.

What does not fit is counted under a reason and printed, never left out in silence.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from flywheel.datasets.manifest import read_split
from flywheel.datasets.render import Rendered, render
from flywheel.datasets.tools import ToolTokenizers
from flywheel.errors import TrainingError
from flywheel.records.message import Conversation, load

E = TypeVar("E")
OUTCOMES = {"passed": 1.0, "failed": 0.0}


@dataclass(frozen=True, slots=True)
class Row:
    """One response to imitate."""

    text: Rendered
    weight: float
    record_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """Places of two responses and the probability that the first is better."""

    a: int
    b: int
    probability: float
    weight: float


@dataclass(frozen=True, slots=True)
class Group:
    """A prompt's responses, each once, and every pair among them that was judged.

    Attributes:
        share: What it counts for: the weights of its pairs together. A comparison is 1; a ranking
            of K, whose pairs weigh 1 / (K - 1), is K / 2.
    """

    texts: list[Rendered]
    pairs: list[Pair]
    record_uids: tuple[str, ...]
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Steps:
    """A trajectory and how good some of its steps are, each told at the end of its turn.

    Attributes:
        places: Tokens of `text` at which steps end.
        labels: Of each, from 0 to 1.
        weights: Of each.
    """

    text: Rendered
    places: list[int] = field(default_factory=list)
    labels: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    record_uids: list[str] = field(default_factory=list)


class Reader:
    """Renders the rows of a dataset for one model, and counts what it drops."""

    def __init__(
        self, dataset: str, tokenizer: Any, stop_ids: Sequence[int], max_tokens: int
    ) -> None:
        self.dataset = Path(dataset)
        self.dropped: Counter[str] = Counter()
        self._tokenizers, self._stop_ids = ToolTokenizers(tokenizer), stop_ids
        self._max_tokens = max_tokens
        self._rendered: dict[tuple[str, str | None, str], Rendered | None] = {}

    def counts(self) -> dict[str, Any]:
        """What the run's result says of the splits read: rows `dropped` by reason, the
        `truncated_count` of distinct texts whose prompt was cut to fit, and the
        `tools_untold_count` of rows whose tools the chat template does not write."""
        cut = sum(text is not None and text.is_truncated for text in self._rendered.values())
        untold = self._tokenizers.untold_count
        told = {"truncated_count": cut, "tools_untold_count": untold}
        return {"dropped": dict(self.dropped), **told}

    def demonstrations(self, split: str) -> list[Row]:
        """Rows of a demonstration dataset."""
        rows = []
        for row in self._rows(split):
            text = self._render(row, row["response"])
            if text:
                rows.append(Row(text, row["weight"], tuple(row["record_uids"])))
            else:
                self._drop(row["response"])
        return rows

    def groups(self, split: str, *, max_responses: int, with_ties: bool = True) -> list[Group]:
        """Prompts of a preference dataset; one with many responses is cut into several.

        The cuts keep as many pairs together as they can, since a response goes forward once for
        each group that it is in.
        """
        by_prompt = defaultdict(list)
        for row in self._rows(split):
            if not with_ties and row["probability_a"] == 0.5:
                self.dropped["tied pair"] += 1
            elif texts := self._both(row):
                by_prompt[row["prompt_key"]].append((row, texts))
        return [group for rows in by_prompt.values() for group in _cut(rows, max_responses)]

    def pairs(self, split: str, *, min_margin: float) -> list[Group]:
        """Pairs of a preference dataset, one group each, without those too near a coin toss."""
        groups: list[Group] = []
        for row in self._rows(split):
            if abs(row["probability_a"] - 0.5) <= min_margin:
                self.dropped["undecided pair"] += 1
                continue
            if texts := self._both(row):
                groups.append(_group([(row, texts)]))
        return groups

    def step_ratings(self, split: str) -> list[Steps]:
        """Trajectories of a step rating dataset, each with all ratings of its steps.

        A row holds the steps up to the rated one; it joins a longer row that begins with them, so
        that a trajectory goes forward once.
        """
        by_prompt = defaultdict(list)
        for row in self._rows(split):
            by_prompt[row["prompt_key"]].append((load(row["steps"]), row))
        found: list[Steps] = []
        for rows in by_prompt.values():
            longest: list[tuple[Conversation, Steps]] = []
            for steps, row in sorted(rows, key=lambda one: -len(one[0])):
                whole = next((one for turns, one in longest if turns[: len(steps)] == steps), None)
                if whole is None:
                    if (text := self._render(row, row["steps"])) is None:
                        self._drop(row["steps"])
                        continue
                    longest.append((steps, whole := Steps(text)))
                turn = sum(step.role == "assistant" for step in steps) - 1
                whole.places.append(whole.text.ends[turn])
                whole.labels.append(row["score_frac"])
                whole.weights.append(row["weight"])
                whole.record_uids.extend(row["record_uids"])
            found += [one for _, one in longest]
        return found

    def outcomes(self, split: str, weight: float) -> list[Steps]:
        """Trajectories of a trajectory dataset, every step labelled with how the whole ended.

        Only an attempt that passed or failed says anything; others are counted.
        """
        found = []
        for row in self._rows(split):
            label = OUTCOMES.get(row["outcome"])
            if label is None:
                self.dropped[f"outcome {row['outcome']}"] += 1
            elif (text := self._render(row, row["steps"])) is None:
                self._drop(row["steps"])
            else:
                places, count = list(text.ends), len(text.ends)
                weights = [weight * row["weight"]] * count
                found.append(Steps(text, places, [label] * count, weights, row["record_uids"]))
        return found

    def _both(self, row: dict[str, Any]) -> tuple[Rendered, Rendered] | None:
        """Both responses of a pair; None, and counted, where one does not render."""
        texts = []
        for side in (row["response_a"], row["response_b"]):
            text = self._render(row, side)
            if text is None:
                self._drop(side)
                return None
            texts.append(text)
        return texts[0], texts[1]

    def _rows(self, split: str) -> list[dict[str, Any]]:
        """Rows with their weight, 1 where none is given, and the tokenizer that tells of their
        tools; those of weight 0 are only counted."""
        rows = []
        for row in read_split(self.dataset, split).to_pylist():
            row["weight"] = 1.0 if row.get("weight") is None else float(row["weight"])
            if row["weight"] > 0:
                row["tokenizer"] = self._tokenizers.of(row)
                rows.append(row)
            else:
                self.dropped["weight 0"] += 1
        return rows

    def _render(self, row: dict[str, Any], response: str) -> Rendered | None:
        key = (row["prompt"], row.get("tools"), response)
        if key not in self._rendered:
            self._rendered[key] = render(
                row["tokenizer"],
                load(row["prompt"]),
                load(response),
                max_tokens=self._max_tokens,
                stop_ids=self._stop_ids,
            )
        return self._rendered[key]

    def _drop(self, response: str) -> None:
        """Count a row, once, under what is wrong with its first response that does not render."""
        speaks = any(turn.role == "assistant" for turn in load(response))
        over = f"response over {self._max_tokens} tokens"
        self.dropped[over if speaks else "response without a turn of the assistant"] += 1


Judged = tuple[dict[str, Any], tuple[Rendered, Rendered]]  # a row, its two responses


def _cut(rows: list[Judged], most: int) -> list[Group]:
    """One prompt's pairs as groups of at most `most` responses."""
    keys = [(row["response_a_key"], row["response_b_key"]) for row, _ in rows]
    return [_group([rows[place] for place in places]) for places in dense(keys, most)]


def _group(rows: list[Judged]) -> Group:
    places: dict[str, int] = {}
    texts: list[Rendered] = []
    pairs = []
    for row, both in rows:
        sides = (row["response_a_key"], row["response_b_key"])
        for key, text in zip(sides, both, strict=True):
            if key not in places:
                places[key] = len(texts)
                texts.append(text)
        a, b = (places[key] for key in sides)
        pairs.append(Pair(a, b, row["probability_a"], row["weight"]))
    uids = tuple(uid for row, _ in rows for uid in row["record_uids"])
    return Group(texts, pairs, uids, share=sum(pair.weight for pair in pairs))


def dense(edges: Sequence[tuple[str, str]], most: int) -> list[list[int]]:
    """Places of edges, each once, in groups that touch at most `most` nodes.

    Greedy: a group starts from the node with the most edges left, and takes in the one with the
    most edges into it until it is full. What was seen first wins a tie.
    """
    if len({node for edge in edges for node in edge}) <= most:
        return [list(range(len(edges)))]
    left: dict[str, dict[str, list[int]]] = defaultdict(dict)
    for place, (a, b) in enumerate(edges):
        left[a].setdefault(b, []).append(place)
        left[b].setdefault(a, []).append(place)
    groups = []
    while any(left.values()):
        inside: dict[str, None] = {}
        pull: Counter[str] = Counter()
        while len(inside) < most:
            outside = [node for node in pull if node not in inside]
            if not outside:  # begin, or begin again beside what is there
                outside = [node for node in left if left[node] and node not in inside]
                if not outside or len(inside) + 1 == most:
                    break
            node = max(outside, key=lambda one: (pull[one], len(left[one])))
            inside[node] = None
            pull.update(left[node].keys())
        taken = {p for node in inside for other in inside for p in left[node].pop(other, ())}
        groups.append(sorted(taken))
    return groups


def limited(elements: Sequence[E], limit: int, seed: int) -> Sequence[E]:
    """At most `limit` elements, chosen by the seed and kept in order; 0 takes all."""
    if not limit or len(elements) <= limit:
        return elements
    chosen = np.random.default_rng(seed).permutation(len(elements))[:limit]
    return [elements[place] for place in sorted(chosen)]


def records_of(elements: Iterable[Row | Group | Steps]) -> set[str]:
    """Landed records behind elements."""
    return {uid for one in elements for uid in one.record_uids}


def needed(rows: Sequence[Any], reader: Reader, what: str) -> Sequence[Any]:
    """Pass rows on; an empty training split is an error that says where the rows went.

    Raises:
        TrainingError: There are none.
    """
    if not rows:
        raise TrainingError(
            f"{reader.dataset} has no {what} to train on (dropped: {dict(reader.dropped) or 'none'}"
            f"); land more feedback, or raise max_tokens"
        )
    return rows
