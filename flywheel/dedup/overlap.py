"""Evaluation prompts found inside other texts: runs of 13 equal words that cover one.

An evaluation prompt counts as contained in a text where runs of `RUN_WORDS` words that both share
cover more than half of it. Runs that many evaluation prompts have in common (a system prompt, a
form letter) say nothing about any one of them and do not count. A prompt shorter than a run must be
contained whole; under `LEAST_WORDS` words it is too common to look for.
"""

from collections import Counter, defaultdict
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
    """Text `text` holds the share `covered_frac` of evaluation prompt `item`; `span` is shared."""

    text: int
    item: int
    covered_frac: float
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
        telling: dict[int, set[int]] = defaultdict(set)
        for run, found in self._places.items():
            for item, start in found:
                telling[item].update(range(start, start + len(run)))
        self.telling_words = {item: len(words) for item, words in telling.items()}

    def find(self, texts: Sequence[str], least: float = 0.5) -> list[Overlap]:
        """Return each text and evaluation prompt of which the text holds more than `least`."""
        lists = [words_of(text) for text in texts]
        covered: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
        for text, start, size in self._hits(lists):
            run = tuple(lists[text][start : start + size])
            for item, place in self._places.get(run, ()):  # () where only the hash agreed
                covered[text, item].update(range(place, place + size))
        found = []
        for (text, item), places in sorted(covered.items()):
            share = len(places) / self.telling_words[item]
            if share > least:
                words = [self._words[item][place] for place in sorted(places)]
                found.append(Overlap(text, item, share, " ".join(words)[:300]))
        return found

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
