"""All pairs of texts that are similar, found exactly: no sketches, no misses, no false pairs.

A text is the set of its word 3-grams (lower-cased, split at whitespace; under three words the
whole text is its one shingle; an empty text is similar to nothing). Two texts are similar where
the Jaccard similarity of their sets reaches a threshold t.

Two similar sets of n shingles share one among the first `n - ceil(t n) + 1` of each, whatever the
order; the order by rarity keeps the lists of texts per shingle short. Candidates that meet in such
a list are counted exactly. Shingles are numbered, not hashed, so a pair is never a coincidence.

Source: the prefix filter of Bayardo et al., "Scaling up all pairs similarity search" (WWW 2007),
and Xiao et al., "Efficient similarity joins for near duplicate detection" (WWW 2008).
"""

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SHINGLE_WORDS = 3
BLOCK = 2_000_000  # numbers handled at once, 16 MB an array: memory stays flat in the corpus
WORDS_OF_BITS = 4  # 256 bits a set: in texts of 25 shingles they rule out 99 pairs of 100
SLACK = 1e-9  # of a float that should be whole: ceil(.8 * 10) must be 8


def words_of(text: str) -> list[str]:
    """The words two texts are compared by: case and spacing do not count."""
    return unicodedata.normalize("NFC", text).lower().split()


def similar_pairs(texts: Sequence[str], threshold: float) -> tuple[Ints, Ints, Floats]:
    """Find every pair of texts with Jaccard similarity of at least `threshold`.

    Returns:
        first [P], second [P] with first < second, and similarity [P], ordered by first and second.
    """
    sets = _Sets(texts)
    first, second = _candidates(sets, threshold)
    kept: list[tuple[Ints, Ints, Floats]] = []
    for block in _blocks(np.minimum(sets.sizes[first], sets.sizes[second])):
        a, b = first[block], second[block]
        common = sets.common(a, b)
        similarity = common / (sets.sizes[a] + sets.sizes[b] - common)
        good = similarity >= threshold - SLACK
        kept.append((a[good], b[good], similarity[good]))
    if not kept:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    a, b, similarity = (np.concatenate(column) for column in zip(*kept, strict=True))
    return a, b, similarity


class _Sets:
    """Shingle sets of D texts as one sorted array of text * S + shingle, rare shingles first."""

    def __init__(self, texts: Sequence[str]) -> None:
        lists = [words_of(text) for text in texts]
        owner, shingle = _shingles(lists)
        count = int(shingle.max()) + 1 if len(shingle) else 1
        pairs = _distinct(owner * count + shingle)
        owner, shingle = pairs // count, pairs % count
        frequency = np.bincount(shingle, minlength=count)
        by_rarity = np.argsort(frequency, kind="stable")
        rank = np.empty(count, np.int64)
        rank[by_rarity] = np.arange(count)
        self.span = count
        self.keys: Ints = np.sort(owner * count + rank[shingle])
        self.frequency: Ints = frequency[by_rarity]
        self.sizes: Ints = np.bincount(owner, minlength=len(lists)).astype(np.int64)
        self.starts: Ints = np.cumsum(self.sizes) - self.sizes
        self.bits = np.zeros((len(lists), WORDS_OF_BITS), np.uint64)
        bit = (rank[shingle] % (64 * WORDS_OF_BITS)).astype(np.uint64)
        np.bitwise_or.at(
            self.bits, (owner, bit // np.uint64(64)), np.uint64(1) << bit % np.uint64(64)
        )

    def at_most(self, a: Ints, b: Ints) -> Ints:
        """Bound the intersections from above: a bit that one set alone has is no common shingle."""
        only_a = np.bitwise_count(self.bits[a] & ~self.bits[b]).sum(axis=1, dtype=np.int64)
        only_b = np.bitwise_count(self.bits[b] & ~self.bits[a]).sum(axis=1, dtype=np.int64)
        return np.minimum(self.sizes[a] - only_a, self.sizes[b] - only_b)

    def common(self, a: Ints, b: Ints) -> Ints:
        """Size of the intersection of each pair of sets."""
        small = np.where(self.sizes[a] <= self.sizes[b], a, b)
        large = a + b - small
        pair, place = _spread(self.sizes[small])
        wanted = large[pair] * self.span + self.keys[self.starts[small][pair] + place] % self.span
        found = np.searchsorted(self.keys, wanted)
        found[found == len(self.keys)] = 0
        return np.bincount(pair[self.keys[found] == wanted], minlength=len(a)).astype(np.int64)


def _shingles(lists: Sequence[list[str]]) -> tuple[Ints, Ints]:
    """Text and number of each shingle. Numbers are exact: equal only for equal words."""
    numbers: dict[str, int] = {}
    sizes = np.array([len(words) for words in lists], np.int64)
    flat = np.fromiter(
        (numbers.setdefault(word, len(numbers) + 1) for word in chain.from_iterable(lists)),
        np.int64,
        int(sizes.sum()),
    )
    flat = np.concatenate([flat, np.zeros(SHINGLE_WORDS, np.int64)])
    heads = np.where(sizes > 0, np.maximum(sizes - SHINGLE_WORDS + 1, 1), 0)
    owner, place = _spread(heads)
    start = (np.cumsum(sizes) - sizes)[owner] + place
    end = np.cumsum(sizes)[owner]
    shingle = flat[start]
    for step in range(1, SHINGLE_WORDS):
        word = np.where(start + step < end, flat[start + step], 0)  # 0 fills up short texts
        _, shingle = np.unique(shingle * (len(numbers) + 1) + word, return_inverse=True)
    return owner, shingle.astype(np.int64)


def _candidates(sets: _Sets, threshold: float) -> tuple[Ints, Ints]:
    """Pairs that share a shingle of their prefixes and whose sizes permit the threshold."""
    prefix = sets.sizes - np.ceil(threshold * sets.sizes - SLACK).astype(np.int64) + 1
    owner, place = _spread(np.where(sets.sizes > 0, np.minimum(prefix, sets.sizes), 0))
    shingle = sets.keys[sets.starts[owner] + place] % sets.span
    shared = sets.frequency[shingle] > 1
    owner, shingle = owner[shared], shingle[shared]
    order = np.argsort(shingle, kind="stable")  # owners ascend within a shingle
    owner, shingle = owner[order], shingle[order]
    _, begin, lengths = np.unique(shingle, return_index=True, return_counts=True)
    after = np.repeat(begin + lengths, lengths) - np.arange(len(owner)) - 1  # owners still to meet
    count = len(sets.sizes)
    found: list[Ints] = [np.zeros(0, np.int64)]
    for block in _blocks(after):
        pair, step = _spread(after[block])
        a = owner[block][pair]
        b = owner[block.start + pair + step + 1]
        low = np.minimum(sets.sizes[a], sets.sizes[b])
        fits = low >= threshold * np.maximum(sets.sizes[a], sets.sizes[b]) - SLACK
        pairs = _distinct(a[fits] * count + b[fits])
        a, b = pairs // count, pairs % count
        least = threshold / (1 + threshold) * (sets.sizes[a] + sets.sizes[b]) - SLACK
        found.append(pairs[sets.at_most(a, b) >= least])
        if sum(map(len, found[1:])) > max(8 * BLOCK, len(found[0])):
            found = [_distinct(np.concatenate(found))]
    pairs = _distinct(np.concatenate(found))
    return pairs // max(count, 1), pairs % max(count, 1)


def _distinct(values: Ints) -> Ints:
    """Each value once, ascending; by sorting, which beats the hash table of `np.unique`."""
    values = np.sort(values)
    return values[np.concatenate([[True], values[1:] != values[:-1]])] if len(values) else values


def _spread(sizes: Ints) -> tuple[Ints, Ints]:
    """Index of each list repeated by its size, and the place inside it: [2, 1] -> 001, 010."""
    index = np.repeat(np.arange(len(sizes)), sizes)
    return index, np.arange(len(index)) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def _blocks(work: Ints) -> Iterator[slice]:
    """Cut a list into runs of about `BLOCK` work each."""
    done = np.cumsum(work)
    start = 0
    while start < len(work):
        base = done[start - 1] if start else 0
        stop = max(int(np.searchsorted(done, base + BLOCK, side="right")), start + 1)
        yield slice(start, stop)
        start = stop
