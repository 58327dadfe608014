"""Commits: what the durable copy holds, one numbered JSON object a change.

An object is named by its path below the home and the hash of its content, so that nothing that a
commit names is ever overwritten. The objects are put first, the commit last, and it is created
only where none of its number is there: whoever reads the newest commit sees a state that a home
once had, and of two homes that write, one is told.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath

from flywheel.errors import StoreError
from flywheel.stores.settings import PARTS
from flywheel.stores.store import Store

FOLDER = "commits"
KEPT = 20  # newest commits that stay, so that one who was slow still finds its number taken
HASH_LENGTH = 16  # hex digits of the sha256 that stand in a key; the commit holds all 64


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: its path below the home, the object that holds it, its hash and its bytes."""

    path: str
    key: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One state of a home.

    Attributes:
        id: Tells it from another home's commit of the same number.
        host: Machine that wrote it, for people.
        at: When, in UTC.
        salt: Fingerprint of the secret that annotators' pseudonyms are made with; empty where the
            home has none.
        files: Every file of the parts that are kept.
    """

    number: int
    id: str
    host: str
    at: str
    salt: str
    files: list[Entry]


def key_of(path: str, sha256: str) -> str:
    """Key of the object that holds one content of a file."""
    whole = PurePosixPath(path)
    return str(whole.with_name(f"{whole.stem}.{sha256[:HASH_LENGTH]}{whole.suffix}"))


def newest_commit(store: Store) -> Commit | None:
    """The commit that counts; None in a store that nobody has written to.

    Raises:
        StoreError: It is torn, or names a file outside what a home keeps.
    """
    names = [name for name in store.names(FOLDER) if name.endswith(".json")]
    if not names:
        return None
    key = f"{FOLDER}/{names[-1]}"
    content = store.read(key)
    if content is None:  # a writer removed it as too old, between two looks
        return newest_commit(store)
    try:
        facts = json.loads(content)
        facts["files"] = [Entry(**one) for one in facts["files"]]
        commit = Commit(**facts)
        for one in commit.files:
            _check(one)
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{store.address}/{key} is torn or of another version: {error}; remove it to go back "
            f"to the commit before, or bring it back from the store's own versions"
        ) from error
    return commit


def create(store: Store, commit: Commit) -> bool:
    """Write a commit; False where there is one of its number."""
    content = json.dumps(asdict(commit), indent=1).encode()
    return store.create(_key(commit.number), content)


def remove_old(store: Store, newest: int) -> None:
    """Remove the commits that nobody can be waiting on any more."""
    for name in store.names(FOLDER)[:-KEPT]:
        if name < _key(newest - KEPT + 1).rpartition("/")[2]:
            store.remove(f"{FOLDER}/{name}")


def _key(number: int) -> str:
    return f"{FOLDER}/{number:09d}.json"


def _check(entry: Entry) -> None:
    """A commit is written by a home, but read from where others may write."""
    names = entry.path.split("/")
    if any(name in ("", ".", "..") for name in names) or "\0" in entry.path:
        raise ValueError(f"the path {entry.path!r} leads out of a home")
    if not any(f"{entry.path}/".startswith(f"{top}/") for top in PARTS.values()):
        raise ValueError(f"the path {entry.path!r} is of no part of a home")
    if entry.key != key_of(entry.path, entry.sha256):
        raise ValueError(f"the object of {entry.path!r} is not named after its content")
