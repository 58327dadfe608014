"""All pairs of texts that are similar, found exactly: no sketches, no misses, no false pairs.

Two texts are similar where the Jaccard similarity of their sets (`sets.py`) reaches a threshold t.
Two such sets of n shingles share one among the first `n - ceil(t n) + 1` of each, whatever the
order; the order by rarity keeps the lists of texts per shingle short. Candidates that meet in such
a list are counted exactly. Length costs nothing extra: a prefix grows with its text, but so does
the text, and what is rare in a long text is rarer still among prefixes.

Source: the prefix filter of Bayardo et al., "Scaling up all pairs similarity search" (WWW 2007),
and Xiao et al., "Efficient similarity joins for near duplicate detection" (WWW 2008).
"""

from collections.abc import Sequence

import numpy as np

from flywheel.dedup.engine import engine, frequencies, prefixes, shingle_sets, signatures
from flywheel.dedup.sets import Floats, Ints, Sets


def similar_pairs(texts: Sequence[str], threshold: float) -> tuple[Ints, Ints, Floats]:
    """Find every pair of texts with Jaccard similarity of at least `threshold`.

    Returns:
        first [P], second [P] with first < second, and similarity [P], ordered by first and second.
    """
    return similar_sets(shingle_sets(texts), threshold)


def similar_sets(sets: Sets, threshold: float) -> tuple[Ints, Ints, Floats]:
    """`similar_pairs` of texts that are sets already."""
    return meet(sets, prefixes(sets, frequencies(sets), threshold, skip_unique=True), threshold)


def meet(sets: Sets, prefix: Sets, threshold: float) -> tuple[Ints, Ints, Floats]:
    """`similar_sets` of sets whose prefixes are known already."""
    bits = signatures(sets)
    first, second, common = engine().join_prefixes(sets, prefix, bits, threshold)
    order = np.lexsort((second, first))
    first, second, common = first[order], second[order], common[order]
    return first, second, jaccard(sets.sizes[first], sets.sizes[second], common)


def jaccard(a: Ints, b: Ints, common: Ints) -> Floats:
    """Similarity of sets of a and b shingles that have `common` in common."""
    similarity: Floats = common / (a + b - common)
    return similarity
