"""Which files there are to land: found recursively, known by their content, left alone while
somebody writes them.

That somebody still writes a file can be seen while it changes. A writer that pauses is told by
two signs that need no help from the system: the file changed a moment ago (`quiet_seconds`), or
it ends inside a line and changed less than `UNFINISHED_SECONDS` ago. Neither holds up a file
that a person names.
"""

import functools
import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
from blake3 import blake3

from flywheel.ingest.unit import BOM
from flywheel.layout import Layout

LINES = (".jsonl", ".ndjson", ".json", ".traj", ".csv", ".tsv")  # text; a torn table says so
SUFFIXES = {*LINES, ".parquet", ".pq"}  # each also .gz
KNOWN = ", ".join(sorted(SUFFIXES))
DRAFTS = (".part", ".partial", ".tmp", ".draft", ".crdownload", ".swp")
FRESH_SECONDS = 1.0  # a file younger than this is looked at twice
SETTLE_SECONDS = 0.25  # between the two looks, once for all fresh files together
UNFINISHED_SECONDS = 60.0  # after a minute of silence nobody ends the line: what is there lands
DRAFT = "its name ends like a draft; it lands once it is renamed"
SHA256 = "sha256:"  # before the hash of a file that an older release landed; BLAKE3 has none
FOREIGN = f"its name does not end like data ({KNOWN}); name the file to land it"
Left = Callable[[Path, str], object]  # told of a file that is left alone, and why
Older = Mapping[int, Container[str]]  # size of a file to such hashes of its content
Stamp = tuple[int, int, int, int]  # device, inode, size, time of the last change


@dataclass(frozen=True, slots=True)
class Settled:
    """A file that held still while it was read, and the hash that it is `known_as`."""

    path: Path
    stamp: Stamp
    hash: str

    @property
    def holds_still(self) -> bool:
        """Whether the file is still the one that was hashed."""
        return _stamp(self.path) == self.stamp


def _untold(path: Path, reason: str) -> None:
    """Tell nobody."""


def find_files(paths: Iterable[Path], left: Left = _untold) -> Iterator[Path]:
    """Every data file below `paths`, in order of name, each once.

    A file that is named itself is taken whatever its name; in a folder the name must end like
    data, so that a licence beside it is not taken for feedback. Names that end like a draft are
    left for later, and so are sockets, pipes and links to nowhere; `left` is told of all of
    these, and of names that begin with a dot nobody is. A symbolic link is followed; one that
    leads back to where it came from ends there.
    """
    seen: set[tuple[int, int]] = set()
    for path in paths:
        named = path.is_file()
        for one in _below(path, seen, left):
            if named or is_data(one.name):
                yield one
            else:
                left(one, FOREIGN)


def settled(
    paths: Iterable[Path],
    older: Older,
    left: Left = _untold,
    *,
    quiet_seconds: float = 0.0,
    named: Container[Path] = (),
) -> Iterator[Settled]:
    """Hash the files that hold still; `left` is told why another is left for the next time.

    Args:
        paths: Files.
        older: What batches are known by their SHA-256 still.
        left: Told of every file that is left, and why.
        quiet_seconds: A file that changed less than this ago is left.
        named: Files that are whole by somebody's word: they only have to hold still.
    """
    stamps = {path: stamp for path in paths if (stamp := _stamp(path))}
    if any(_is_fresh(stamp) for stamp in stamps.values()):
        time.sleep(SETTLE_SECONDS)
    for path, stamp in stamps.items():
        found = None
        try:
            if _stamp(path) == stamp:
                found = known_as(path, older)
        except OSError as error:
            left(path, f"it cannot be read: {error.strerror}; mend its permissions or remove it")
            continue
        if found is None or _stamp(path) != stamp:
            left(path, "it is still being written, and is left for the next time")
        elif path not in named and (sign := _sign_of_a_writer(path, stamp, quiet_seconds)):
            left(path, f"it may still be being written: {sign}")
        else:
            yield Settled(path, stamp, found)


def known_as(path: Path, older: Older) -> str:
    """The hash of what a file holds: BLAKE3, or the SHA-256 that an older manifest tells of it.

    Raises:
        OSError: It cannot be read.
    """
    stamp = _stamp_of(path.stat())
    hashed = _hashed.__wrapped__ if _is_fresh(stamp) else _hashed
    if before := older.get(stamp[2]):
        found = SHA256 + hashed(path, stamp, "sha256")
        if found in before:
            return found
    return hashed(path, stamp, blake3)


def by_content(paths: Iterable[Path], older: Older) -> dict[str, list[Path]]:
    """Files by the hash of what they hold at this moment; those that cannot be read aside."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        with suppress(OSError):
            found.setdefault(known_as(path, older), []).append(path)
    return found


def is_data(name: str) -> bool:
    """Whether a name ends like data, gzipped or not."""
    return Path(name.lower().removesuffix(".gz")).suffix in SUFFIXES


def source_of(path: Path, layout: Layout) -> str:
    """Name of a file's source: the first folder below the inbox, else the folder it lies in.

    Of an object that was fetched: the first folder below the address it was fetched from, else
    the last name of that address; of the Hugging Face hub the repository. Without the dots and
    underscores in front, which hide a folder of the lake from its readers.
    """
    absolute, root = Path(os.path.abspath(path)), Path(os.path.abspath(layout.inbox))
    if fetched := _fetched(absolute, layout):
        base, names = fetched
        inside = names[0] if len(names) > 1 else base.rpartition("/")[2]
        name = base.split("/")[4].split("@")[0] if _is_on_the_hub(base) else inside
    elif absolute.is_relative_to(root):
        parts = absolute.relative_to(root).parts
        name = parts[0] if len(parts) > 1 else absolute.name.split(".")[0]
    else:
        name = absolute.parent.name or absolute.name.split(".")[0]
    return readable(name).lstrip("._") or "unnamed"


def address_of(path: Path, layout: Layout) -> str | None:
    """Where an object was fetched from that lies at `path`; None for any other file."""
    fetched = _fetched(Path(os.path.abspath(path)), layout)
    return "/".join([fetched[0], *fetched[1]]) if fetched else None


def delivered_as(file: str, layout: Layout) -> Path:
    """Where the file of a batch lies or lay, by the name that its records give it."""
    if "://" in file and layout.fetched.exists():
        for folder in layout.fetched.iterdir():
            base = unquote(folder.name)
            if file.startswith(f"{base}/") and (path := folder / file[len(base) + 1 :]).exists():
                return path
    return layout.inbox / file


def readable(name: str) -> str:
    """A name of the file system as text that any table can hold."""
    return os.fsencode(name).decode("utf-8", "replace")


def _fetched(absolute: Path, layout: Layout) -> tuple[str, tuple[str, ...]] | None:
    """The address that an object was fetched from, and the names of its key below that."""
    root = Path(os.path.abspath(layout.fetched))
    if not absolute.is_relative_to(root) or absolute.parent == root:
        return None
    folder, *names = absolute.relative_to(root).parts
    return unquote(folder), tuple(names)


def _is_on_the_hub(base: str) -> bool:
    return base.startswith("hf://") and base.count("/") >= 4


def _below(path: Path, seen: set[tuple[int, int]], left: Left) -> Iterator[Path]:
    stamp = _stamp(path)
    if stamp is None:
        if path.is_symlink():
            left(path, "it is a link to nowhere")
        return  # or a file that has just gone
    if stamp[:2] in seen:
        return
    seen.add(stamp[:2])
    if path.is_dir():
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            if name.endswith(DRAFTS) and not name.startswith("."):
                left(path / name, DRAFT)
            elif not name.startswith("."):
                yield from _below(path / name, seen, left)
    elif path.is_file():
        yield path
    else:
        left(path, "it is neither a file nor a folder")


def _stamp(path: Path) -> Stamp | None:
    try:
        return _stamp_of(path.stat())
    except OSError:
        return None


def _stamp_of(facts: os.stat_result) -> Stamp:
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _is_fresh(stamp: Stamp) -> bool:
    return time.time() - stamp[3] / 1e9 < FRESH_SECONDS


def _sign_of_a_writer(path: Path, stamp: Stamp, quiet_seconds: float) -> str | None:
    """Why a file that holds still may yet be unfinished; None for one that may not."""
    age = time.time() - stamp[3] / 1e9
    if 0 <= age < quiet_seconds:  # below nothing: a clock is wrong, and would be for ever
        return f"it changed {age:.0f} s ago, and is left until it has been quiet {quiet_seconds} s"
    if 0 <= age < UNFINISHED_SECONDS and _ends_inside_a_line(path):
        return f"it ends inside a line, and is left until it has been quiet {UNFINISHED_SECONDS} s"
    return None


def _ends_inside_a_line(path: Path) -> bool:
    """Whether a file of text ends in a line that has no end and, if JSON, does not parse."""
    suffix = Path(path.name.lower()).suffix
    with path.open("rb") as file:
        if suffix not in LINES or not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        if file.read() == b"\n":
            return False
        if suffix in (".csv", ".tsv"):
            return True
        file.seek(0)
        (last,) = deque(file, maxlen=1)
    whole = [path.read_bytes()] if suffix in (".json", ".traj") else []
    return not any(map(_is_json, [last, *whole]))


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text.removeprefix(BOM), type=msgspec.Raw)
    except (ValueError, RecursionError):
        return False
    return True


@functools.lru_cache(maxsize=65_536)
def _hashed(path: Path, stamp: Stamp, how: str | Callable[[], Any]) -> str:
    """The hash of a file; a sensor asks for all of them every half minute."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, how).hexdigest()  # in parts of 256 KiB
