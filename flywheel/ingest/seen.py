"""Events that the lake holds already, by `content_sha256`: what of a new file is new.

An event is known by the first 128 bits of its hash, two numbers that lie in sorted runs, so that
ten million of them are 160 MB. Runs stay on disk between landings (`runs.py`), so that a landing
reads the hashes of the batches that came since the last one, and only where a file brings records
of that kind.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.errors import LakeError
from flywheel.ingest.formats import RAW
from flywheel.ingest.runs import Digests, Runs, recalled, remember, stamp_of
from flywheel.layout import Layout

EVENT = "content_sha256"
HEX = 64  # digits of a hash


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

    def add(self, events: Mapping[str, Sequence[Digests]], batch_id: str) -> None:
        """Note the events of a batch that has just landed."""
        for kind, parts in events.items():
            if kind in self._runs:
                path = self._layout.landing(kind) / f"{batch_id}.parquet"
                self._runs[kind].add(np.concatenate(parts), {path.name: stamp_of(path)})

    def save(self) -> None:
        """Have the next landing find what this one read; where the disk is full, it reads again."""
        for kind, runs in self._runs.items():
            with suppress(OSError):
                remember(runs, self._layout.seen_events(kind))

    def _of(self, kind: str) -> Runs:
        if kind not in self._runs:
            paths = sorted(self._layout.landing(kind).glob("[!._]*.parquet"))
            stamps = {path.name: stamp_of(path) for path in paths}
            runs = recalled(self._layout.seen_events(kind), stamps)
            for path in paths:
                if path.name not in runs.files:
                    runs.add(_events_in(path), {path.name: stamps[path.name]})
            self._runs[kind] = runs
        return self._runs[kind]


def _events_in(path: Path) -> Digests:
    try:
        with pq.ParquetFile(path) as file:  # read_table takes as long to open it again
            return digests_of(file.read([EVENT])[EVENT])
    except (OSError, pa.ArrowInvalid) as error:
        raise LakeError(f"{path} is torn: {error}; remove it and land its file again") from error
