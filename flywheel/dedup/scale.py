"""The same join on many machines: five stages under Daft, on its local runner or on Ray.

1. Texts of a partition become sets. 2. Frequencies are counted by partition and added up, a table
of some MB. 3. Postings of prefixes are brought together by hash. 4. Pairs that met are brought to
their sets, in blocks of texts, and counted. 5. Pairs are the result; what repeats what is decided
from them as always (`marks.py`). Sets, prefixes and counts are those of `engine()`: the pairs and
their similarities are those of one machine, to the last bit, whatever the number of partitions.

A shingle in `HEAVY` texts or more would make one reducer do all the work: its texts are dealt into
blocks, and each two blocks meet in a place of their own.

Daft is optional (`pip install "flywheel[scale]"`). On Ray, `daft.set_runner_ray()` before the call;
the package must be installed on every node, with or without its kernel.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from flywheel.dedup import arrays
from flywheel.dedup.engine import LEAST_BITS, MOST_BITS, engine, frequencies, prefixes, shingle_sets
from flywheel.dedup.join import jaccard
from flywheel.dedup.sets import SLACK, Counts, Floats, Hashes, Ints, Sets, distinct, joined, spread

HEAVY = 255  # where the count of texts saturates
BLOCKS = 4  # that the texts of a heavy shingle are dealt into: 10 pairs of blocks
SET = [("id", pa.int64()), ("size", pa.int64()), ("hash", pa.large_binary())]
POSTING = [("shingle", pa.uint64()), ("text", pa.int64()), ("size", pa.int64())]
POSTING += [("place", pa.int64())]
PAIR = [("first", pa.int64()), ("second", pa.int64())]
EDGE = [*PAIR, ("common", pa.int64()), ("one_size", pa.int64()), ("other_size", pa.int64())]
Fields = list[tuple[str, pa.DataType]]


def similar_pairs(
    texts: Any, threshold: float, partitions: int, *, heavy: int = HEAVY
) -> tuple[Ints, Ints, Floats]:
    """Find every pair of texts with Jaccard similarity of at least `threshold`.

    Args:
        texts: A Daft DataFrame with `id` (int64, unique) and `text`.
        threshold: The least similarity.
        partitions: How many parts each stage is cut into.
        heavy: Texts of a shingle from which on its postings are dealt into blocks.

    Returns:
        Smaller id [P], larger id [P] and similarity [P], ordered by both ids.
    """
    from daft import col

    given = texts.select(col("id"), col("text"), (col("id") % partitions).alias("part"))
    sets = _by(given, "part", _shingle, SET, "id", "text").collect()
    total = sets.agg(col("size").sum()).to_pydict()["size"][0] or 0
    bits = min(max(int(total).bit_length() - 1, LEAST_BITS), MOST_BITS)
    sets = sets.with_column("part", col("id") % partitions)
    table = _frequencies(sets, bits)

    def post(ids: pa.Array, hashes: pa.Array) -> dict[str, Any]:
        return _postings(_ids(ids), _sets(hashes), table, threshold, partitions, heavy)

    postings = _by(sets, "part", post, POSTING, "id", "hash")
    met = _by(
        postings,
        "place",
        lambda *columns: _meet(*columns, threshold=threshold),
        PAIR,
        *("shingle", "text", "size"),
    ).distinct()
    one, other = (
        sets.select(col("id").alias(name), col("hash").alias(f"{name}_set"))
        for name in ("first", "second")
    )
    both = met.join(one, on="first").join(other, on="second")
    both = both.with_column("part", col("first") % partitions)
    edges = _by(both, "part", _count, EDGE, "first", "second", "first_set", "second_set")
    return _reached(edges.to_arrow(), threshold)


def _by(
    frame: Any, key: str, function: Callable[..., dict[str, Any]], fields: Fields, *columns: str
) -> Any:
    """Call a function of Arrow columns on each group of equal `key`; a frame of `fields`."""
    import daft
    from daft import col
    from daft.functions import get

    kind = pa.struct(fields)

    def call(*series: daft.Series) -> daft.Series:
        made = function(*(_whole(one.to_arrow()) for one in series))
        parts = [pa.array(made[name], type_) for name, type_ in fields]
        return daft.Series.from_arrow(pa.StructArray.from_arrays(parts, fields=list(kind)))

    wrapped = daft.udf(return_dtype=daft.DataType.from_arrow_type(kind))(call)
    made = frame.groupby(key).map_groups(wrapped(*(col(name) for name in columns)).alias("made"))
    return made.select(*(get(col("made"), name).alias(name) for name, _ in fields))


# ---- what runs in a partition --------------------------------------------------------------


def _shingle(ids: pa.Array, texts: pa.Array) -> dict[str, Any]:
    sets = shingle_sets(texts.to_pylist())
    cuts = zip(sets.start[:-1], sets.start[1:], strict=True)
    hashes = [sets.hash[begin:end].tobytes() for begin, end in cuts]
    return {"id": ids, "size": sets.sizes, "hash": hashes}


def _postings(
    ids: Ints, sets: Sets, table: Counts, threshold: float, partitions: int, heavy: int
) -> dict[str, Any]:
    """Postings of prefixes with the place where they meet: a range of hashes, or two blocks."""
    prefix = prefixes(sets, table, threshold, skip_unique=True)
    owner, _ = spread(prefix.sizes)
    shift = np.uint64(64 - len(table).bit_length() + 1)
    is_heavy = table[(prefix.hash >> shift).astype(np.int64)] >= heavy
    place = (prefix.hash % np.uint64(partitions)).astype(np.int64)
    which, own = [np.flatnonzero(~is_heavy)], np.flatnonzero(is_heavy)
    places = [place[which[0]]]
    block = ids[owner[own]] % BLOCKS
    for other in range(BLOCKS):
        low, high = np.minimum(block, other), np.maximum(block, other)
        which.append(own)
        places.append(partitions * (1 + low * BLOCKS + high) + place[own])
    chosen = np.concatenate(which)
    return {
        "shingle": prefix.hash[chosen],
        "text": ids[owner[chosen]],
        "size": sets.sizes[owner[chosen]],
        "place": np.concatenate(places),
    }


def _meet(shingle: pa.Array, text: pa.Array, size: pa.Array, *, threshold: float) -> dict[str, Any]:
    ids, place = np.unique(_ids(text), return_inverse=True)
    sizes = np.zeros(len(ids), np.int64)
    sizes[place] = _ids(size)
    order = np.argsort(place, kind="stable")
    hashes: Hashes = shingle.to_numpy(zero_copy_only=False)[order]
    found = list(arrays.meetings(place[order], hashes, sizes, threshold))
    pairs = distinct(np.concatenate([np.zeros(0, np.int64), *found]))
    return {"first": ids[pairs // len(ids)], "second": ids[pairs % len(ids)]}


def _count(first: pa.Array, second: pa.Array, one: pa.Array, other: pa.Array) -> dict[str, Any]:
    order = np.argsort(_ids(first), kind="stable")  # the kernel keeps the set of a first
    sets = joined([_sets(some.take(pa.array(order))) for some in (one, other)])
    pair = np.arange(len(order))
    return {
        "first": _ids(first)[order],
        "second": _ids(second)[order],
        "common": engine().count_common(sets, pair, len(order) + pair),
        "one_size": sets.sizes[: len(order)],
        "other_size": sets.sizes[len(order) :],
    }


# ---- what comes together -------------------------------------------------------------------


def _frequencies(sets: Any, bits: int) -> Counts:
    """The table of all partitions: saturating counts added up saturate at the same value."""

    def count(hashes: pa.Array) -> dict[str, Any]:
        return {"table": [frequencies(_sets(hashes), bits).tobytes()]}

    tables = _by(sets, "part", count, [("table", pa.large_binary())], "hash")
    total = np.zeros(1 << bits, np.uint16)
    for table in tables.to_arrow()["table"].to_pylist():
        total = np.minimum(total + np.frombuffer(table, np.uint8), 255)
    return total.astype(np.uint8)


def _reached(edges: pa.Table, threshold: float) -> tuple[Ints, Ints, Floats]:
    first, second, common, one, other = (edges[name].to_numpy() for name, _ in EDGE)
    similarity = jaccard(one, other, common)
    good = np.flatnonzero(similarity >= threshold - SLACK)
    order = good[np.lexsort((second[good], first[good]))]
    return first[order], second[order], similarity[order]


def _whole(column: Any) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _ids(column: pa.Array) -> Ints:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.int64)


def _sets(hashes: pa.Array) -> Sets:
    """Sets out of a column of their bytes."""
    sizes = [len(one) // 8 for one in hashes.to_pylist()]
    joined = np.frombuffer(b"".join(hashes.to_pylist()), np.uint64)
    return Sets(joined, np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]))
