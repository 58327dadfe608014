"""Where an interrupted run goes on: checkpoints of a run, whole or not at all.

A checkpoint is written aside, every file is hashed and synced, and a rename makes it count. On
resume the hashes are held against the files; one that is torn is skipped for the one before.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flywheel.errors import ManifestError
from flywheel.models.publish import FILE_NAME, content_hash, verify
from flywheel.process.worker import rank, world
from flywheel.train.engine import barrier

KEPT = 2


def save(folder: Path, step: int, facts: dict[str, Any], write: Callable[[Path], None]) -> None:
    """Save a step; every rank calls it, and `write` writes that rank's share."""
    draft, final = folder / f".step-{step:08d}.draft", folder / f"step-{step:08d}"
    if rank() == 0:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
    barrier()
    write(draft)
    barrier()
    if rank() == 0:
        (draft / "facts.json").write_text(json.dumps({**facts, "step": step, "world": world()}))
        files = {}
        for path in sorted(path for path in draft.rglob("*") if path.is_file()):
            files[str(path.relative_to(draft))] = _synced_hash(path)
        manifest = {"files": files, "content_hash": content_hash(files)}
        (draft / FILE_NAME).write_text(json.dumps(manifest))
        _synced_hash(draft / FILE_NAME)
        shutil.rmtree(final, ignore_errors=True)
        os.rename(draft, final)
        for old in _steps(folder)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    barrier()


def newest(folder: Path, log: Callable[[str], object]) -> tuple[Path, dict[str, Any]] | None:
    """The newest whole checkpoint and its facts; None where there is none."""
    for path in reversed(_steps(folder)):
        try:
            verify(path)
        except ManifestError as error:
            log(f"skipping a damaged checkpoint of this run: {error}")
            continue
        facts: dict[str, Any] = json.loads((path / "facts.json").read_text())
        if facts["world"] != world():
            log(f"{path} was saved by {facts['world']} processes, not {world()}; starting anew")
            return None
        return path, facts
    return None


def _steps(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _synced_hash(path: Path) -> str:
    import hashlib

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    return digest
