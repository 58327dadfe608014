"""Texts as sets of hashed word 3-grams.

A text is the set of its word 3-grams: lower-cased, split at white space; under three words the
whole text is its one shingle; an empty text has none. Every sign of a script without spaces is a
word. A shingle is the hash in 64 bits of its three words. Two different shingles of one comparison
have the same hash with a chance of 2^-64: in a billion comparisons of texts of 100 shingles, even
one such meeting has a chance of 1 in 2 million.
"""

import re
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

TOKENISER = "nfc-lower-split-signs/2"
HASH = "multiply-xor-64/1"
SHINGLE_WORDS = 3
BLOCK = 2_000_000  # numbers or letters handled at once
PART = 16_000_000  # shingles of sets on disk that are in memory at once
SIGNATURE = 4  # words of 64 bits: in texts of 25 shingles they rule out 99 pairs of 100
SLACK = 1e-9  # of a float that should be whole: ceil(.8 * 10) must be 8
HAN = ((0x2E80, 0x2FDF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))
SIGNS = (  # scripts without spaces: each code point is a word; no case, and lower() makes none
    *HAN,
    *((0x3001, 0x30FF), (0x31F0, 0x31FF), (0x1AFF0, 0x1B16F)),  # kana, and punctuation
    *((0xFF01, 0xFF0F), (0xFF1A, 0xFF20), (0xFF3B, 0xFF40), (0xFF5B, 0xFF9F)),  # of other width
    *((0x0E00, 0x0E7F), (0x0E80, 0x0EFF)),  # Thai, Lao
    *((0x1780, 0x17FF), (0x19E0, 0x19FF)),  # Khmer
    *((0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F)),  # Myanmar
)
HAN_WEIGHT, SIGN_WEIGHT = 0.6, 0.3  # of a word: how much a sign says


def words_of(text: str) -> list[str]:
    """The words two texts are compared by: case and spacing do not count."""
    if text.isascii():
        return text.lower().split()
    return _SIGN.sub(r" \g<0> ", unicodedata.normalize("NFC", text).lower()).split()


def weigh(words: Sequence[str]) -> float:
    """How many words of a script with spaces say as much."""
    han, signs = (len(one.findall(" ".join(words))) for one in (_HAN, _SIGN))
    return len(words) - signs * (1 - SIGN_WEIGHT) + han * (HAN_WEIGHT - SIGN_WEIGHT)


def is_sign(letter: str) -> bool:
    """Whether a code point is a word by itself."""
    return bool(_SIGN.fullmatch(letter))


_HAN, _SIGN = (
    re.compile("[" + "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges) + "]")
    for ranges in (HAN, SIGNS)
)


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
