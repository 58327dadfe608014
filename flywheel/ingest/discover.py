"""Which files there are to land: found recursively, known by their content, left alone while
somebody writes them.
"""

import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = {".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".pq"}  # each also .gz
DRAFTS = (".part", ".partial", ".tmp", ".draft", ".crdownload", ".swp")
FRESH_SECONDS = 1.0  # a file younger than this is looked at twice
SETTLE_SECONDS = 0.25  # between the two looks, once for all fresh files together
Stamp = tuple[int, int, int, int]  # device, inode, size, time of the last change


@dataclass(frozen=True, slots=True)
class Settled:
    """A file that held still while it was read, and the sha256 of what it held."""

    path: Path
    stamp: Stamp
    sha256: str

    @property
    def holds_still(self) -> bool:
        """Whether the file is still the one that was hashed."""
        return _stamp(self.path) == self.stamp


def find_files(
    paths: Iterable[Path], other: Callable[[Path], object] | None = None
) -> Iterator[Path]:
    """Every data file below `paths`, in order of name, each once.

    A file that is named itself is taken whatever its name; in a folder the name must end like
    data, so that a licence beside it is not taken for feedback; `other` is told of the rest.
    Names that begin with a dot or end like a draft are left for later, and so are sockets and
    pipes. A symbolic link is followed; one that leads back to where it came from ends there.
    """
    seen: set[tuple[int, int]] = set()
    for path in paths:
        named = path.is_file()
        for one in _below(path, seen):
            if named or Path(one.name.lower().removesuffix(".gz")).suffix in SUFFIXES:
                yield one
            elif other:
                other(one)


def settled(
    paths: Iterable[Path], left: Callable[[str], object] = lambda _: None
) -> Iterator[Settled]:
    """Hash the files that hold still; `left` is told why another is left for the next time."""
    stamps = {path: stamp for path in paths if (stamp := _stamp(path))}
    if any(_is_fresh(stamp) for stamp in stamps.values()):
        time.sleep(SETTLE_SECONDS)
    for path, stamp in stamps.items():
        digest = None
        try:
            if _stamp(path) == stamp:
                digest = (_digest.__wrapped__ if _is_fresh(stamp) else _digest)(path, stamp)
        except OSError as error:
            left(f"{path} cannot be read: {error.strerror}; mend its permissions or remove it")
            continue
        if digest is None or _stamp(path) != stamp:
            left(f"{path.name} is still being written; it is left for the next time")
        else:
            yield Settled(path, stamp, digest)


def source_of(path: Path, inbox: Path) -> str:
    """Name of a file's source: the first folder below the inbox, else the folder it lies in."""
    absolute, root = Path(os.path.abspath(path)), Path(os.path.abspath(inbox))
    if absolute.is_relative_to(root):
        parts = absolute.relative_to(root).parts
        name = parts[0] if len(parts) > 1 else absolute.name.split(".")[0]
    else:
        name = absolute.parent.name or absolute.name.split(".")[0]
    return readable(name)


def readable(name: str) -> str:
    """A name of the file system as text that any table can hold."""
    return os.fsencode(name).decode("utf-8", "replace")


def _below(path: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    stamp = _stamp(path)
    if stamp is None or stamp[:2] in seen:
        return  # a link to nowhere or to itself, a file that has just gone, or seen already
    seen.add(stamp[:2])
    if path.is_dir():
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            if not name.startswith(".") and not name.endswith(DRAFTS):
                yield from _below(path / name, seen)
    elif path.is_file():
        yield path


def _stamp(path: Path) -> Stamp | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _is_fresh(stamp: Stamp) -> bool:
    return time.time() - stamp[3] / 1e9 < FRESH_SECONDS


@functools.lru_cache(maxsize=65_536)
def _digest(path: Path, stamp: Stamp) -> str:
    """The sha256 of a file; a sensor asks for all of them every half minute."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
