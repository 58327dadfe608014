"""Upload: what is new in a home goes to its durable copy, and what is gone here goes there.

The home stays where work is done: dbt, training and people read local Parquet, and one machine
writes. A commit is written of a state that stood still from the first look to the last object put,
so that a ledger and its head, or a batch and its manifest, are of one moment.
"""

import socket
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from flywheel.errors import StoreError
from flywheel.layout import Layout
from flywheel.stores.commit import Commit, Entry, create, key_of, newest_commit, remove_old
from flywheel.stores.settings import StorageSettings
from flywheel.stores.state import (
    Journal,
    Known,
    Stamp,
    State,
    files_of,
    load_state,
    one_at_a_time,
    sha256_of,
    stamp_of,
    waiting,
)
from flywheel.stores.store import Store
from flywheel.stores.writer import agree, check_salt, salt_of, state_of, written_by_another

PASSES = 5  # looks at a home in which others are writing; each has only the newest to put
HANDS = 8  # puts at once: small objects wait for the network, not for the processor
BATCHES = "lake/batches/"
Log = Callable[[str], object]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """What an upload came to: objects and bytes put, files removed, and files in the commit."""

    address: str
    number: int
    uploaded: int
    uploaded_bytes: int
    removed: int
    files: int


def upload(
    layout: Layout, settings: StorageSettings, *, log: Log = print, remove: bool = False
) -> Uploaded:
    """Bring the durable copy up to this home.

    Args:
        layout: The home.
        settings: Where to, and which parts.
        log: Told of what was done.
        remove: Carry over even that most of what had landed is gone here.

    Raises:
        StoreUnreachable: The store does not answer; the next upload catches up.
        StoreError: It refuses, another home has written to it, or most of this home is gone.
    """
    with one_at_a_time(layout):
        state = state_of(layout, settings)
        try:
            done = _upload(layout, settings, state, remove, log)
        except StoreError as error:
            state.trouble, state.trouble_at = str(error), time.time()
            state.save(layout)
            raise
    if done.uploaded or done.removed:
        log(
            f"{done.address}: commit {done.number}, {done.uploaded} files "
            f"({done.uploaded_bytes:,} bytes) put, {done.removed} removed"
        )
    return done


def store_facts(layout: Layout) -> dict[str, Any] | None:
    """What this home knows of its durable copy, without asking the store; None without one."""
    state = load_state(layout)
    if state is None:
        return None
    return {
        "address": state.address,
        "commit": state.number,
        "at": state.at,
        "files": len(state.files),
        "bytes": sum(one.size for one in state.files.values()),
        "waiting": waiting(layout, state),
        "trouble": state.trouble,
        "trouble_at": state.trouble_at,
    }


def _upload(
    layout: Layout, settings: StorageSettings, state: State, remove: bool, log: Log
) -> Uploaded:
    store, journal = Store(settings.lake, settings), Journal(layout, settings.lake)
    newest, held = newest_commit(store), _keys(state.files)
    agree(state, newest)
    journal.begin(sorted(held - _keys(state.files)))  # of the commit before one just taken over
    check_salt(layout, state, newest)
    files, sizes = _put_what_is_new(layout, store, state, journal, log)
    gone = state.files.keys() - files.keys()
    if not remove:
        _check_gone(layout, state, files, gone)
    changed = {path for path, one in files.items() if _differs(one, state.files.get(path))}
    if changed or gone or not state.number:
        _commit(layout, store, state, files)
        journal.begin(sorted(_keys(state.files) - _keys(files)))
        state.number += 1
    state.files, state.trouble, state.trouble_at = files, "", 0.0
    state.save(layout)
    strays = sorted(journal.keys - _keys(files))
    journal.drop(strays)
    _each(store.remove, strays)
    journal.clear()
    if changed or gone:
        remove_old(store, state.number)
    return Uploaded(
        address=settings.lake,
        number=state.number,
        uploaded=len(sizes),
        uploaded_bytes=sum(sizes.values()),
        removed=len(gone),
        files=len(files),
    )


def _put_what_is_new(
    layout: Layout, store: Store, state: State, journal: Journal, log: Log
) -> tuple[dict[str, Known], dict[str, int]]:
    """Put until nothing changed meanwhile; the files as they stand, and bytes put by key."""
    put: dict[str, int] = {}
    known = dict(state.files)
    for _ in range(PASSES):
        found = files_of(layout, state.parts)
        files = _hashed(layout, found, known)
        if len(files) == len(found):
            todo = {
                key_of(path, one.sha256): path
                for path, one in files.items()
                if _differs(one, state.files.get(path))
            }
            new = {key: path for key, path in todo.items() if key not in journal.whole}
            journal.begin(sorted(new.keys() - journal.keys))

            def hand(item: tuple[str, str], files: dict[str, Known] = files) -> None:
                key, path = item
                if _put(layout, store, key, path, files[path]):
                    journal.end(key)
                    put[key] = files[path].size

            _each(hand, list(new.items()))
            if new.keys() <= journal.whole and files_of(layout, state.parts) == found:
                return files, put
        known |= files
    raise StoreError(
        f"{layout.root} did not stand still for {PASSES} looks, so that no commit could be "
        f"written; what was put is kept: run `flywheel upload` when less is going on"
    )


def _hashed(layout: Layout, found: dict[str, Stamp], known: dict[str, Known]) -> dict[str, Known]:
    """The files with their hashes, read where the stamp is another; what has just gone is left."""
    hashed = {}
    for path, stamp in found.items():
        before = known.get(path)
        if before and before.stamp == stamp:
            hashed[path] = before
            continue
        try:
            hashed[path] = Known(sha256_of(layout.root / path), stamp[1], stamp)
        except FileNotFoundError:
            continue
    return hashed


def _put(layout: Layout, store: Store, key: str, path: str, one: Known) -> bool:
    """Put one file; False where it is no longer what was hashed."""
    local = layout.root / path
    try:
        if stamp_of(local) == one.stamp:
            store.put(local, key)
    except StoreError:
        if stamp_of(local) is not None:
            raise
    return stamp_of(local) == one.stamp


def _differs(one: Known, before: Known | None) -> bool:
    return before is None or before.sha256 != one.sha256


def _check_gone(layout: Layout, state: State, files: dict[str, Known], gone: set[str]) -> None:
    """A folder that was emptied by mistake must not empty its copy."""
    before = sum(path.startswith(BATCHES) for path in state.files)
    lost = sum(path.startswith(BATCHES) for path in gone)
    left = sum(path.startswith(BATCHES) for path in files)
    if lost and (not left or (lost > 1 and 2 * lost >= before)):
        raise StoreError(
            f"{lost} of the {before} batches that {state.address} holds are gone from "
            f"{layout.root}; `flywheel restore` brings them back, and `flywheel upload --remove` "
            f"removes them there too"
        )


def _commit(layout: Layout, store: Store, state: State, files: dict[str, Known]) -> None:
    state.intent = uuid.uuid4().hex
    state.save(layout)
    commit = Commit(
        number=state.number + 1,
        id=state.intent,
        host=socket.gethostname(),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        salt=salt_of(layout),
        files=[
            Entry(path, key_of(path, one.sha256), one.sha256, one.size)
            for path, one in sorted(files.items())
        ],
    )
    if not create(store, commit):
        newest = newest_commit(store)
        if newest is None or newest.id != commit.id:  # ours where the answer to it was lost
            raise written_by_another(state, newest)
    state.commit_id, state.at = commit.id, commit.at
    state.new_salt = state.new_salt and not commit.salt


def _keys(files: dict[str, Known]) -> set[str]:
    return {key_of(path, one.sha256) for path, one in files.items()}


def _each(act: Callable[[T], object], items: list[T]) -> None:
    """Do something with each of many objects, several at once; the first error ends it."""
    with ThreadPoolExecutor(HANDS) as pool:
        try:
            for future in [pool.submit(act, one) for one in items]:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
