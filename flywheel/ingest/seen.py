"""Events that the lake holds already, by `content_sha256`: what of a new file is new.

An event is known by the first 128 bits of its hash, two numbers that lie in sorted runs, so that
ten million of them are 160 MB. The hashes of a kind are read once a landing, and only where a
file brings records of that kind.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.errors import LakeError
from flywheel.ingest.formats import RAW
from flywheel.layout import Layout

EVENT = "content_sha256"
HEX = 64  # digits of a hash
Digests = npt.NDArray[np.uint64]  # [events, 2]


def digests_of(hashes: pa.ChunkedArray) -> Digests:
    """The first 128 bits of hashes in hex."""
    parts = []
    for chunk in hashes.chunks:
        digits = b"".join(part for part in _text(chunk))
        if len(digits) != HEX * len(chunk):
            raise LakeError(f"{EVENT} must be a sha256 in hex, {HEX} digits, in every row")
        halves = np.frombuffer(digits, f"S{HEX // 2}")[::2]
        numbers = np.frombuffer(bytes.fromhex(halves.tobytes().decode()), np.uint64)
        parts.append(numbers.reshape(-1, 2))
    return np.concatenate(parts) if parts else np.empty((0, 2), np.uint64)


def _text(chunk: pa.Array) -> list[bytes]:
    """The text of a chunk, as it lies there."""
    if not len(chunk):
        return []
    _, offsets, data = chunk.buffers()
    places = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    return [data[int(places[0]) : int(places[-1])].to_pybytes()]


class Seen:
    """The events of a lake, as far as they were asked for."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._runs: dict[str, Runs] = {}

    def count_new(
        self, rows: Mapping[str, int], events: Mapping[str, Sequence[Digests]]
    ) -> dict[str, int]:
        """Rows by kind whose event the lake does not hold; every raw row counts as new."""
        return {
            kind: count
            if kind == RAW
            else count - sum(self._of(kind).count(part) for part in events[kind])
            for kind, count in rows.items()
        }

    def add(self, events: Mapping[str, Sequence[Digests]]) -> None:
        """Note the events of a batch that has just landed."""
        for kind, parts in events.items():
            if kind in self._runs:
                self._runs[kind].add(np.concatenate(parts))

    def _of(self, kind: str) -> "Runs":
        if kind not in self._runs:
            self._runs[kind] = runs = Runs()
            for path in sorted(self._layout.landing(kind).glob("[!.]*.parquet")):
                try:
                    with pq.ParquetFile(path) as file:  # read_table takes as long to open it again
                        runs.add(digests_of(file.read([EVENT])[EVENT]))
                except (OSError, pa.ArrowInvalid) as error:
                    raise LakeError(
                        f"{path} is torn: {error}; remove it and land its file again"
                    ) from error
        return self._runs[kind]


class Runs:
    """A set of digests in runs that are each sorted, and each less than half of the one before.

    So adding n digests moves each of them log2(n) times, however small the parts are. They are
    sorted once somebody asks: of the last file of a landing nobody does.
    """

    def __init__(self) -> None:
        self._runs: list[Digests] = []
        self._new: list[Digests] = []

    def add(self, digests: Digests) -> None:
        """Add digests; those that are there already stay there twice."""
        self._new.append(digests)

    def _sort_in(self, digests: Digests) -> None:
        while self._runs and len(self._runs[-1]) < 2 * len(digests):
            digests = np.concatenate([self._runs.pop(), digests])
        self._runs.append(digests[np.argsort(digests[:, 0])])

    def count(self, digests: Digests) -> int:
        """How many of `digests` are there."""
        return int(self.holds(digests).sum())

    def holds(self, digests: Digests) -> npt.NDArray[np.bool_]:
        """Which of `digests` are there."""
        for part in self._new:
            self._sort_in(part)
        self._new = []
        found = np.zeros(len(digests), bool)
        for run in self._runs:
            if len(run):
                first = run[:, 0]
                place = np.minimum(np.searchsorted(first, digests[:, 0]), len(run) - 1)
                found |= (run[place] == digests).all(axis=1)
        return found
