"""Digests in sorted runs, in memory and on disk.

On disk a run is a file of numbers, `[2, events]` in order of the first, that is mapped and not
read; `runs.json` tells for each run which files of the lake it was made of, with their stamps.
A run that was made of a file that is not in the lake as it was then (an erasure wrote it again) is
passed over, and so is a torn one; its files are read again. So the folder may be removed at any
time, and a landing that is killed leaves nothing that is wrong.
"""

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from flywheel.lake.files import sync

Digests = npt.NDArray[np.uint64]  # [events, 2]
Stamp = tuple[int, int, int]  # inode, size and time of a file: another one is another content
INDEX = "runs.json"


@dataclass(slots=True, kw_only=True)
class Run:
    """Digests of some files.

    Attributes:
        digests: [2, events], sorted by the first row.
        files: Of the lake, by name, of which these are all events.
        name: Of the file of this run; empty where there is none yet.
    """

    digests: Digests
    files: dict[str, Stamp] = field(default_factory=dict)
    name: str = ""


class Runs:
    """A set of digests in runs, each less than half of the one before.

    So adding n digests moves each of them log2(n) times, however small the parts are. They are
    sorted once somebody asks: of the last file of a landing nobody does.

    Attributes:
        runs: Largest first.
    """

    def __init__(self, runs: list[Run] | None = None) -> None:
        self.runs = runs or []
        self._new: list[tuple[Digests, dict[str, Stamp]]] = []

    @property
    def files(self) -> set[str]:
        """Names of the files whose events are sorted in."""
        return {name for run in self.runs for name in run.files}

    def add(self, digests: Digests, files: Mapping[str, Stamp] | None = None) -> None:
        """Add digests; those that are there already stay there twice.

        Args:
            digests: Two numbers an event.
            files: Of the lake, whose events these are.
        """
        self._new.append((digests, dict(files or {})))

    def _sort_in(self, digests: Digests, files: dict[str, Stamp]) -> None:
        columns = digests.T
        while self.runs and self.runs[-1].digests.shape[1] < 2 * columns.shape[1]:
            last = self.runs.pop()
            columns = np.concatenate([last.digests, columns], axis=1)
            files = last.files | files
        order = np.argsort(columns[0])
        self.runs.append(Run(digests=np.ascontiguousarray(columns[:, order]), files=files))

    def count(self, digests: Digests) -> int:
        """How many of `digests` are there."""
        return int(self.holds(digests).sum())

    def holds(self, digests: Digests) -> npt.NDArray[np.bool_]:
        """Which of `digests` are there."""
        for part in self._new:
            self._sort_in(*part)
        self._new = []
        found = np.zeros(len(digests), bool)
        for run in self.runs:
            first, second = run.digests
            if len(first):
                place = np.minimum(np.searchsorted(first, digests[:, 0]), len(first) - 1)
                found |= (first[place] == digests[:, 0]) & (second[place] == digests[:, 1])
        return found


def stamp_of(path: Path) -> Stamp:
    """What tells a file from one that was written later under its name."""
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def recalled(folder: Path, present: Mapping[str, Stamp]) -> Runs:
    """The runs of a folder.

    Args:
        folder: Where they were remembered.
        present: The files of the lake as they are now: a run of others is passed over.
    """
    try:
        told = json.loads((folder / INDEX).read_text())
        found = [run for one in told if (run := _recalled(folder, one, present))]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Runs()
    return Runs(found)


def _recalled(folder: Path, told: dict[str, Any], present: Mapping[str, Stamp]) -> Run | None:
    files = {name: tuple(stamp) for name, stamp in told["files"].items()}
    if any(present.get(name) != stamp for name, stamp in files.items()):
        return None
    try:
        digests = np.load(folder / told["name"], mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if digests.dtype != np.uint64 or digests.shape != (2, told["events"]):
        return None
    return Run(digests=digests, files=files, name=told["name"])


def remember(runs: Runs, folder: Path) -> None:
    """Write down what was sorted in since `recalled`, and forget what no run is made of now.

    Raises:
        OSError: It could not be written; what was remembered before stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for run in runs.runs:
        if not run.name:
            name = f"{uuid.uuid4().hex[:16]}.npy"
            with _written(folder / name) as file:
                np.save(file, run.digests)
            run.name = name
    told = [
        {"name": run.name, "events": run.digests.shape[1], "files": run.files} for run in runs.runs
    ]
    with _written(folder / INDEX) as file:
        file.write(json.dumps(told).encode())
    names = {run.name for run in runs.runs} | {INDEX}
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """A file that is there as a whole, or not at all."""
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        yield file
    sync(draft)
    os.replace(draft, path)
    sync(path.parent)
