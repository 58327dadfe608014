"""Evaluation prompts found inside other texts: all of their runs of 13 words, in one piece.

An evaluation prompt counts as contained in a text where every run of `RUN_WORDS` words of it stands
there, each at its place: one word changed makes another prompt of the same template, and no leak.
Runs that many evaluation prompts have in common (a system prompt, a form letter) say nothing about
any one of them and need not be there. A prompt shorter than a run is one run; under `LEAST_WORDS`
words it is too common to look for. What is nearly the whole of a prompt is found by its Jaccard
similarity instead (`join.py`); a part quoted in a longer text is not found.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from flywheel.dedup.join import words_of

RUN_WORDS = 13  # the longest of the usual 8 to 13; shorter ones meet in fixed phrases
LEAST_WORDS = 5  # "thank you very much" is no leak
FEW_PROMPTS = 2  # a run in more prompts than this, and than a tenth of them, is boilerplate


@dataclass(frozen=True, slots=True)
class Overlap:
    """Text `text` holds evaluation prompt `item`; `span` is what both share, cut to 300 letters."""

    text: int
    item: int
    span: str


class EvaluationRuns:
    """The runs of a set of evaluation prompts, to look for in any number of texts."""

    def __init__(self, prompts: Sequence[str]) -> None:
        self._words = [words_of(prompt) for prompt in prompts]
        places: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
        for item, words in enumerate(self._words):
            size = min(RUN_WORDS, len(words))
            for start in range(len(words) - size + 1 if size >= LEAST_WORDS else 0):
                places[tuple(words[start : start + size])].append((item, start))
        limit = max(FEW_PROMPTS, len(prompts) // 10)
        self._places = {
            run: found for run, found in places.items() if len({i for i, _ in found}) <= limit
        }
        self._telling: dict[int, set[int]] = defaultdict(set)  # where an item's own runs begin
        for found in self._places.values():
            for item, start in found:
                self._telling[item].add(start)

    def find(self, texts: Sequence[str]) -> list[Overlap]:
        """Return each text and evaluation prompt that it holds, ordered by both."""
        lists = [words_of(text) for text in texts]
        # runs met where the prompt would begin at the same word of the text
        met: dict[tuple[int, int, int], set[int]] = defaultdict(set)
        for text, start, size in self._hits(lists):
            run = tuple(lists[text][start : start + size])
            for item, place in self._places.get(run, ()):  # () where only the hash agreed
                met[text, item, start - place].add(place)
        whole = {
            (text, item) for (text, item, _), places in met.items() if places == self._telling[item]
        }
        return [Overlap(text, item, self._span(item)) for text, item in sorted(whole)]

    def _span(self, item: int) -> str:
        words, first = self._words[item], min(self._telling[item])
        return " ".join(words[first : max(self._telling[item]) + RUN_WORDS])[:300]

    def _hits(self, lists: Sequence[list[str]]) -> list[tuple[int, int, int]]:
        """Text, start and size of runs whose hash is that of an evaluation run."""
        numbers: dict[str, int] = {}
        flat = np.fromiter(
            (numbers.setdefault(word, len(numbers)) for word in chain.from_iterable(lists)),
            np.int64,
            sum(map(len, lists)),
        )
        ends = np.cumsum([len(words) for words in lists])
        owner = np.repeat(np.arange(len(lists)), [len(words) for words in lists])
        known: dict[int, list[list[int]]] = defaultdict(list)
        for run in self._places:
            if all(word in numbers for word in run):
                known[len(run)].append([numbers[word] for word in run])
        hits = []
        for size, runs in known.items():
            wanted = np.unique(_hash_runs(np.array(runs, np.int64).ravel(), size)[::size])
            here = np.flatnonzero(np.isin(_hash_runs(flat, size), wanted))
            whole = here[here + size <= ends[owner[here]]]
            for place in whole.tolist():
                text = int(owner[place])
                hits.append((text, place - int(ends[text]) + len(lists[text]), size))
        return hits


def _hash_runs(numbers: npt.NDArray[np.int64], size: int) -> npt.NDArray[np.uint64]:
    """64-bit hash of the `size` numbers from each place on, as far as a whole run fits."""
    count = max(len(numbers) - size + 1, 0)
    result = np.zeros(count, np.uint64)
    mixed = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    for step in range(size):
        result = result * np.uint64(0xBF58476D1CE4E5B9) + mixed[step : step + count]
    return result
