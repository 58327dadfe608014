"""Evaluation prompts inside other texts: which stand there in one piece, and how much of others.

*Contained*: every run of `RUN_WORDS` words of the prompt stands in the text, each at its place: one
word changed makes another prompt of the same template, and no leak. Numbers count as words. Runs
that many different evaluation prompts have in common (a form letter) say nothing about any one of
them and need not be there; a prompt asked more than once is one. A prompt that has no other runs is
looked for whole. A prompt shorter than a run is one run; under `LEAST_WORDS` words it is too common
to look for, and there a sign of a script without spaces is less than a word (`sets.weigh`). What is
nearly the whole of a prompt is found by its Jaccard similarity instead (`join.py`).

*Covered*: the share of a prompt's words that lie in runs of 8 (and of 13) words which the text has
anywhere. It is shown, with the longest piece, and excludes nothing: prompts of one template cover
most of each other. Tulu 3 (arXiv 2411.15124) takes a prompt for hit above half by 8-grams.

Both come out of one pass over the texts. Runs are met by 64-bit hashes; what is contained is then
compared word by word.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flywheel.dedup import arrays
from flywheel.dedup.engine import engine
from flywheel.dedup.sets import (
    Bools,
    Floats,
    Hashes,
    Ints,
    blocks,
    distinct,
    spread,
    weigh,
    words_of,
)

RUN_WORDS = 13  # the longest of the usual 8 to 13; shorter ones meet in fixed phrases
SHORT_RUN_WORDS = 8
LEAST_WORDS = 5  # "thank you very much" is no leak
FEW_PROMPTS = 2  # a run in more prompts than this, and than a tenth of them, is boilerplate
SHOWN_FRAC = 0.5  # of a prompt's words: less is a phrase
LONGEST_SPAN = 300  # letters
LETTERS_AT_ONCE = 60_000_000  # what they meet is in memory at once


@dataclass(frozen=True, slots=True)
class Overlap:
    """Text `text` holds evaluation prompt `item`; `span` is what both share, cut to 300 letters."""

    text: int
    item: int
    span: str


@dataclass(frozen=True, slots=True)
class Cover:
    """Of all evaluation prompts, `item` is the one that text `text` covers most of."""

    text: int
    item: int
    covered_8_frac: float
    covered_13_frac: float
    span: str  # the longest piece in common, cut to 300 letters


@dataclass(frozen=True, slots=True)
class Scan:
    """What one pass over texts found, ordered by text and evaluation prompt."""

    contained: list[Overlap]
    covered: list[Cover]


def is_sought(words: Sequence[str]) -> bool:
    """Whether a prompt of these words is looked for inside other texts."""
    return weigh(words) >= LEAST_WORDS


class EvaluationRuns:
    """The runs of a set of evaluation prompts, to look for in any number of texts."""

    def __init__(self, prompts: Sequence[str]) -> None:
        same: dict[str, list[int]] = {}
        for item, prompt in enumerate(prompts):
            same.setdefault(" ".join(words_of(prompt)), []).append(item)
        self._items = list(same.values())  # that ask each text
        self._prompts = [prompts[items[0]] for items in self._items]
        sought = np.array([is_sought(text.split()) for text in same], bool)
        words, self._counts = engine().hash_words(self._prompts)
        limit = max(FEW_PROMPTS, len(self._prompts) // 10)
        self._long = _Runs(words, self._counts, RUN_WORDS, limit, sought)
        self._short = _Runs(words, self._counts, SHORT_RUN_WORDS, limit, sought)
        self._wanted = distinct(np.concatenate([self._long.hash, self._short.hash]))
        self._long_group = self._long.group_of(self._wanted)
        self._short_group = self._short.group_of(self._wanted)
        self._sizes = sorted(self._long.sizes | self._short.sizes)

    @property
    def whole(self) -> list[int]:
        """Prompts all of whose runs are boilerplate: looked for whole."""
        return self._asking(self._long.whole)

    @property
    def unsought(self) -> list[int]:
        """Prompts that are looked for in no text."""
        return self._asking(self._long.telling == 0)

    def _asking(self, chosen: Bools) -> list[int]:
        return sorted(item for text in np.flatnonzero(chosen) for item in self._items[text])

    def find(self, texts: Sequence[str]) -> list[Overlap]:
        """Return each text and evaluation prompt that it holds, ordered by both."""
        return self.scan(texts).contained

    def scan(self, texts: Sequence[str]) -> Scan:
        """Look for all runs in all texts, once."""
        found = Scan([], [])
        letters = np.array([len(text) for text in texts], np.int64)
        for block in blocks(letters, LETTERS_AT_ONCE):
            here = texts[block]
            text, place, index = engine().find_runs(here, self._sizes, self._wanted)
            long, short = (
                _Met.of(runs, text, place, group[index])
                for runs, group in (
                    (self._long, self._long_group),
                    (self._short, self._short_group),
                )
            )
            found.contained.extend(self._contained(here, long, block.start))
            found.covered.extend(self._covered(short, long, block.start))
        return found

    def _contained(self, texts: Sequence[str], met: "_Met", first: int) -> list[Overlap]:
        # runs met where the prompt would begin at the same word of the text
        order = np.lexsort((met.begin, met.item, met.text))
        met = met.take(order)
        new = _changes(met.text, met.item, met.begin)
        count = np.diff(np.append(np.flatnonzero(new), len(order)))
        whole = met.take(np.flatnonzero(new)[count == self._long.telling[met.item[new]]])
        found = {}
        for text, item, begin in zip(
            whole.text.tolist(), whole.item.tolist(), whole.begin.tolist(), strict=True
        ):
            if (text, item) not in found and self._stands(words_of(texts[text]), item, begin):
                found[text, item] = Overlap(first + text, item, self._span(item))
        overlaps = (
            Overlap(one.text, item, one.span)
            for one in found.values()
            for item in self._items[one.item]
        )
        return sorted(overlaps, key=lambda one: (one.text, one.item))

    def _stands(self, words: list[str], item: int, begin: int) -> bool:
        """Whether an item's own runs are in the text word by word, and not by hash alone."""
        own, size, starts = words_of(self._prompts[item]), *self._long.runs_of(item)
        gaps = np.flatnonzero(np.diff(starts) > size) + 1  # between runs in one piece
        first, last = np.append(0, gaps), np.append(gaps, len(starts)) - 1
        pieces = zip(starts[first].tolist(), (starts[last] + size).tolist(), strict=True)
        return all(words[begin + start : begin + end] == own[start:end] for start, end in pieces)

    def _span(self, item: int) -> str:
        size, starts = self._long.runs_of(item)
        return self._piece(item, int(starts.min()), int(starts.max()) + size)

    def _covered(self, short: "_Met", long: "_Met", first: int) -> list[Cover]:
        """The most covered prompt of each text, where it is covered enough to be shown."""
        texts, items, shares, spans = self._shares(short, self._short)
        order = np.lexsort((items, -shares, texts))
        best = order[_changes(texts[order])]
        best = best[shares[best] >= SHOWN_FRAC]
        key, wanted = long.text * len(self._prompts) + long.item, texts * len(self._prompts) + items
        long = long.take(np.flatnonzero(np.isin(key, wanted[best])))
        text, item, share, _ = self._shares(long, self._long)
        by_13 = dict(
            zip(zip(text.tolist(), item.tolist(), strict=True), share.tolist(), strict=True)
        )
        return [
            Cover(
                first + text,
                self._items[item][0],
                float(shares[one]),
                by_13.get((text, item), 0.0),
                self._piece(item, int(spans[one, 0]), int(spans[one, 1])),
            )
            for one, text, item in zip(
                best.tolist(), texts[best].tolist(), items[best].tolist(), strict=True
            )
        ]

    def _piece(self, item: int, start: int, end: int) -> str:
        return " ".join(words_of(self._prompts[item])[start:end])[:LONGEST_SPAN]

    def _shares(self, met: "_Met", runs: "_Runs") -> tuple[Ints, Ints, Floats, Ints]:
        """Text, item, share of the item's words covered, and longest piece of it, [P] each."""
        order = np.lexsort((met.start, met.item, met.text))
        met = met.take(order)
        met = met.take(np.flatnonzero(_changes(met.text, met.item, met.start)))
        new = _changes(met.text, met.item)
        size = runs.run_sizes[met.item]
        step = np.diff(met.start, prepend=0)  # from the run before of the same pair
        joins = ~new & (step <= size)  # it overlaps or touches that run
        covered = np.where(joins, step, size)
        piece = np.cumsum(~joins) - 1
        begin, length = met.start[~joins], np.bincount(piece, covered).astype(np.int64)
        pair = (np.cumsum(new) - 1)[~joins]  # of each piece
        total = np.bincount(pair, length)
        longest = np.lexsort((begin, -length, pair))
        longest = longest[_changes(pair[longest])]
        text, item = met.text[new], met.item[new]
        spans = np.stack([begin[longest], begin[longest] + length[longest]], axis=1)
        return text, item, total / self._counts[item], spans


class _Runs:
    """Runs of up to n words of evaluation prompts, without boilerplate, ordered by hash."""

    def __init__(self, words: Hashes, counts: Ints, n: int, limit: int, sought: Bools) -> None:
        self.run_sizes = np.minimum(counts, n)
        owner, start = spread(counts)
        fits = start + self.run_sizes[owner] <= counts[owner]
        fits &= sought[owner]
        self.sizes = set(self.run_sizes[sought].tolist())
        hash = np.zeros(len(words), np.uint64)
        for size in self.sizes:
            here = np.flatnonzero(fits & (self.run_sizes[owner] == size))
            hash[here] = arrays.hash_runs(words, size)[here]
        owner, start, hash = owner[fits], start[fits], hash[fits]
        order = np.argsort(hash, kind="stable")  # owners and places ascend as they were
        owner, start, hash = owner[order], start[order], hash[order]
        group = np.cumsum(_changes(hash)) - 1
        prompts = np.bincount(group, _changes(hash, owner))  # that have the run
        kept = prompts[group] <= limit if len(group) else np.zeros(0, bool)
        has, tells = (np.bincount(one, minlength=len(counts)) > 0 for one in (owner, owner[kept]))
        self.whole = has & ~tells
        kept |= self.whole[owner]
        self.item, self.start, self._all = owner[kept], start[kept], hash[kept]
        first = _changes(self._all)
        self.hash = self._all[first]
        self.begin = np.append(np.flatnonzero(first), len(self._all))
        self.telling = np.bincount(self.item, minlength=len(counts))
        self._by_item = np.argsort(self.item, kind="stable")
        self._item_begin = np.cumsum(self.telling) - self.telling

    def group_of(self, hash: Hashes) -> Ints:
        """Place in `self.hash` of each hash, -1 where it is none of them."""
        if not len(self.hash):
            return np.full(len(hash), -1)
        near = np.minimum(np.searchsorted(self.hash, hash), len(self.hash) - 1)
        return np.where(self.hash[near] == hash, near, -1)

    def runs_of(self, item: int) -> tuple[int, Ints]:
        """Words in a run of a prompt, and where those begin that are its own."""
        begin = self._item_begin[item]
        own = self._by_item[begin : begin + self.telling[item]]
        return int(self.run_sizes[item]), np.sort(self.start[own])


@dataclass(frozen=True, slots=True)
class _Met:
    """Runs met in texts: which text, which item, the run's place in it, where it would begin."""

    text: Ints
    item: Ints
    start: Ints
    begin: Ints

    @classmethod
    def of(cls, runs: _Runs, text: Ints, place: Ints, group: Ints) -> "_Met":
        here = np.flatnonzero(group >= 0)
        group = group[here]
        hit, step = spread(runs.begin[group + 1] - runs.begin[group])
        one = runs.begin[group][hit] + step
        start = runs.start[one]
        return cls(text[here][hit], runs.item[one], start, place[here][hit] - start)

    def take(self, chosen: Ints) -> "_Met":
        return _Met(self.text[chosen], self.item[chosen], self.start[chosen], self.begin[chosen])


def _changes(*columns: Ints | Hashes) -> np.ndarray:
    """Whether each row differs from the one before, in any column; the first one does."""
    new = np.ones(len(columns[0]), bool)
    if len(new):
        new[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return new
