"""What was served, on disk: `var/served/<date>-<pid>.jsonl`, appended to and never rewritten.

One line is one answer, and it is on the disk before anybody sees the answer. Its fields:

* `response_id`: signed, so that nobody can make one up (`flywheel.serve.ids`);
* `at`: UTC; `latency_ms` of the answer up to this line;
* `generation`, `checkpoint_kind` ("policy") and `content_hash`: whose weights answered;
* `stage`: champion, canary or shadow; `propensity`: the chance with which this user's answers come
  from there; `shadow_of`: of a shadow, the answer that was shown;
* `user`: pseudonym, null where the request names none;
* `prompt_key`: as landing computes it; `request`: messages and what sampling was asked for;
  `response`: text; `token_ids` and `logprobs` as sampled; `prompt_tokens`, `response_tokens`;
* `finish_reason`: stop, length or cancelled, where whoever asked was gone;
* `consent`: whether it may be kept. Where it may not, `user`, `prompt_key`, `request`, `response`,
  `token_ids` and `logprobs` are null, and numbers are all there is;
* `personal_data`: kinds that were taken out before the line was written. Then there are no token
  ids: they would tell;
* `scores` and `judge`: of a shadow, what the reward model of that content hash gives both answers.

An answer that was cut off while it was being shown is written again, with another finish_reason:
the last line of a response_id counts. A line torn by a kill was never shown; it is counted, and
the line after it stands on its own.
"""

import json
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flywheel.errors import ServeError

Row = dict[str, Any]


class ServedLog:
    """The lines of this process in one folder: a file a day."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._file = -1
        self._path = Path()
        self._torn = False

    def append(self, *rows: Row) -> None:
        """Write whole lines with one write, and have them on the disk before going on.

        Raises:
            ServeError: They could not be written; nothing of them counts.
        """
        lines = b"".join(json.dumps(row, allow_nan=False).encode() + b"\n" for row in rows)
        with self._lock:
            try:
                self._open()
                data = b"\n" + lines if self._torn else lines
                self._torn = True
                if os.write(self._file, data) != len(data):
                    raise OSError("the disk is full")
                os.fsync(self._file)
                self._torn = False
            except OSError as error:
                raise ServeError(
                    f"cannot write to {self._path}: {error.strerror or error}; free some space or "
                    f"mend the folder's permissions: nothing is answered that is not logged"
                ) from error

    def close(self) -> None:
        """Let the file go."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _open(self) -> None:
        """Today's file; what a kill left torn in it gets an end, so that the next line stands."""
        path = self._folder / f"{name_of(datetime.now(UTC))}.jsonl"
        if path == self._path and self._file >= 0:
            return
        if self._file >= 0:
            os.close(self._file)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        size = os.fstat(self._file).st_size
        self._torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"
        folder = os.open(self._folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def name_of(at: datetime) -> str:
    """`<date>-<pid>`: the file that this process writes to on a day."""
    return f"{at:%Y-%m-%d}-{os.getpid()}"


@dataclass(slots=True)
class Rows:
    """The lines of a folder as they are read; `torn` counts those that a kill left."""

    folder: Path
    since: str = ""  # a date: files of days before it are not read
    torn: int = 0

    def __iter__(self) -> Iterator[Row]:
        self.torn = 0
        for path in sorted(self.folder.glob("[0-9]*.jsonl")):
            if path.name >= self.since:
                yield from self.of(path)

    def of(self, path: Path) -> Iterator[Row]:
        """The lines of one file."""
        with path.open("rb") as file:
            yield from self.parsed(file)

    def parsed(self, lines: Iterable[bytes]) -> Iterator[Row]:
        """Lines as rows."""
        for line in lines:
            row = _parsed(line)
            if row is not None:
                yield row
            elif line.strip():
                self.torn += 1


def _parsed(line: bytes) -> Row | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def whole_lines(path: Path, offset: int) -> bytes:
    """The lines of a file from a place on, without one that is still being written."""
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    return data[: data.rfind(b"\n") + 1]
