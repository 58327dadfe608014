"""Texts as sets of hashed word 3-grams.

A text is the set of its word 3-grams: lower-cased, split at white space; under three words the
whole text is its one shingle; an empty text has none. A shingle is the hash in 64 bits of its three
words. Two different shingles of one comparison have the same hash with a chance of 2^-64: in a
billion comparisons of texts of 100 shingles, even one such meeting has a chance of 1 in 2 million.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from mmap import MADV_DONTNEED, mmap
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Hashes = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

TOKENISER = "nfc-lower-split/1"
HASH = "multiply-xor-64/1"
SHINGLE_WORDS = 3
BLOCK = 2_000_000  # numbers or letters handled at once
PART = 16_000_000  # shingles of sets on disk that are in memory at once
SIGNATURE = 4  # words of 64 bits: in texts of 25 shingles they rule out 99 pairs of 100
SLACK = 1e-9  # of a float that should be whole: ceil(.8 * 10) must be 8


def words_of(text: str) -> list[str]:
    """The words two texts are compared by: case and spacing do not count."""
    return unicodedata.normalize("NFC", text).lower().split()


@dataclass(frozen=True)
class Sets:
    """Shingles of D texts: those of text d, each once, at hash[start[d] : start[d + 1]]."""

    hash: Hashes  # [S]
    start: Ints  # [D + 1]
    file: mmap | None = None  # where `hash` lies, if not in memory

    def __len__(self) -> int:
        return len(self.start) - 1

    @cached_property
    def sizes(self) -> Ints:
        """Number of shingles of each text, [D]."""
        return np.diff(self.start)

    def parts(self) -> Iterator["Sets"]:
        """The sets one run after the other; of those that lie on disk one run is in memory."""
        if self.file is None:
            yield self
            return
        for block in blocks(self.sizes, PART):
            start = self.start[block.start : block.stop + 1]
            yield Sets(self.hash[start[0] : start[-1]], start - start[0])
            self.file.madvise(MADV_DONTNEED)  # what is read again comes from the page cache

    def take(self, chosen: Ints) -> "Sets":
        """The sets of some texts, in the order asked for."""
        sizes = self.sizes[chosen]
        start = np.concatenate([[0], np.cumsum(sizes)])
        owner, place = spread(sizes)
        return Sets(self.hash[self.start[chosen][owner] + place], start)


def joined(some: Sequence[Sets]) -> Sets:
    """Sets and then others, in memory."""
    if len(some) == 1:
        return some[0]
    sizes = np.concatenate([np.zeros(1, np.int64), *(one.sizes for one in some)])
    return Sets(np.concatenate([one.hash for one in some]), np.cumsum(sizes))


def wanted_prefixes(sizes: Ints, threshold: float) -> Ints:
    """Length of the prefix of sets of these sizes."""
    length = sizes - np.ceil(threshold * sizes - SLACK).astype(np.int64) + 1
    return np.where(sizes > 0, np.minimum(length, sizes), 0)


def spread(sizes: Ints) -> tuple[Ints, Ints]:
    """Index of each list repeated by its size, and the place inside it: [2, 1] -> 001, 010."""
    index = np.repeat(np.arange(len(sizes)), sizes)
    return index, np.arange(len(index)) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def distinct(values: Any) -> Any:
    """Each value once, ascending; by sorting, which beats the hash table of `np.unique`."""
    values = np.sort(values)
    return values[np.concatenate([[True], values[1:] != values[:-1]])] if len(values) else values


def blocks(work: Ints, size: int | None = None) -> Iterator[slice]:
    """Cut a list into runs of about `size` work each (`BLOCK` if not given)."""
    done = np.cumsum(work)
    start = 0
    while start < len(work):
        base = done[start - 1] if start else 0
        stop = max(int(np.searchsorted(done, base + (size or BLOCK), side="right")), start + 1)
        yield slice(start, stop)
        start = stop
