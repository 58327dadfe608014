"""Frozen ratings as elements: single responses judged good or bad, each with a stray beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flywheel.datasets.render import Rendered, render
from flywheel.records.message import load
from flywheel.train.data import Reader


@dataclass(frozen=True, slots=True)
class Rating:
    """One response that was judged alone.

    Attributes:
        stray: Its prompt with the response to another prompt.
    """

    text: Rendered
    stray: Rendered
    is_desirable: bool
    weight: float
    record_uids: tuple[str, ...]


class RatingReader(Reader):
    """Reads a rating dataset."""

    def ratings(self, split: str, *, criterion: str, threshold: float, seed: int) -> list[Rating]:
        """Rows on one criterion, desirable where the score is above the threshold.

        A row on the threshold says neither, and is counted. The stray of a row takes the response
        of the next row in a seeded circle that answers another prompt: each response strays about
        once, and the reference can be asked about all strays before the first step.
        """
        rows = []
        for row in self._rows(split):
            if row["criterion"] != criterion:
                self.dropped["another criterion"] += 1
            elif row["score_frac"] is None or row["score_frac"] == threshold:
                self.dropped["neither desirable nor undesirable"] += 1
            elif self._render(row, row["response"]) is None:
                self._drop(row["response"])
            else:
                rows.append(row)
        prompts = [row["prompt_key"] for row in rows]
        if len(set(prompts)) < 2:
            self.dropped["no other prompt to stray to"] += len(rows)
            return []
        ratings = []
        for row, place in zip(rows, strangers(prompts, seed), strict=True):
            text = self._render(row, row["response"])
            stray = self._stray(row, rows[place]["response"])
            if text and stray:
                good, uids = row["score_frac"] > threshold, tuple(row["record_uids"])
                ratings.append(Rating(text, stray, good, row["weight"], uids))
            else:
                self._drop(rows[place]["response"])
        return ratings

    def _stray(self, row: dict[str, Any], response: str) -> Rendered | None:
        """Not kept: the counts of what was cut are of texts that somebody judged."""
        return render(
            row["tokenizer"],
            load(row["prompt"]),
            load(response),
            max_tokens=self._max_tokens,
            stop_ids=self._stop_ids,
        )


def strangers(prompts: Sequence[str], seed: int) -> list[int]:
    """For each row the place of the next with another prompt, in a seeded circle; there must be
    at least two prompts."""
    order = np.random.default_rng(seed).permutation(len(prompts)).tolist()
    found = [0] * len(prompts)
    for at, place in enumerate(order):
        circle = (order[(at + step) % len(order)] for step in range(1, len(order)))
        found[place] = next(one for one in circle if prompts[one] != prompts[place])
    return found
