"""What an index of texts is on disk: segments, frequencies, and one file that names them.

Everything is written under a new name and synced; then `index.json` is replaced in one step, and
what it does not name any more is removed. Whoever is killed leaves files that nobody reads.
"""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.dedup.sets import HASH, SHINGLE_WORDS, TOKENISER, Counts, Hashes
from flywheel.lake import write_table
from flywheel.lake.files import sync

Numbers = npt.NDArray[np.uint32]
ALGORITHM = "prefix-join/1"
MANIFEST = "index.json"


def version(threshold: float) -> dict[str, Any]:
    """What must be equal for an index to be of use. Ids of texts carry the version of keys."""
    return {
        "tokeniser": TOKENISER,
        "ngram": SHINGLE_WORDS,
        "hash": HASH,
        "threshold": threshold,
        "algorithm": ALGORITHM,
    }


@dataclass(frozen=True)
class Segment:
    """Texts of one or more updates. A text's number is its own for the life of the index."""

    name: str
    texts: pa.Table  # text_id, print, size, number (ascending)
    edges: pa.Table  # first, second (numbers), jaccard
    hash: Hashes  # [postings], ascending; memory-mapped
    number: Numbers  # of the text of each posting


@dataclass
class State:
    """An index as published, or about to be."""

    frequency: Counts
    frozen: int  # texts that the frequencies were counted in
    next_number: int
    is_stale: bool = False  # the order of the frequencies makes too many candidates
    frequency_file: str | None = None  # None where it is not on disk yet
    segments: list[Segment] = field(default_factory=list)


class Store:
    """The folder of an index."""

    def __init__(self, folder: Path, version: dict[str, Any], log: Callable[[str], object]) -> None:
        self.folder, self.version, self.log = folder, version, log

    def write(self, texts: pa.Table, edges: pa.Table, hash: Hashes, number: Numbers) -> Segment:
        """Write a segment; it counts from the next `publish` on."""
        name = f"segment-{uuid.uuid4().hex[:12]}"
        folder = self.folder / name
        write_table(texts, folder / "texts.parquet")
        write_table(edges, folder / "edges.parquet")
        _write_array(hash, folder / "hash.npy")
        _write_array(number.astype(np.uint32, copy=False), folder / "number.npy")
        return self._read(name)

    def load(self) -> State | None:
        """The published state; None where there is none that can be used, and why in the log."""
        path = self.folder / MANIFEST
        if not path.exists():
            return None
        try:
            said = json.loads(path.read_text())
            if said["version"] != self.version:
                self.log(
                    f"the index {path} was made as {said['version']}, not as {self.version}: "
                    "it is built again"
                )
                return None
            return State(
                np.load(self.folder / said["frequency_file"]),
                said["frozen"],
                said["next_number"],
                said["is_stale"],
                said["frequency_file"],
                [self._read(name) for name in said["segments"]],
            )
        except (OSError, ValueError, KeyError, TypeError, EOFError, pa.ArrowException) as error:
            self.log(f"the index {path} cannot be read ({error}): it is built again")
            return None

    def publish(self, state: State) -> None:
        """Make a state the one that `load` returns, and remove what it does not need."""
        if state.frequency_file is None:
            state.frequency_file = f"frequency-{uuid.uuid4().hex[:12]}.npy"
            _write_array(state.frequency, self.folder / state.frequency_file)
        names = [segment.name for segment in state.segments]
        said = {
            "version": self.version,
            "frozen": state.frozen,
            "next_number": state.next_number,
            "is_stale": state.is_stale,
            "frequency_file": state.frequency_file,
            "segments": names,
        }
        draft = self.folder / f".{MANIFEST}.draft"
        draft.write_text(json.dumps(said, indent=1))
        sync(draft)
        sync(self.folder)
        os.replace(draft, self.folder / MANIFEST)
        sync(self.folder)
        for path in self.folder.iterdir():
            if path.name not in {MANIFEST, state.frequency_file, *names}:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _read(self, name: str) -> Segment:
        folder = self.folder / name
        return Segment(
            name,
            pq.read_table(folder / "texts.parquet"),
            pq.read_table(folder / "edges.parquet"),
            _mapped(folder / "hash.npy"),
            _mapped(folder / "number.npy"),
        )


def _write_array(array: npt.NDArray[Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=False)
    sync(path)
    sync(path.parent)


def _mapped(path: Path) -> Any:
    """An array that stays on disk until it is looked at; an empty one cannot be mapped."""
    is_empty = path.stat().st_size == 128  # bytes of the header
    return np.load(path, mmap_mode=None if is_empty else "r")
