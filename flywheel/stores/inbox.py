"""Inboxes in object stores: what is new there is fetched and lands like a file of the inbox.

An object is whole or not there, so nobody waits for its writer; but its key can be written again,
and whether it is new is told by key, mark (ETag, blob id) and size, and in the end, as with every
file, by its content. Records name the address as their `file`; their `source` is the first folder
below the address that was named, else its own last name. What landed is removed from this disk;
what is blocked stays under `fetched/` until it lands, changes or is gone from its store.
"""

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.errors import StoreError, StoreUnreachable
from flywheel.ingest import BatchManifest, keep_left, land, left_alone, read_batches
from flywheel.ingest.batch import older
from flywheel.ingest.discover import DRAFT, DRAFTS, FOREIGN, SHA256, Older, is_data, known_as
from flywheel.lake import locked, write_table
from flywheel.layout import Layout
from flywheel.stores.settings import NAME_LIMIT, StorageSettings, is_address
from flywheel.stores.store import Found, Store

PORTION_BYTES = 2 * 2**30  # fetched and landed before the next is fetched: the disk it takes
PORTION_FILES = 1_000
INDEX = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("address", "mark", "hash")),
        pa.field("size", pa.int64()),
    ]
)
Log = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Landed:
    """What landed, and what of the stores that were asked went wrong."""

    batches: list[BatchManifest]
    troubles: list[str]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One object on its way: what its store says of it, and where it lies here."""

    address: str
    found: Found
    path: Path


def land_all(
    paths: Sequence[str],
    layout: Layout,
    settings: StorageSettings,
    *,
    log: Log = print,
    **how: Any,
) -> Landed:
    """Land files, folders and addresses; none means the inbox and the inboxes in stores.

    A store that fails keeps nothing else from landing. An address that somebody named must not
    fail in silence: that is an error once the rest has landed.

    Args:
        paths: Files, folders and addresses of objects or of folders in stores.
        layout: The home.
        settings: Inboxes in stores, and how stores are reached.
        log: Told of each file, and of what was left alone.
        how: What `flywheel.ingest.land` takes besides.

    Raises:
        FlywheelError: As `land`.
        StoreError: A named address cannot be read; StoreUnreachable where it may be later.
    """
    addresses = [path for path in paths if is_address(path)] if paths else settings.inbox
    files = [Path(path) for path in paths if not is_address(path)] if paths else [layout.inbox]
    batches = land(files, layout, log=log, **how) if files or not addresses else []
    left = left_alone(layout) if files else []
    errors: list[StoreError] = []
    for address in addresses:
        try:
            with _alone(layout):
                more, others = _land_address(address, layout, settings, log, how)
        except StoreError as error:
            log(str(error))
            errors.append(error)
            left.append({"file": address, "reason": str(error)})
        else:
            batches, left = batches + more, left + others
    if addresses:
        keep_left(layout, left)
    troubles = [str(error) for error in errors]
    if paths and errors:
        may_pass = all(isinstance(error, StoreUnreachable) for error in errors)
        raise (StoreUnreachable if may_pass else StoreError)("; ".join(troubles))
    return Landed(batches, troubles)


def new_objects(layout: Layout, settings: StorageSettings) -> list[str]:
    """What `land_all` would fetch now from the inboxes in stores: addresses with their marks.

    Raises:
        StoreError: A store cannot be listed.
    """
    index, seen = read_index(layout), {one.file_hash for one in read_batches(layout)}
    return [
        f"{one.address} {one.found.mark} {one.found.size}"
        for address in settings.inbox
        for one in _deliveries(Store(address, settings), layout)[0]
        if not (_is_known(one, index) and index[one.address][1] in seen)
    ]


def read_index(layout: Layout) -> dict[str, tuple[str, str, int]]:
    """What was fetched before: address to mark, hash of the content, and size."""
    if not layout.fetched_index.exists():
        return {}
    rows = pq.read_table(layout.fetched_index).to_pylist()
    for row in rows:
        if "sha256" in row:  # an older release wrote it
            row["hash"] = SHA256 + row["sha256"]
    return {row["address"]: (row["mark"], row["hash"], row["size"]) for row in rows}


def _land_address(
    address: str, layout: Layout, settings: StorageSettings, log: Log, how: dict[str, Any]
) -> tuple[list[BatchManifest], list[dict[str, str]]]:
    store = Store(address, settings)
    found, left = _deliveries(store, layout)
    is_folder = store.address == address.rstrip("/")
    index = _without_those_gone(layout, store, found) if is_folder else read_index(layout)
    batches: list[BatchManifest] = []
    landed = _landed(layout)
    before = older(read_batches(layout))
    for portion in _portions(
        one for one in found if not (_is_known(one, index) and index[one.address][1] in landed)
    ):
        here = []
        for one in portion:
            is_here = _is_known(one, index) and one.path.exists()
            if not is_here and (reason := _fetch(store, one, layout, index, before)):
                left.append({"file": one.address, "reason": reason})
                continue
            mark, content, size = index[one.address]
            if content.startswith(SHA256):  # fetched by an older release, which may not have landed
                index[one.address] = (mark, known_as(one.path, before), size)
            here.append(one)
        _save_index(layout, index)
        batches += land([one.path for one in here], layout, log=log, **how)
        left += left_alone(layout)
        landed = _landed(layout)
        for one in here:
            if index[one.address][1] in landed:
                one.path.unlink(missing_ok=True)
    return batches, left


def _deliveries(store: Store, layout: Layout) -> tuple[list[Delivery], list[dict[str, str]]]:
    """The objects that are data, and those that are left alone with the reason."""
    found, is_one = store.objects()
    base = store.address
    folder = layout.fetched / quote(base, safe="")
    taken, left = [], []
    for one in found:
        names = one.key.split("/")
        if one.key.endswith("/") or not one.key:
            continue  # what stands for an empty folder
        if reason := _unfit(one.key, names):
            left.append({"file": f"{base}/{one.key}", "reason": reason})
        elif any(name.startswith(".") for name in names):
            continue  # as in a folder
        elif not is_one and (reason := _unlike_data(names)):
            left.append({"file": f"{base}/{one.key}", "reason": reason})
        else:
            taken.append(Delivery(f"{base}/{one.key}", one, folder.joinpath(*names)))
    return taken, left


def _unfit(key: str, names: list[str]) -> str | None:
    """Why a key cannot be the path of a file below a folder."""
    if any(name in ("", ".", "..") for name in names) or "\0" in key:
        return "its key leads out of its folder, or through an empty name; put it under a plain one"
    if any(len(name.encode("utf-8", "surrogatepass")) > NAME_LIMIT for name in names):
        return f"a name in its key is longer than {NAME_LIMIT} bytes; put it under a shorter one"
    return None


def _unlike_data(names: list[str]) -> str | None:
    if any(name.endswith(DRAFTS) for name in names):
        return DRAFT
    return None if is_data(names[-1]) else FOREIGN


def _is_known(one: Delivery, index: dict[str, tuple[str, str, int]]) -> bool:
    """Whether this content of this key was fetched before."""
    mark, _, size = index.get(one.address, ("", "", -1))
    return bool(mark) and (mark, size) == (one.found.mark, one.found.size)


def _fetch(
    store: Store,
    one: Delivery,
    layout: Layout,
    index: dict[str, tuple[str, str, int]],
    before: Older,
) -> str | None:
    """Bring one object to its path; otherwise why not."""
    draft = layout.fetched / f".{uuid.uuid4().hex[:8]}.draft"
    draft.parent.mkdir(parents=True, exist_ok=True)
    try:
        key = one.found.key
        if not store.fetch(key, draft):
            return "it was removed while it was fetched"
        if store.mark_of(key) != one.found.mark or draft.stat().st_size != one.found.size:
            return "it was written again while it was fetched, and is left for the next time"
        content = known_as(draft, before)
        if one.found.changed_at:
            os.utime(draft, (one.found.changed_at,) * 2)
        one.path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(draft, one.path)
    except (NotADirectoryError, FileExistsError, IsADirectoryError):
        return "its key is also the folder of another object; put one of the two elsewhere"
    finally:
        draft.unlink(missing_ok=True)
    index[one.address] = (one.found.mark, content, one.found.size)
    return None


def _without_those_gone(
    layout: Layout, store: Store, found: list[Delivery]
) -> dict[str, tuple[str, str, int]]:
    """The index; what it and `fetched/` hold of objects that are no longer there is dropped."""
    index, here = read_index(layout), {one.address for one in found}
    below = f"{store.address}/"
    gone = [one for one in index if one.startswith(below) and one not in here]
    for address in gone:
        del index[address]
    kept = {one.path for one in found}
    folder = layout.fetched / quote(store.address, safe="")
    for path in folder.rglob("*") if folder.exists() else ():
        if path.is_file() and path not in kept:
            path.unlink()
    for draft in layout.fetched.glob(".*.draft"):
        draft.unlink(missing_ok=True)
    if gone:
        _save_index(layout, index)
    return index


def _save_index(layout: Layout, index: dict[str, tuple[str, str, int]]) -> None:
    rows = [
        {"address": address, "mark": mark, "hash": content, "size": size}
        for address, (mark, content, size) in sorted(index.items())
    ]
    write_table(pa.Table.from_pylist(rows, INDEX), layout.fetched_index)


def _portions(found: Iterator[Delivery]) -> Iterator[list[Delivery]]:
    portion: list[Delivery] = []
    size = 0
    for one in found:
        if portion and (size + one.found.size > PORTION_BYTES or len(portion) == PORTION_FILES):
            yield portion
            portion, size = [], 0
        portion.append(one)
        size += one.found.size
    if portion:
        yield portion


def _landed(layout: Layout) -> set[str]:
    return {one.file_hash for one in read_batches(layout) if not one.blocked}


@contextmanager
def _alone(layout: Layout) -> Iterator[None]:
    """One fetch at a time in a home; another waits for its turn."""
    with locked(layout.fetched / ".lock"):
        yield
