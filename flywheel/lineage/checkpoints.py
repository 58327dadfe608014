"""Published checkpoints by their manifests, and what each descends from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flywheel.layout import Layout
from flywheel.models.publish import manifest_of

MANIFEST = "manifest.json"
Known = dict[str, dict[str, Any]]  # published checkpoints: id to manifest


def manifests(layout: Layout) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Id (`policy/g0001`), folder and manifest of every published checkpoint."""
    for path in sorted((layout.artifacts / "checkpoints").glob(f"*/[!.]*/{MANIFEST}")):
        if facts := manifest_of(path.parent):  # torn or foreign ones are used by nothing
            yield id_of(path.parent), path.parent, facts


def id_of(folder: Path) -> str:
    """How a dataset or checkpoint is called: its kind, and its own name."""
    return f"{folder.parent.name}/{folder.name}"


def ancestry(known: Known, checkpoint_id: str) -> list[str]:
    """A checkpoint and those that it started from or was taught by, nearest first.

    A parent is known by its content: one whose folder was trained over since is named by hash.
    """
    return list(distances(known, checkpoint_id))


def distances(known: Known, checkpoint_id: str) -> dict[str, int]:
    """The same with how many steps away each is: itself 0, its parents 1."""
    by_content = {facts["content_hash"]: name for name, facts in known.items()}
    found: dict[str, int] = {}
    waiting = [(checkpoint_id, 0)]
    while waiting:
        name, far = waiting.pop(0)
        if name in found:
            continue
        found[name] = far
        for parent in known.get(name, {}).get("parents", ()):
            content = parent.get("content_hash")
            said = id_of(Path(parent["model"]))  # of equal ones, the one that was meant
            is_there = content and known.get(said, {}).get("content_hash") == content
            next_one = said if is_there else by_content.get(content) or _unknown(parent)
            waiting.append((next_one, far + 1))
    return found


def _unknown(parent: dict[str, Any]) -> str:
    return f"{Path(parent['model']).name} ({str(parent.get('content_hash', 'hub'))[:12]})"
