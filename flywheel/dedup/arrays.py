"""The numpy version of what `kernel.py` does in C, for machines without a compiler.

Slower by a factor, equal in every result; the tests run both. Work goes through blocks, so that
memory stays flat in the corpus where it can.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from flywheel.dedup.sets import (
    BLOCK,
    SHINGLE_WORDS,
    SIGNATURE,
    SLACK,
    Counts,
    Hashes,
    Ints,
    Sets,
    blocks,
    distinct,
    spread,
    wanted_prefixes,
    words_of,
)

ALL = (1 << 64) - 1
LENGTH, CHUNK, LAST = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xBF58476D1CE4E5B9
WORDS = (0xA0761D6478BD642F, 0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3)  # factor of each of three
BASE = 0x9FB21C651E98DF25


def hash_word(word: str) -> int:
    """64-bit hash of a word."""
    letters = word.encode("utf-8", "surrogatepass")
    value = len(letters) * LENGTH & ALL
    for place in range(0, max(len(letters), 1), 8):
        value = (value ^ int.from_bytes(letters[place : place + 8], "little")) * CHUNK & ALL
        value ^= value >> 32
    return value


def shingle_sets(texts: Sequence[str]) -> Sets:
    """See `sets.shingle_sets`."""
    known: dict[str, int] = {}
    hashes: list[Hashes] = [np.zeros(0, np.uint64)]
    sizes: list[Ints] = [np.zeros(0, np.int64)]
    lengths = np.array([len(text) for text in texts], np.int64)
    for block in blocks(lengths):
        words, counts = hash_words(texts[block], known)
        heads = np.where(counts > 0, np.maximum(counts - SHINGLE_WORDS + 1, 1), 0)
        owner, place = spread(heads)
        start = (np.cumsum(counts) - counts)[owner] + place
        end = np.cumsum(counts)[owner]
        words = np.concatenate([words, np.zeros(SHINGLE_WORDS, np.uint64)])
        shingle = np.zeros(len(owner), np.uint64)
        for step, factor in enumerate(WORDS):
            word = np.where(start + step < end, words[start + step], np.uint64(0))
            shingle += word * np.uint64(factor)
        shingle = _finished(shingle)
        shingle[shingle == 0] = 1  # 0 is a free place in the kernel's tables
        order = np.lexsort((shingle, owner))
        owner, shingle = owner[order], shingle[order]
        new = np.ones(len(owner), bool)
        new[1:] = (owner[1:] != owner[:-1]) | (shingle[1:] != shingle[:-1])
        hashes.append(shingle[new])
        sizes.append(np.bincount(owner[new], minlength=len(counts)))
    start = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    return Sets(np.concatenate(hashes), start)


def hash_words(texts: Sequence[str], known: dict[str, int] | None = None) -> tuple[Hashes, Ints]:
    """See `kernel.hash_words`. `known` keeps the hashes of words for the next call."""
    known = {} if known is None else known
    lists = [words_of(text) for text in texts]
    for word in set(chain.from_iterable(lists)) - known.keys():
        known[word] = hash_word(word)
    counts = np.array([len(words) for words in lists], np.int64)
    words = chain.from_iterable(lists)
    return np.fromiter(map(known.__getitem__, words), np.uint64, int(counts.sum())), counts


def _finished(values: Hashes) -> Hashes:
    values = values ^ values >> np.uint64(32)
    values = values * np.uint64(LAST)
    return values ^ values >> np.uint64(29)


def count_texts(sets: Sets, table: Counts) -> None:
    """Add to a table of `engine.frequencies`."""
    slots = (sets.hash >> np.uint64(64 - len(table).bit_length() + 1)).astype(np.int64)
    np.minimum(table + np.bincount(slots, minlength=len(table)), 255, out=table, casting="unsafe")


def find_prefixes(sets: Sets, frequency: Counts, threshold: float, skip_unique: bool) -> Sets:
    """See `sets.prefixes`."""
    wanted = wanted_prefixes(sets.sizes, threshold)
    shift = np.uint64(64 - len(frequency).bit_length() + 1)
    hashes: list[Hashes] = [np.zeros(0, np.uint64)]
    sizes: list[Ints] = [np.zeros(0, np.int64)]
    for block in blocks(sets.sizes):
        owner, place = spread(sets.sizes[block])
        shingle = sets.hash[sets.start[block.start] : sets.start[block.stop]]
        often = frequency[(shingle >> shift).astype(np.int64)]
        order = np.lexsort((shingle, often, owner))
        kept = place < wanted[block][owner]  # owners ascend before and after
        if skip_unique:
            kept &= often[order] > 1
        hashes.append(shingle[order][kept])
        sizes.append(np.bincount(owner[kept], minlength=block.stop - block.start))
    start = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
    return Sets(np.concatenate(hashes), start)


def count_common(sets: Sets, first: Ints, second: Ints) -> Ints:
    """Number of shingles that each pair of sets has in common."""
    used = distinct(np.concatenate([first, second]))
    few = sets.take(used)
    _, number = np.unique(few.hash, return_inverse=True)
    span = int(number.max()) + 1 if len(number) else 1
    owner, _ = spread(few.sizes)
    keys = np.sort(owner * span + number)
    small, large = np.searchsorted(used, first), np.searchsorted(used, second)
    swap = few.sizes[small] > few.sizes[large]
    small, large = np.where(swap, large, small), np.where(swap, small, large)
    common = np.zeros(len(first), np.int64)
    for block in blocks(few.sizes[small]):
        pair, place = spread(few.sizes[small[block]])
        wanted = large[block][pair] * span + keys[few.start[small[block]][pair] + place] % span
        found = np.searchsorted(keys, wanted)
        found[found == len(keys)] = 0
        common[block] = np.bincount(pair[keys[found] == wanted], minlength=len(small[block]))
    return common


def join_prefixes(
    sets: Sets, prefix: Sets, bits: Hashes, threshold: float
) -> tuple[Ints, Ints, Ints]:
    """First, second and number in common of the pairs that reach `threshold`, in any order."""
    first, second = _candidates(sets, prefix, bits, threshold)
    common = count_common(sets, first, second)
    similarity = common / (sets.sizes[first] + sets.sizes[second] - common)
    good = similarity >= threshold - SLACK
    return first[good], second[good], common[good]


def _candidates(sets: Sets, prefix: Sets, bits: Hashes, threshold: float) -> tuple[Ints, Ints]:
    """Pairs that share a shingle of their prefixes and whose sizes permit the threshold."""
    owner, _ = spread(prefix.sizes)
    found: list[Ints] = [np.zeros(0, np.int64)]
    for pairs in meetings(owner, prefix.hash, sets.sizes, threshold):
        a, b = pairs // len(sets), pairs % len(sets)
        least = threshold / (1 + threshold) * (sets.sizes[a] + sets.sizes[b]) - SLACK
        found.append(pairs[_at_most(sets.sizes, bits, a, b) >= least])
        if sum(map(len, found[1:])) > max(8 * BLOCK, len(found[0])):
            found = [distinct(np.concatenate(found))]
    pairs = distinct(np.concatenate(found))
    return pairs // max(len(sets), 1), pairs % max(len(sets), 1)


def meetings(owner: Ints, shingle: Hashes, sizes: Ints, threshold: float) -> Iterator[Ints]:
    """Pairs of owners of one shingle whose sizes permit the threshold, a few at a time.

    Args:
        owner: Set of each posting, ascending within a shingle.
        shingle: Its shingle.
        sizes: Of all D sets.
        threshold: Jaccard similarity.

    Yields:
        a * D + b with a < b; each once in a yield, and in as many yields as there are meetings.
    """
    order = np.argsort(shingle, kind="stable")
    owner, shingle = owner[order], shingle[order]
    _, begin, lengths = np.unique(shingle, return_index=True, return_counts=True)
    after = np.repeat(begin + lengths, lengths) - np.arange(len(owner)) - 1  # owners still to meet
    for block in blocks(after):
        pair, step = spread(after[block])
        a = owner[block][pair]
        b = owner[block.start + pair + step + 1]
        low = np.minimum(sizes[a], sizes[b])
        fits = low >= threshold * np.maximum(sizes[a], sizes[b]) - SLACK
        yield distinct(a[fits] * len(sizes) + b[fits])


def sign_sets(sets: Sets) -> Hashes:
    """256 bits for each set, of which every shingle sets one, [D, 4]."""
    bits = np.zeros((len(sets), SIGNATURE), np.uint64)
    owner, _ = spread(sets.sizes)
    word = (sets.hash >> np.uint64(6)) % np.uint64(SIGNATURE)
    np.bitwise_or.at(bits, (owner, word), np.uint64(1) << sets.hash % np.uint64(64))
    return bits


def _at_most(sizes: Ints, bits: Hashes, a: Ints, b: Ints) -> Ints:
    """Bound the intersections from above: a bit that one set alone has is no common shingle."""
    only_a = np.bitwise_count(bits[a] & ~bits[b]).sum(axis=1, dtype=np.int64)
    only_b = np.bitwise_count(bits[b] & ~bits[a]).sum(axis=1, dtype=np.int64)
    return np.minimum(sizes[a] - only_a, sizes[b] - only_b)


def hash_runs(words: Hashes, size: int) -> Hashes:
    """64-bit hash of the `size` hashed words from each place on, as far as a whole run fits."""
    count = max(len(words) - size + 1, 0)
    result = np.zeros(count, np.uint64)
    for step in range(size):
        result = result * np.uint64(BASE) + words[step : step + count]
    return _finished(result + np.uint64(size * LENGTH & ALL))


def find_runs(
    texts: Sequence[str], sizes: Sequence[int], wanted: Hashes
) -> tuple[Ints, Ints, Ints]:
    """See `kernel.find_runs`."""
    known: dict[str, int] = {}
    order = np.argsort(wanted)
    ordered = wanted[order]
    found: list[tuple[Ints, Ints, Ints]] = []
    for block in blocks(np.array([len(text) for text in texts], np.int64)):
        words, counts = hash_words(texts[block], known)
        owner = np.repeat(np.arange(len(counts)), counts)
        ends = np.cumsum(counts)
        for size in sizes if len(wanted) else ():
            hashes = hash_runs(words, size)
            near = np.minimum(np.searchsorted(ordered, hashes), len(ordered) - 1)
            here = np.flatnonzero(ordered[near] == hashes)
            here = here[here + size <= ends[owner[here]]]
            text = owner[here]
            place = here - (ends - counts)[text]
            found.append((text + block.start, place, order[near[here]]))
    columns = zip(*found, strict=True) if found else [[np.zeros(0, np.int64)]] * 3
    text, place, index = (np.concatenate(list(column)) for column in columns)
    return text, place, index
