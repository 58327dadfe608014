"""Checkpoints by their manifests, and what each descends from.

One that was trained over or removed is known for as long as another descends from it, by its name
and content (`sft_policy/g0001@1f2e...`): what its manifest said lies beside its edges.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from flywheel.layout import Layout
from flywheel.models.publish import manifest_of

MANIFEST = "manifest.json"
EDGES = "record_checkpoints"  # folder of the lineage where edges of checkpoints lie
FORMER = "@"  # in the id of one that was trained over or removed
KEPT = ("content_hash", "parents", "datasets", "records", "result")  # of a manifest
Known = dict[str, dict[str, Any]]  # checkpoints: id to manifest


def manifests(layout: Layout) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Id (`policy/g0001`), folder and manifest of every published checkpoint."""
    for path in sorted((layout.artifacts / "checkpoints").glob(f"*/[!.]*/{MANIFEST}")):
        if facts := manifest_of(path.parent):  # torn or foreign ones are used by nothing
            yield id_of(path.parent), path.parent, facts


def known_checkpoints(layout: Layout) -> Known:
    """Every published checkpoint, and the former ones that these descend from."""
    known = {one: facts for one, _, facts in manifests(layout)}
    for path in sorted(layout.lineage(EDGES).glob(f"[!_.]*{FORMER}*.parquet")):
        known[name_of(path)] = recalled(path)
    return known


def id_of(folder: Path) -> str:
    """How a dataset or checkpoint is called: its kind, and its own name."""
    return f"{folder.parent.name}/{folder.name}"


def place_of(layout: Layout, name: str, content: str) -> Path:
    """Where the edges of a checkpoint lie: what is trained again gets another file."""
    return layout.lineage(EDGES) / f"{name.replace('/', '.')}.{content[:16]}.parquet"


def name_of(path: Path) -> str:
    """The id of the checkpoint whose edges lie there."""
    return path.stem.rpartition(".")[0].replace(".", "/", 1)


def former_name(name: str, content: str | None) -> str:
    """What a checkpoint is called when its folder holds another, or nothing any more."""
    return f"{name}{FORMER}{str(content)[:12]}"


def remember(path: Path, facts: dict[str, Any]) -> None:
    """Write what a manifest says beside the edges, for the time when the checkpoint is gone."""
    draft = path.with_name(f".{path.stem}.draft")
    draft.write_text(json.dumps({one: facts[one] for one in KEPT if one in facts}))
    os.replace(draft, path.with_suffix(".json"))


def recalled(path: Path) -> dict[str, Any]:
    """What was remembered beside these edges; where nothing was, its parents are not known."""
    try:
        return dict(json.loads(path.with_suffix(".json").read_text()))
    except (OSError, ValueError):
        before = f"artifacts/checkpoints/{name_of(path)} and before"
        return {"content_hash": path.stem.rpartition(".")[2], "parents": [{"model": before}]}


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


def unknown_among(layout: Layout, known: Known, ids: Iterable[str]) -> list[str]:
    """Checkpoints of an ancestry of which it is not known what they were trained on."""
    return [
        one
        for one in ids
        if not is_foreign(one)
        and (one not in known or not place_of(layout, one, known[one]["content_hash"]).exists())
    ]


def is_foreign(name: str) -> bool:
    """Whether an ancestor is a model from elsewhere; ours are called by kind and name."""
    return "/" not in name


def _unknown(parent: dict[str, Any]) -> str:
    folder, content = Path(parent["model"]), parent.get("content_hash")
    if folder.parts[-4:-2] == ("artifacts", "checkpoints"):
        return former_name(id_of(folder), content) if content else id_of(folder)
    return f"{folder.name} ({str(content or 'hub')[:12]})"
