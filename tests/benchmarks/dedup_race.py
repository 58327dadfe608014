"""One tool's way from texts in memory to near-duplicate pairs, measured in a process of its own.

`python -m tests.benchmarks.dedup_race TOOL TEXTS OUT` reads a pickled list of texts, writes the
pairs to OUT as .npz and prints JSON: CPU seconds of all threads and children, peak memory, version.

The peers are given what flatters them: texts that are lower case with single spaces already, 128
permutations, 16 bands of 8 rows (of a pair at .8, 95 % become candidates), and pairs kept where the
estimated similarity reaches the threshold, as their users do.
"""

import json
import pickle
import re
import resource
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np

THRESHOLD = 0.8
PERMUTATIONS, BANDS, ROWS = 128, 16, 8
ROUNDED = round(THRESHOLD * PERMUTATIONS) / PERMUTATIONS  # in the peers' favour: 102 of 128
Pairs = tuple[np.ndarray, np.ndarray]


def flywheel(texts: list[str]) -> Pairs:
    """Our join, with whatever kernel is built."""
    from flywheel.dedup.join import similar_pairs

    first, second, _ = similar_pairs(texts, THRESHOLD)
    return first, second


def flywheel_numpy(texts: list[str]) -> Pairs:
    """Our join without the kernel."""
    from flywheel.dedup import kernel

    kernel.library = lambda: None
    return flywheel(texts)


def daft(texts: list[str]) -> Pairs:
    """Daft's `minhash` (in Rust), bands and estimate in numpy."""
    return estimated(_daft_signatures(texts), bands=BANDS, rows=ROWS)


def truth(texts: list[str]) -> Pairs:
    """Candidates of 32 bands of 4 rows: of pairs at .8, one in 20 million is missed."""
    return estimated(_daft_signatures(texts), bands=32, rows=4, least=0.0)


def rensa(texts: list[str]) -> Pairs:
    """rensa: tokens in Python, sketches, bands and estimate in Rust."""
    from rensa import RMinHash, RMinHashLSH

    sketches = RMinHash.from_token_sets([shingles(text) for text in texts], PERMUTATIONS, 42)
    index = RMinHashLSH(THRESHOLD, PERMUTATIONS, BANDS)
    index.insert_many(sketches)
    met = (
        (other, key)
        for key, found in enumerate(index.query_all(sketches))
        for other in found
        if other < key and sketches[other].jaccard(sketches[key]) >= ROUNDED
    )
    return columns(met)


def datasketch(texts: list[str]) -> Pairs:
    """datasketch: MinHash and LSH in numpy and Python."""
    from datasketch import MinHash, MinHashLSH

    sketched = MinHash.generator(
        ([one.encode() for one in shingles(text)] for text in texts), num_perm=PERMUTATIONS
    )
    index = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, ROWS))
    kept: list[MinHash] = []
    met = []
    for key, sketch in enumerate(sketched):
        met += [(o, key) for o in index.query(sketch) if kept[o].jaccard(sketch) >= ROUNDED]
        index.insert(key, sketch, check_duplication=False)
        kept.append(sketch)
    return columns(met)


def text_dedup(texts: list[str]) -> Pairs:
    """text-dedup: its `embed_func`, then its buckets; candidates, which it does not estimate."""
    from text_dedup.minhash import RNG, embed_func, xxh3_32hash

    prime, largest = np.uint64((1 << 61) - 1), np.uint32((1 << 32) - 1)
    permutations = tuple(
        RNG.randint(low, prime, size=PERMUTATIONS, dtype=np.uint64) for low in (1, 0)
    )
    ranges = [(band * ROWS, (band + 1) * ROWS) for band in range(BANDS)]
    buckets: list[dict[bytes, list[int]]] = [defaultdict(list) for _ in range(BANDS)]
    for key, text in enumerate(texts):
        made = embed_func(
            text,
            key,
            num_perm=PERMUTATIONS,
            ngram_size=3,
            min_length=0,
            hashranges=ranges,
            permutations=permutations,
            hash_func=xxh3_32hash,
            dtype=np.uint64,
            max_hash=largest,
            modulo_prime=prime,
        )
        for band, part in enumerate(made["__signatures__"]):
            buckets[band][part].append(key)
    met = {
        (a, b)
        for bucket in buckets
        for keys in bucket.values()
        for place, b in enumerate(keys)
        for a in keys[:place]
    }
    return columns(sorted(met))


def shingles(text: str) -> list[str]:
    """Word 3-grams as strings, the usual way in Python."""
    words = text.split()
    return [" ".join(words[place : place + 3]) for place in range(max(len(words) - 2, 1))]


def columns(pairs: Iterable[tuple[int, int]]) -> Pairs:
    """Pairs as two arrays."""
    both = np.array(list(pairs), np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def estimated(signatures: np.ndarray, *, bands: int, rows: int, least: float = ROUNDED) -> Pairs:
    """Pairs that agree in a band, and in a share of at least `least` of all permutations."""
    count = len(signatures)
    met = []
    for band in range(bands):
        part = np.ascontiguousarray(signatures[:, band * rows : (band + 1) * rows])
        bucket = part.view(f"V{part.itemsize * rows}").ravel()
        mixed = (part.astype(np.uint64) * (np.arange(rows, dtype=np.uint64) * 2 + 0x9E37)).sum(1)
        order = np.argsort(mixed, kind="stable")
        for step in range(1, count):  # neighbours at distance 1, 2, ... of one bucket
            same = bucket[order[:-step]] == bucket[order[step:]]
            if not same.any():
                break
            met.append(order[:-step][same] * count + order[step:][same])
    pairs = np.unique(np.concatenate(met))
    first, second = pairs // count, pairs % count
    agree = np.concatenate(
        [
            (signatures[first[at : at + 100_000]] == signatures[second[at : at + 100_000]]).mean(1)
            for at in range(0, len(pairs), 100_000)
        ]
    )
    return first[agree >= least], second[agree >= least]


def _daft_signatures(texts: list[str]) -> np.ndarray:
    import daft
    from daft.functions import minhash

    made = daft.from_pydict({"text": texts}).select(
        minhash(daft.col("text"), num_hashes=PERMUTATIONS, ngram_size=3)
    )
    column = made.to_arrow().column(0).combine_chunks()
    return column.flatten().to_numpy().reshape(-1, PERMUTATIONS)


TOOLS: dict[str, Callable[[list[str]], Pairs]] = {
    one.__name__: one
    for one in (flywheel, flywheel_numpy, daft, truth, rensa, datasketch, text_dedup)
}
PACKAGES = {"truth": "daft", "flywheel_numpy": "flywheel", "text_dedup": "text-dedup"}


def main(tool: str, source: str, out: str) -> None:
    """Run one tool."""
    texts = pickle.loads(Path(source).read_bytes())
    TOOLS[tool](texts[:500])  # imports and start-up are not what is measured
    before = cpu_seconds()
    first, second = TOOLS[tool](texts)
    seconds = cpu_seconds() - before
    np.savez(out, first=np.minimum(first, second), second=np.maximum(first, second))
    peak = _peak_bytes() / 1e9
    package = PACKAGES.get(tool, tool)
    print(json.dumps({"seconds": seconds, "peak_gb": peak, "version": version(package)}))


def _peak_bytes() -> float:
    """Of this program alone: what `getrusage` tells begins with the memory of who started it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1e3
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    assert found, "Linux tells it"
    return int(found[1]) * 1024.0


def cpu_seconds() -> float:
    """User and system time of this process, its threads and its children."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


if __name__ == "__main__":
    main(*sys.argv[1:])
