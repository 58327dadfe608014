"""Where an interrupted run goes on: checkpoints of a run, whole or not at all.

A checkpoint is written aside, every file is hashed and synced, and a rename makes it count. On
resume the hashes are held against the files; one that is torn is skipped for the one before.

It holds nothing that depends on how many processes wrote it, but for the generators of random
numbers, of which each process takes back its own: with as many processes as before a run goes on
bit by bit, with fewer or more to rounding.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flywheel.errors import ManifestError, TrainingError
from flywheel.models.publish import FILE_NAME, content_hash, verify
from flywheel.process import spent
from flywheel.process.worker import rank, world
from flywheel.train import rng
from flywheel.train.ranks import agreed, barrier, from_each

KEPT = 2


def save(folder: Path, step: int, facts: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Save a step; every rank calls it, and `write`, which writes on the first alone."""
    draft, final = folder / f".step-{step:08d}.draft", folder / f"step-{step:08d}"
    if rank() == 0:
        for left in folder.glob(".step-*.draft"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        draft.mkdir(parents=True)
    write(draft)
    generators = from_each(rng.states())
    if rank() == 0:
        (draft / "rng.json").write_text(json.dumps(generators))
        (draft / "facts.json").write_text(json.dumps({**facts, "step": step, "world": world()}))
        files = {}
        for path in sorted(path for path in draft.rglob("*") if path.is_file()):
            files[str(path.relative_to(draft))] = _synced_hash(path)
        manifest = {"files": files, "content_hash": content_hash(files)}
        (draft / FILE_NAME).write_text(json.dumps(manifest))
        _synced_hash(draft / FILE_NAME)
        _sync(draft)
        shutil.rmtree(final, ignore_errors=True)
        os.rename(draft, final)
        _sync(folder)
        for old in _steps(folder)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    barrier()


def newest(folder: Path, log: Callable[[str], object]) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole checkpoint and its facts, as the first process finds it; None if none.

    Raises:
        TrainingError: There are some, and all are damaged.
    """
    path, damaged = agreed(_newest_whole(folder, log) if rank() == 0 else (None, 0))
    if path is None and damaged:
        raise TrainingError(
            f"all {damaged} checkpoints in {folder} are damaged, and a run must not start anew "
            f"unasked; put one back from a copy, or remove the folder to begin at the first step"
        )
    return (path, json.loads((path / "facts.json").read_text())) if path else None


def forget(folder: Path) -> None:
    """Remove what a run of other settings left: its steps would be taken for newer ones."""
    if rank() == 0:
        spent.forget(folder.parent)
        shutil.rmtree(folder, ignore_errors=True)
    barrier()


def put_generators_back(path: Path) -> None:
    """Set this process' random numbers to where they stood; a new process keeps its own."""
    found = json.loads((path / "rng.json").read_text())
    if rank() < len(found):
        rng.put_back(found[rank()])


def _newest_whole(folder: Path, log: Callable[[str], object]) -> tuple[Path | None, int]:
    """The newest whole one, and how many are damaged that are newer."""
    damaged = 0
    for path in reversed(_steps(folder)):
        try:
            verify(path)
        except ManifestError as error:
            log(f"skipping a damaged checkpoint of this run: {error}")
            damaged += 1
            continue
        return path, damaged
    return None, damaged


def _steps(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _synced_hash(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return digest


def _sync(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
