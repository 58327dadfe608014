"""What computes with sets of shingles: C where it was built, or numpy with the same results.

`kernel` and `arrays` are two modules with the same functions; `engine()` is the one to call.

The *frequency* of a shingle is a saturating count of the texts that have it, in a table by the top
bits of the hash: a rare shingle may seem common, never the other way. An order by it is total all
the same, and every total order gives the same pairs.
"""

from collections.abc import Iterable, Sequence
from types import ModuleType

import numpy as np

from flywheel.dedup import arrays, kernel
from flywheel.dedup.sets import Counts, Sets

LEAST_BITS, MOST_BITS = 16, 27  # of the table of frequencies: 64 kB to 128 MB


def engine() -> ModuleType:
    """The module that computes: `kernel` where it was built and fits, or `arrays`."""
    return kernel if kernel.library() else arrays


def shingle_sets(texts: Sequence[str]) -> Sets:
    """Cut texts into their sets of shingles."""
    sets: Sets = engine().shingle_sets(texts)
    return sets


def sets_in_parts(parts: Iterable[Sequence[str]]) -> Sets:
    """`shingle_sets` of texts of which a part is in memory at a time."""
    hashes, sizes, count = np.empty(0, np.uint64), [np.zeros(1, np.int64)], 0
    for texts in parts:
        sets = shingle_sets(texts)
        stop = count + len(sets.hash)
        if stop > len(hashes):  # grows in place, where a list of arrays would be copied at the end
            hashes.resize(stop + stop // 8, refcheck=False)
        hashes[count:stop] = sets.hash
        sizes.append(sets.sizes)
        count = stop
    hashes.resize(count, refcheck=False)
    return Sets(hashes, np.cumsum(np.concatenate(sizes)))


def frequencies(sets: Sets, bits: int | None = None) -> Counts:
    """Count the texts of each shingle, up to 255, in a table of 2^bits by its top bits."""
    if bits is None:  # about a slot a shingle: larger tables save postings, but leave the cache
        bits = min(max(len(sets.hash).bit_length() - 1, LEAST_BITS), MOST_BITS)
    table: Counts = engine().count_texts(sets, bits)
    return table


def prefixes(sets: Sets, frequency: Counts, threshold: float, *, skip_unique: bool) -> Sets:
    """The first n - ceil(t n) + 1 shingles of each set of n, rare ones first.

    Args:
        sets: Whose prefixes.
        frequency: What is rare: a table as `frequencies` makes it.
        threshold: The Jaccard similarity t that two sets must reach to share one of them.
        skip_unique: Leave out what one text alone has. Right where all texts are at hand, wrong in
            an index that later texts are looked up in.
    """
    found: Sets = engine().find_prefixes(sets, frequency, threshold, skip_unique)
    return found
