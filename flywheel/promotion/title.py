"""The title on disk: `champion.json` that others read, the mark in its holder's folder, the check.

A checkpoint's path is a function of its generation, so the pointer alone does not say which
weights lie there. Who takes the title is marked for good, and a marked folder is never replaced
(`flywheel.process.launch`, `flywheel.models.publish`); what is used is held against its hash.
"""

import json
import os
from dataclasses import asdict, dataclass

from flywheel.errors import ManifestError, PromotionError
from flywheel.lake.files import sync
from flywheel.layout import TITLE_MARK, Layout
from flywheel.models.publish import content_hash, verify

POINTER = "champion.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """The checkpoint in use."""

    generation: str
    checkpoint: str
    content_hash: str


def is_settled(layout: Layout, holder: Champion | None) -> bool:
    """Whether pointer and mark say what the ledger says."""
    path = layout.registry / POINTER
    pointed = path.read_text() if path.exists() else _pointer(None)
    return pointed == _pointer(holder) and not (holder and _unmarked(layout, holder))


def settle(layout: Layout, holder: Champion | None) -> None:
    """Mark the holder's folder and rewrite the pointer; the caller holds the ledger."""
    if is_settled(layout, holder):
        return
    if holder and _unmarked(layout, holder):
        folder = layout.root / holder.checkpoint
        (folder / TITLE_MARK).touch()
        sync(folder)
    path = layout.registry / POINTER
    draft = path.with_name(f".{POINTER}.draft")
    draft.write_text(_pointer(holder))
    sync(draft)
    os.replace(draft, path)
    sync(path.parent)


def check_weights(layout: Layout, who: Champion, remedy: str, *, files: bool = False) -> None:
    """Hold what lies in a checkpoint's folder against the hash that the ledger gives.

    Args:
        layout: The home.
        who: Whose folder.
        remedy: What to do where it holds something else.
        files: Read every file, and do not take the manifest's word for them.

    Raises:
        PromotionError: The folder is gone or holds other weights.
    """
    found = _content_hash(layout, who)
    if found != who.content_hash:
        raise PromotionError(
            f"{who.generation} was judged with the weights {who.content_hash[:12]}, but "
            f"{layout.root / who.checkpoint} holds {found[:12] or 'no checkpoint'}; {remedy}"
        )
    if files:
        folder = layout.root / who.checkpoint
        try:
            listed = verify(folder)["files"]
        except ManifestError as error:
            raise PromotionError(f"{error}; then {remedy}") from error
        if content_hash(listed) != found:
            raise PromotionError(
                f"the manifest of {folder} lists other files than those that hash to "
                f"{found[:12]}: it was edited; {remedy}"
            )


def _content_hash(layout: Layout, who: Champion) -> str:
    """What the folder's manifest says; empty where there is none."""
    path = layout.root / who.checkpoint / "manifest.json"
    try:
        return str(json.loads(path.read_text()).get("content_hash", ""))
    except (OSError, ValueError):
        return ""


def _unmarked(layout: Layout, who: Champion) -> bool:
    """Whether the weights that hold the title lie there without the mark."""
    mark = layout.root / who.checkpoint / TITLE_MARK
    return not mark.exists() and _content_hash(layout, who) == who.content_hash


def _pointer(holder: Champion | None) -> str:
    return json.dumps(asdict(holder) if holder else None, indent=2) + "\n"
