"""An index of texts on disk: new texts meet all that were seen, at the cost of the new.

*Generation*: the order of shingles by rarity is frozen when the index is built, as a table of
frequencies. A stale order costs candidates, never pairs: any order is complete. The index is built
anew, in a new generation, when it has grown `GROWTH` times or candidates became too many.
*Segment*: the texts of one update with all shingles of their prefixes, those that nobody else has
yet included, and the pairs found then. Segments never change; small ones are merged, so that there
are about as many as the number of texts has binary digits.
*Deletion*: a segment that holds a text that is gone, or says something else now, is written again
without it and its shingles: nothing of an erased text waits for a later cleaning. A pair that names
it in another segment is two numbers of which one stands for nothing any more.

Pairs do not depend on how texts were cut into updates. What is published is one small file,
`index.json`, replaced in one step after everything that it names is on disk (`segments.py`): an
update that is killed leaves the index as it was. An index of another version is not read but built
again. One process at a time may update an index.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.dedup.engine import engine, frequencies, prefixes, sets_on_disk
from flywheel.dedup.join import jaccard, meet, similar_sets
from flywheel.dedup.segments import Segment, State, Store, version
from flywheel.dedup.sets import SLACK, Floats, Hashes, Ints, Sets, blocks, distinct, joined, spread

GROWTH = 4  # texts for each one at freezing: the order is old by then
MOST_CANDIDATES = 100  # a new text: more cost about as much as building the index again
Fetch = Callable[[pa.Array], Iterator[tuple[pa.Array, pa.Array]]]
Edges = tuple[Ints, Ints, Floats]


class TextIndex:
    """The similar pairs of a growing and shrinking collection of texts."""

    def __init__(
        self, folder: Path, threshold: float, log: Callable[[str], object] = print
    ) -> None:
        self.threshold = threshold
        self.store = Store(folder, version(threshold), log)
        self.compared = 0  # texts that the last update read
        self.candidates = 0  # pairs that it counted exactly, besides those within new texts

    def update(self, ids: Sequence[str] | pa.Array, prints: Hashes, fetch: Fetch) -> Edges:
        """Bring the index to hold exactly these texts and return all their similar pairs.

        Args:
            ids: Of all texts there are, each once.
            prints: A hash of each text: another one under the same id is another text.
            fetch: Returns ids and their texts, in parts and in any order; asked for new texts and
                for seen ones that may be similar to them.

        Returns:
            first [P], second [P] with first < second, as places in `ids`, and similarity [P],
            ordered by first and second: what `similar_pairs` returns for the same texts.
        """
        self.compared = self.candidates = 0
        ids = pa.array(ids, pa.string())
        state = self.store.load()
        segments = state.segments if state else []
        known = [self._rows(segment, ids, prints) for segment in segments]
        seen = np.zeros(len(ids), bool)
        for rows in known:
            seen[rows[rows >= 0]] = True
        if not state or state.is_stale or len(ids) > GROWTH * max(state.frozen, 1):
            state = self._new_generation(ids, prints, fetch)
        else:
            state.segments = [
                segment if (rows >= 0).all() else self._without(segment, rows >= 0)
                for segment, rows in zip(segments, known, strict=True)
            ]
            if not seen.all():
                new = np.flatnonzero(~seen)
                state.segments.append(self._compared(state, new, ids, prints, fetch))
            self._merge(state.segments)
        self.store.publish(state)
        return self._edges(state.segments, ids)

    # ---- what is computed ------------------------------------------------------------------

    def _new_generation(self, ids: pa.Array, prints: Hashes, fetch: Fetch) -> State:
        ids, prints, sets = self._read(ids, prints, fetch)
        self.compared = len(ids)
        frequency, sizes = frequencies(sets), sets.sizes
        prefix = prefixes(sets, frequency, self.threshold, skip_unique=False)
        edges = meet(sets, prefix, self.threshold)
        del sets  # their file
        segment = self._segment(ids, prints, sizes, prefix, np.arange(len(ids)), edges)
        return State(frequency, frozen=len(ids), next_number=len(ids), segments=[segment])

    def _compared(
        self, state: State, new: Ints, ids: pa.Array, prints: Hashes, fetch: Fetch
    ) -> Segment:
        """A segment of new texts: compared with each other and with all that are there."""
        own, own_prints, sets = self._read(ids.take(pa.array(new)), prints[new], fetch)
        self.compared = len(new)
        numbers = state.next_number + np.arange(len(new))
        state.next_number += len(new)
        prefix = prefixes(sets, state.frequency, self.threshold, skip_unique=False)
        first, second, similarity = similar_sets(sets, self.threshold)
        found = [(numbers[first], numbers[second], similarity)]
        for segment in state.segments:
            place, local = self._candidates(segment, sets, prefix)
            self.candidates += len(place)
            if len(place):
                good, similarity = self._verified(segment, place, sets, local, fetch)
                old = segment.texts["number"].to_numpy()[place[good]]
                found.append((old, numbers[local[good]], similarity))
        state.is_stale = self.candidates > MOST_CANDIDATES * len(new)
        one, other, similarity = (np.concatenate(column) for column in zip(*found, strict=True))
        return self._segment(own, own_prints, sets.sizes, prefix, numbers, (one, other, similarity))

    def _verified(
        self, segment: Segment, place: Ints, sets: Sets, local: Ints, fetch: Fetch
    ) -> tuple[Ints, Floats]:
        """Which candidates reach the threshold, and their similarity."""
        used = distinct(place)
        wanted = segment.texts["text_id"].take(pa.array(used)).combine_chunks()
        read, _, old = self._read(wanted, np.zeros(len(used), np.uint64), fetch)
        both = joined([sets, old])
        row = pc.index_in(wanted, value_set=read).to_numpy().astype(np.int64)
        other = len(sets) + row[np.searchsorted(used, place)]
        common = engine().count_common(both, local, other)
        similarity = jaccard(both.sizes[local], both.sizes[other], common)
        good = np.flatnonzero(similarity >= self.threshold - SLACK)
        return good, similarity[good]

    def _candidates(self, segment: Segment, sets: Sets, prefix: Sets) -> tuple[Ints, Ints]:
        """Place in the segment and among the new texts of pairs that share a prefix shingle."""
        owner, _ = spread(prefix.sizes)
        order = np.argsort(prefix.hash)
        owner, wanted = owner[order], prefix.hash[order]
        low = np.searchsorted(segment.hash, wanted, side="left")
        high = np.searchsorted(segment.hash, wanted, side="right")
        sizes = segment.texts["size"].to_numpy()
        place_of = segment.texts["number"].to_numpy()  # ascends
        pairs = np.zeros(0, np.int64)
        for block in blocks(high - low):
            query, step = spread((high - low)[block])
            number = segment.number[low[block][query] + step]
            place, local = np.searchsorted(place_of, number), owner[block][query]
            a, b = sizes[place], sets.sizes[local]
            fits = np.minimum(a, b) >= self.threshold * np.maximum(a, b) - SLACK
            pairs = distinct(np.concatenate([pairs, local[fits] * len(sizes) + place[fits]]))
        return pairs % max(len(sizes), 1), pairs // max(len(sizes), 1)

    def _segment(
        self,
        ids: pa.Array,
        prints: Hashes,
        sizes: Ints,
        prefix: Sets,
        numbers: Ints,
        edges: Edges,
    ) -> Segment:
        order = np.argsort(prefix.hash, kind="stable")
        owner = np.repeat(numbers.astype(np.uint32), prefix.sizes)
        texts = {"text_id": ids, "print": prints, "size": sizes, "number": numbers}
        return self.store.write(
            pa.table(texts),
            pa.table(dict(zip(("first", "second", "jaccard"), edges, strict=True))),
            prefix.hash[order],
            owner[order],
        )

    def _read(self, ids: pa.Array, prints: Hashes, fetch: Fetch) -> tuple[pa.Array, Hashes, Sets]:
        """Ids, prints and sets of texts, in the order in which they came."""
        came: list[pa.Array] = []

        def parts() -> Iterator[Sequence[str]]:
            for some, texts in fetch(ids):
                came.append(pa.concat_arrays([some, some[:0]]))  # a copy lets go of the texts
                yield texts.to_pylist()

        sets = sets_on_disk(parts(), self.store.folder)
        own = pa.concat_arrays(came) if came else ids[:0]
        came.clear()
        return own, prints[pc.index_in(own, value_set=ids).to_numpy()], sets

    # ---- segments --------------------------------------------------------------------------

    def _rows(self, segment: Segment, ids: pa.Array, prints: Hashes) -> Ints:
        """Place in `ids` of each text of a segment, -1 where it is gone or says something else."""
        rows = pc.index_in(segment.texts["text_id"], value_set=ids).fill_null(-1).to_numpy()
        if not len(prints):
            return np.full(len(rows), -1)
        same = prints[rows] == segment.texts["print"].to_numpy()
        return np.where(same, rows, -1).astype(np.int64)

    def _without(self, segment: Segment, kept: npt.NDArray[np.bool_]) -> Segment:
        """A segment written again without texts that are gone."""
        texts = segment.texts.filter(pa.array(kept))
        alive = np.isin(segment.number, texts["number"].to_numpy())
        return self.store.write(texts, segment.edges, segment.hash[alive], segment.number[alive])

    def _merge(self, segments: list[Segment]) -> None:
        """Join the last segments while they are not much smaller than the one before."""
        while len(segments) > 1 and 2 * segments[-1].texts.num_rows >= segments[-2].texts.num_rows:
            other, one = segments.pop(), segments.pop()
            hash = np.concatenate([one.hash, other.hash])
            order = np.argsort(hash, kind="stable")
            number = np.concatenate([one.number, other.number])[order]
            texts = pa.concat_tables([one.texts, other.texts])
            edges = pa.concat_tables([one.edges, other.edges])
            segments.append(self.store.write(texts, edges, hash[order], number))

    def _edges(self, segments: list[Segment], ids: pa.Array) -> Edges:
        """Pairs of texts that are still there, by their places in `ids`."""
        texts = pa.concat_tables([segment.texts for segment in segments])
        edges = pa.concat_tables([segment.edges for segment in segments])
        one, other = edges["first"].to_numpy(), edges["second"].to_numpy()
        numbers = texts["number"].to_numpy()
        linked = np.flatnonzero(np.isin(numbers, np.concatenate([one, other])))  # few of all
        place = np.full(int(max(one.max(initial=-1), other.max(initial=-1))) + 1, -1)
        there = pc.index_in(ids, value_set=texts["text_id"].take(pa.array(linked)))
        found = np.flatnonzero(pc.is_valid(there))
        place[numbers[linked[there.take(pa.array(found))]]] = found
        one, other = place[one], place[other]
        first, second = np.minimum(one, other), np.maximum(one, other)
        alive = np.flatnonzero(first >= 0)
        order = alive[np.lexsort((second[alive], first[alive]))]
        return first[order], second[order], edges["jaccard"].to_numpy()[order]
