"""What computes with sets of shingles: C where it was built, or numpy with the same results.

`kernel` and `arrays` are two modules with the same functions; `engine()` is the one to call.

The *frequency* of a shingle is a saturating count of the texts that have it, in a table by the top
bits of the hash: a rare shingle may seem common, never the other way. An order by it is total all
the same, and every total order gives the same pairs.
"""

from collections.abc import Iterable, Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path
from tempfile import TemporaryFile
from types import ModuleType

import numpy as np

from flywheel.dedup import arrays, kernel
from flywheel.dedup.sets import Counts, Hashes, Sets, joined
from flywheel.errors import LakeError

LEAST_BITS, MOST_BITS = 16, 27  # of the table of frequencies: 64 kB to 128 MB


def engine() -> ModuleType:
    """The module that computes: `kernel` where it was built and fits, or `arrays`."""
    return kernel if kernel.library() else arrays


def shingle_sets(texts: Sequence[str]) -> Sets:
    """Cut texts into their sets of shingles."""
    sets: Sets = engine().shingle_sets(texts)
    return sets


def sets_on_disk(parts: Iterable[Sequence[str]], folder: Path) -> Sets:
    """`shingle_sets` of texts of which a part is in memory at a time.

    Their hashes, 350 million of seven million responses, lie in a file in `folder` that has no
    name and goes when they go.

    Raises:
        LakeError: They cannot be written.
    """
    sizes = [np.zeros(1, np.int64)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            for texts in parts:
                sets = shingle_sets(texts)
                file.write(sets.hash.data)
                sizes.append(sets.sizes)
            start = np.cumsum(np.concatenate(sizes))
            if not start[-1]:  # an empty file cannot be mapped
                return Sets(np.empty(0, np.uint64), start)
            file.flush()
            mapped = mmap(file.fileno(), 0, access=ACCESS_READ)
    except OSError as error:
        raise LakeError(
            f"cannot write the shingles of texts in {folder}: {error.strerror}; free some space, "
            f"then run it again"
        ) from error
    return Sets(np.frombuffer(mapped, np.uint64), start, mapped)


def frequencies(sets: Sets, bits: int | None = None) -> Counts:
    """Count the texts of each shingle, up to 255, in a table of 2^bits by its top bits."""
    if bits is None:  # about a slot a shingle: larger tables save postings, but leave the cache
        bits = min(max(len(sets.hash).bit_length() - 1, LEAST_BITS), MOST_BITS)
    table = np.zeros(1 << bits, np.uint8)
    for part in sets.parts():
        engine().count_texts(part, table)
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
    found = [
        engine().find_prefixes(part, frequency, threshold, skip_unique) for part in sets.parts()
    ]
    return joined(found)


def signatures(sets: Sets) -> Hashes:
    """256 bits for each set, of which every shingle sets one, [D, 4]: how alike two sets can be."""
    found = [engine().sign_sets(part) for part in sets.parts()]
    return np.concatenate(found)
