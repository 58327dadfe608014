"""Files that a landing left alone, and why: kept as `lake/left.json` until the next landing."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from flywheel.errors import LakeError
from flywheel.ingest.discover import address_of, readable
from flywheel.layout import Layout

TOLD = 20  # files that the log names; the rest of a folder of pictures is a number


class LeftAlone:
    """Gathers the files of one landing that are left alone, and tells of the first of them."""

    def __init__(self, layout: Layout, log: Callable[[str], object]) -> None:
        _path(layout).unlink(missing_ok=True)  # of a landing that fails nothing is known
        self._layout, self._log = layout, log
        self._files: list[dict[str, str]] = []

    def __call__(self, path: Path, reason: str) -> None:
        """Note one file."""
        file = shown(path, self._layout)
        self._files.append({"file": file, "reason": reason})
        if len(self._files) <= TOLD:
            self._log(f"{file} is left alone: {reason}")

    def save(self) -> None:
        """Keep the list for `left_alone`, also where it is empty."""
        if len(self._files) > TOLD:
            self._log(f"{len(self._files)} files in all are left alone")
        keep_left(self._layout, self._files)


def keep_left(layout: Layout, files: list[dict[str, str]]) -> None:
    """Keep a list for `left_alone`: `file` as it is shown, and the `reason`."""
    path = _path(layout)
    draft = path.with_name(f".{path.name}.draft")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft.write_text(json.dumps(files, indent=1) + "\n")
    os.replace(draft, path)


def left_alone(layout: Layout) -> list[dict[str, str]]:
    """What the newest landing left alone: `file` as it is shown, and the `reason`.

    Raises:
        LakeError: The list is torn.
    """
    path = _path(layout)
    try:
        return list(json.loads(path.read_text())) if path.exists() else []
    except ValueError as error:
        raise LakeError(f"{path} is torn: {error}; land again, which writes it anew") from error


def shown(path: Path, layout: Layout) -> str:
    """A file's name for people: below the inbox where it lies there, its address in a store."""
    if address := address_of(path, layout):
        return readable(address)
    absolute, inbox = Path(os.path.abspath(path)), Path(os.path.abspath(layout.inbox))
    inside = absolute.is_relative_to(inbox)
    return readable(str(absolute.relative_to(inbox) if inside else absolute))


def _path(layout: Layout) -> Path:
    return layout.lake / "left.json"
