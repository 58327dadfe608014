"""A checkpoint on disk: written aside, hashed, described, then put in place by one rename."""

import gzip
import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flywheel.errors import ManifestError
from flywheel.layout import TITLE_MARK

FILE_NAME = "manifest.json"
PACKAGES = ("torch", "transformers", "tokenizers", "peft", "safetensors", "deepspeed", "flywheel")


def publish(output: Path, write: Callable[[Path], object], facts: dict[str, Any]) -> dict[str, Any]:
    """Publish a checkpoint and return its manifest.

    Args:
        output: Where it is to lie. A checkpoint already there is replaced, unless it holds or
            held the title of champion.
        write: Writes weights, tokenizer and configuration into the folder it is given.
        facts: What the manifest says beside hashes and versions: kind, parents, data, settings.

    Raises:
        ManifestError: What lies there holds or held the title.
    """
    if (output / TITLE_MARK).exists():
        raise ManifestError(
            f"{output} holds or held the title of champion and is never replaced; train in a new "
            f"generation"
        )
    draft = output.with_name(f".{output.name}-{uuid.uuid4().hex[:8]}.draft")
    draft.mkdir(parents=True)
    try:
        write(draft)
        files = {
            str(path.relative_to(draft)): _sha256(path)
            for path in sorted(draft.rglob("*"))
            if path.is_file()
        }
        manifest = {
            **facts,
            "content_hash": content_hash(files),
            "files": files,
            "versions": {"python": sys.version.split()[0]} | {p: version(p) for p in PACKAGES},
        }
        (draft / FILE_NAME).write_text(json.dumps(manifest, indent=2) + "\n")
        for path in draft.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        if output.exists():
            old = output.with_name(f".{output.name}-{uuid.uuid4().hex[:8]}.old")
            os.rename(output, old)
            os.rename(draft, output)
            shutil.rmtree(old)
        else:
            os.rename(draft, output)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return manifest


def content_hash(files: dict[str, str]) -> str:
    """One hash for a folder, from the hashes of its files."""
    lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def verify(folder: Path) -> dict[str, Any]:
    """Read a checkpoint's manifest and hold every file against it.

    Raises:
        ManifestError: There is no manifest, or a file is missing or changed.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise ManifestError(f"no {FILE_NAME} in {folder}: missing or half written; train it again")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        files = dict(manifest["files"])
    except (ValueError, KeyError, TypeError):
        raise ManifestError(f"{path} is torn, or not ours; train it again") from None
    for name, digest in files.items():
        if not (folder / name).exists() or _sha256(folder / name) != digest:
            raise ManifestError(
                f"{folder / name} is not what {FILE_NAME} says: changed or torn; train it again"
            )
    return manifest


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of a checkpoint of ours; empty for another model, and where it is torn."""
    path = folder / FILE_NAME
    try:
        facts = json.loads(path.read_text()) if path.exists() else {}
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) and "content_hash" in facts else {}


def record_counts(folder: Path) -> list[tuple[str, int]]:
    """Records behind a checkpoint, with the times that each was in a step; by its manifest.

    Raises:
        ManifestError: The manifest names a file of records that is not there.
    """
    name = manifest_of(folder).get("records", {}).get("file")
    if not name:
        return []
    try:
        with gzip.open(folder / name, "rt") as file:
            lines = (line.rstrip("\n").partition("\t") for line in file)
            return [(uid, int(times or 0)) for uid, _, times in lines]
    except (OSError, EOFError, ValueError) as error:
        raise ManifestError(
            f"what {folder} was trained on cannot be read from {name}: {error}; restore that file, "
            f"or train it again"
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
