"""Restore: an empty home, or one that is behind, is brought up to its durable copy.

Nothing that was said here is lost: a home that holds batches, datasets or decisions which the copy
does not know is left as it is. Files are put in place whole, manifests of batches last, and each
is compared with its hash before; a restore that was cut off goes on where it stopped.
"""

import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from flywheel.errors import StoreError
from flywheel.lake.files import sync
from flywheel.layout import Layout
from flywheel.stores.commit import Commit, Entry, newest_commit
from flywheel.stores.settings import PARTS, StorageSettings
from flywheel.stores.state import (
    Journal,
    Known,
    State,
    files_of,
    load_state,
    one_at_a_time,
    sha256_of,
    stamp_of,
)
from flywheel.stores.store import Store
from flywheel.stores.upload import BATCHES, HANDS
from flywheel.stores.writer import salt_of

REBUILDABLE = ("lake/derived/", "lake/fetched.parquet")  # inferred or fetched again: no loss
Log = Callable[[str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore came to: files and bytes fetched, files removed, and files in the commit."""

    address: str
    number: int
    fetched: int
    fetched_bytes: int
    removed: int
    files: int


def restore(
    layout: Layout, settings: StorageSettings, *, log: Log = print, new_salt: bool = False
) -> Restored:
    """Bring a home up to the newest commit of its durable copy.

    Args:
        layout: The home, empty or behind.
        settings: Where from.
        log: Told of what was done.
        new_salt: Do without the old `annotators.salt`: a person whose address is hidden behind a
            pseudonym gets another one in what lands from now on.

    Raises:
        StoreUnreachable: The store does not answer.
        StoreError: There is nothing, an object is torn, the home holds what the copy does not
            know, or the secret of its pseudonyms is missing.
    """
    with one_at_a_time(layout):
        store = Store(settings.lake, settings)
        commit = newest_commit(store)
        if commit is None:
            raise StoreError(
                f"{settings.lake} holds no commit; mend [storage] lake in settings.toml, or "
                f"`flywheel upload` writes the first one"
            )
        _check_salt(layout, commit, new_salt)
        known = load_state(layout)
        base = known.files if known and known.address == settings.lake else {}
        parts = [name for name, top in PARTS.items() if _is_kept(name, top, settings, commit)]
        here = _hashed(layout, parts, base)
        _check_known(layout, settings, commit, base, here)
        fetched = _fetch(layout, store, commit, here)
        gone = sorted((base.keys() & here.keys()) - {one.path for one in commit.files})
        for path in gone:
            (layout.root / path).unlink(missing_ok=True)
        _note(layout, settings, store, commit, new_salt)
    log(f"{settings.lake}: commit {commit.number}, {len(fetched)} files fetched")
    return Restored(
        address=settings.lake,
        number=commit.number,
        fetched=len(fetched),
        fetched_bytes=sum(one.size for one in fetched),
        removed=len(gone),
        files=len(commit.files),
    )


def _check_salt(layout: Layout, commit: Commit, new_salt: bool) -> None:
    here = salt_of(layout)
    brought = any(one.path == PARTS["salt"] for one in commit.files)
    if not commit.salt or here == commit.salt or (not here and (brought or new_salt)):
        return
    path = layout.root / PARTS["salt"]
    finding = "is another one" if here else "is missing, and the copy does not hold it"
    raise StoreError(
        f"{path}, the secret that annotators' pseudonyms are made with, {finding}; put that of "
        f"the old home there, or, if it is lost, remove it and restore with --new-salt: who was "
        f"known by a pseudonym then gets a second one"
    )


def _is_kept(name: str, top: str, settings: StorageSettings, commit: Commit) -> bool:
    return name in settings.parts or any(one.path.startswith(top) for one in commit.files)


def _hashed(layout: Layout, parts: list[str], base: dict[str, Known]) -> dict[str, str]:
    """Hashes of what lies here of some parts."""
    found = files_of(layout, parts)
    return {
        path: one.sha256
        if (one := base.get(path)) and one.stamp == stamp
        else sha256_of(layout.root / path)
        for path, stamp in found.items()
    }


def _check_known(
    layout: Layout,
    settings: StorageSettings,
    commit: Commit,
    base: dict[str, Known],
    here: dict[str, str],
) -> None:
    """Refuse where something would be overwritten that only this home holds."""
    there = {one.path: one.sha256 for one in commit.files}
    tops = {PARTS[name] for name in settings.parts} - {PARTS["salt"]}
    own = [
        path
        for path, sha256 in here.items()
        if any(path.startswith(f"{top}/") for top in tops)
        and not path.startswith(REBUILDABLE)
        and sha256 != there.get(path)
        and not (path in base and base[path].sha256 == sha256)
    ]
    if own:
        raise StoreError(
            f"{layout.root} holds {len(own)} files that {settings.lake} does not know, such as "
            f"{own[0]}; a restore would not keep them. Restore into an empty home (FLYWHEEL_HOME) "
            f"and land there again what this one landed since"
        )


def _fetch(layout: Layout, store: Store, commit: Commit, here: dict[str, str]) -> list[Entry]:
    """Fetch what is not here, manifests of batches last; what was fetched."""
    missing = [one for one in commit.files if here.get(one.path) != one.sha256]
    manifests = [one for one in missing if one.path.startswith(BATCHES)]
    rest = [one for one in missing if not one.path.startswith(BATCHES)]
    for files in (rest, manifests):
        with ThreadPoolExecutor(HANDS) as pool:
            try:
                for future in [pool.submit(_fetch_one, layout, store, one) for one in files]:
                    future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    return missing


def _fetch_one(layout: Layout, store: Store, entry: Entry) -> None:
    path = layout.root / entry.path
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid.uuid4().hex[:8]}.draft")
    try:
        if not store.fetch(entry.key, draft) or (found := sha256_of(draft)) != entry.sha256:
            told = "is gone" if not draft.exists() else f"has sha256 {found}, not {entry.sha256}"
            raise StoreError(
                f"{store.address}/{entry.key} {told}; if its home is writing now, restore again, "
                f"else bring it back from the store's own versions"
            )
        if entry.path == PARTS["salt"]:
            draft.chmod(0o600)
        sync(draft)
        os.replace(draft, path)
        sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _note(
    layout: Layout, settings: StorageSettings, store: Store, commit: Commit, new_salt: bool
) -> None:
    """Remember what the copy holds, and what lies there that no commit names."""
    files = {
        one.path: Known(one.sha256, one.size, stamp_of(layout.root / one.path))
        for one in commit.files
    }
    wanted = {one.key for one in commit.files}
    strays = [one.key for one in store.objects()[0] if one.key not in wanted]
    journal = Journal(layout, settings.lake)
    journal.begin([key for key in strays if not key.startswith("commits/")])
    State(
        address=settings.lake,
        parts=list(settings.parts),
        number=commit.number,
        commit_id=commit.id,
        files=files,
        at=commit.at,
        new_salt=new_salt,
    ).save(layout)
