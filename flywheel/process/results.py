"""The seal of a run's result: a hash beside it, made by who launched the run once it had ended.

It tells a file that was changed, or made by hand, from what the run wrote. Who rewrites both files
to match is not found out: keep copies.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

SUFFIX = ".sha256"


def seal(path: Path) -> None:
    """Keep the hash of a result beside it."""
    path.with_suffix(SUFFIX).write_text(_sha256(path.read_bytes()) + "\n")


def read_result(path: Path) -> tuple[dict[str, Any], str]:
    """A result, empty where there is none, and why it is not what its run wrote; empty where it is.

    Read once, so that what is returned is what was held against the seal.
    """
    try:
        data = path.read_bytes()
        result = dict(json.loads(data))
    except (OSError, ValueError, TypeError):
        return {}, f"{path} is gone or torn"
    beside = path.with_suffix(SUFFIX)
    if not beside.exists():
        return result, (
            f"{path} has no seal in {beside.name}: it is of before results were sealed, or no "
            f"launched run wrote it"
        )
    sealed, found = beside.read_text().strip(), _sha256(data)
    if sealed != found:
        return result, (
            f"{path} was changed since its run wrote it: its sha256 is {found[:12]}, and it was "
            f"sealed as {sealed[:12]}"
        )
    return result, ""


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
