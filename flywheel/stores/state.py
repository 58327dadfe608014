"""What a home knows of its durable copy: `store/state.json`, and the journal of an upload.

The journal holds one line an object: `+` and its key before it is put, `=` once it lies there
whole, `-` before it is removed; its last line counts. From it the next run knows, after a kill,
what need not be put again, and which objects no commit names (strays), to be removed after the
next one.
"""

import hashlib
import json
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flywheel.errors import StoreError
from flywheel.ingest import only_committed
from flywheel.lake import locked
from flywheel.lake.files import sync
from flywheel.layout import Layout
from flywheel.stores.settings import PARTS

Stamp = tuple[int, int, int]  # inode, size, time of the last change
LOCAL = ("left.json", "alerts.jsonl")  # told of this machine's last landing and of its runs


@dataclass(slots=True)
class Known:
    """One file as it lies in the store, and the stamp of the local file that it was read from."""

    sha256: str
    size: int
    stamp: Stamp | None


@dataclass(slots=True)
class State:
    """The durable copy as this home last saw it.

    Attributes:
        number: Of the newest commit that this home wrote or restored; 0 before the first.
        commit_id: Its id; another commit of that number is another home's.
        intent: Id of the commit that was about to be written when this was saved.
        files: What that commit holds, by path below the home.
        new_salt: The secret of pseudonyms may be another than that commit's.
        trouble: Why the last upload failed; empty after one that did not.
    """

    address: str
    parts: list[str]
    number: int = 0
    commit_id: str = ""
    intent: str = ""
    files: dict[str, Known] = field(default_factory=dict)
    at: str = ""
    new_salt: bool = False
    trouble: str = ""
    trouble_at: float = 0.0

    def save(self, layout: Layout) -> None:
        """Put the state in place, whole."""
        layout.store.mkdir(parents=True, exist_ok=True)
        draft = layout.store / f".{uuid.uuid4().hex[:8]}.draft"
        draft.write_text(json.dumps(asdict(self)))
        sync(draft)
        os.replace(draft, layout.store / "state.json")


def load_state(layout: Layout) -> State | None:
    """What this home knows; None where it never spoke to a store.

    Raises:
        StoreError: The file is torn.
    """
    path = layout.store / "state.json"
    try:
        facts: dict[str, Any] = json.loads(path.read_text())
        files = {
            name: Known(one["sha256"], one["size"], _stamp_of(one["stamp"]))
            for name, one in facts.pop("files").items()
        }
        return State(**facts, files=files)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{path} is torn: {error}; remove it, and `flywheel restore` finds out again what the "
            f"store holds"
        ) from error


class Journal:
    """The objects that were put at one address since the last commit."""

    def __init__(self, layout: Layout, address: str) -> None:
        self._path, self._lock = layout.store / "journal", threading.Lock()
        self._head = f"@{address}\n"
        text = self._path.read_text() if self._path.exists() else ""
        lines = text.splitlines()[1:] if text.startswith(self._head) else []
        if not lines:
            self._path.unlink(missing_ok=True)
        last = {line[1:]: line[:1] for line in lines}
        self.keys = set(last)
        self.whole = {key for key, sign in last.items() if sign == "="}

    def begin(self, keys: list[str]) -> None:
        """Note objects that are about to be put, or that no commit names."""
        self.keys.update(keys)
        self.whole.difference_update(keys)
        self._write("+", keys)

    def end(self, key: str) -> None:
        """Note an object that lies there whole."""
        self.whole.add(key)
        self._write("=", [key])

    def drop(self, keys: list[str]) -> None:
        """Note objects that are about to be removed: they lie there whole no longer."""
        self.whole.difference_update(keys)
        self._write("-", keys)

    def clear(self) -> None:
        """Forget all of it: what is not wanted has been removed."""
        self.keys.clear()
        self.whole.clear()
        self._path.unlink(missing_ok=True)

    def _write(self, sign: str, keys: list[str]) -> None:
        if not keys:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, self._path.open("a") as file:
            file.write("" if file.tell() else self._head)
            file.writelines(f"{sign}{key}\n" for key in keys)
            file.flush()
            os.fsync(file.fileno())


def files_of(layout: Layout, parts: list[str]) -> dict[str, Stamp]:
    """Every file of the named parts by its path below the home, as they stand at one moment.

    No draft, no lock, no empty table, and no rows of a landing that is under way or was killed.
    """
    with only_committed(layout) if "lake" in parts else nullcontext():
        return _files_of(layout, parts)


def waiting(layout: Layout, state: State) -> int:
    """How many files changed, came or went since the last commit; without asking the store."""
    now = _files_of(layout, state.parts)
    known = {path: one.stamp for path, one in state.files.items()}
    return len(dict(now.items() ^ known.items()))


def sha256_of(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp_of(path: Path) -> Stamp | None:
    """What changes when a file does; None where it is gone."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


@contextmanager
def one_at_a_time(layout: Layout) -> Iterator[None]:
    """One upload or restore at a time in a home; another waits for its turn."""
    with locked(layout.store / ".lock"):
        yield


def _files_of(layout: Layout, parts: list[str]) -> dict[str, Stamp]:
    found = {}
    for part in parts:
        top = layout.root / PARTS[part]
        for path in [top] if top.is_file() else _below(top):
            if stamp := stamp_of(path):
                found[path.relative_to(layout.root).as_posix()] = stamp
    return found


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] not in "._"]
        for name in names:
            if name[0] not in "._" and name not in LOCAL and not name.endswith(".lock"):
                yield Path(place, name)


def _stamp_of(values: list[int] | None) -> Stamp | None:
    if values is None:
        return None
    inode, size, changed = values
    return inode, size, changed
