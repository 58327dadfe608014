"""What an evaluation set asks, as one hash, and which sets an evaluation asked.

The sets themselves and their versions are `registry.py`'s; here is what a process that evaluates
knows of them: rows, and what they were entered as.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from flywheel.errors import EvaluationError
from flywheel.process.content import code_of, content_of

Row = dict[str, Any]
CONTENT = ("prompt_key", "prompt", "grader", "reference", "domain", "source", "licence")


def asked_of(rows: Sequence[Row], entered: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The identity of each set among the rows that an evaluation asks, by name.

    Args:
        rows: Of the evaluation dataset, all of them.
        entered: What the sets of this dataset were entered as.

    Raises:
        EvaluationError: A set is not the one that was entered.
    """
    named = {one["name"]: one for one in entered}
    for name, mine in by_set(rows).items():
        found = content_hash_of(mine)
        expected = named.get(name, {}).get("content_hash", "none")
        if found != expected:
            raise EvaluationError(
                f"evaluation set {name!r} has content {found[:12]}, and {expected[:12]} was "
                f"entered for this generation: a prompt, a reference or the code of a grader has "
                f"changed; materialize evaluation_sets again, which makes a new version of it"
            )
    return named


def by_set(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by the set that they name, each in the order of prompt keys."""
    found: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: str(row["prompt_key"])):
        if row.get("evaluation_set"):
            found.setdefault(row["evaluation_set"], []).append(row)
    return found


def content_hash_of(rows: Sequence[Row], code: dict[str, str] | None = None) -> str:
    """Hash of what is asked, expected and graded; of the graders' code as it is, if not given."""
    ordered = sorted(rows, key=lambda row: str(row["prompt_key"]))
    digest = hashlib.sha256()
    for row in ordered:
        digest.update(json.dumps([row.get(name) for name in CONTENT]).encode() + b"\n")
    told = code_hashes(ordered) if code is None else code
    digest.update(json.dumps(sorted(told.items())).encode())
    return digest.hexdigest()


def code_hashes(rows: Sequence[Row]) -> dict[str, str]:
    """Hash of the file behind each grader "module:function"."""
    named = sorted({row["grader"] for row in rows if ":" in (row.get("grader") or "")})
    return {name: content_of(path) for name in named if (path := code_of(name))}
