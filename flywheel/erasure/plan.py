"""What one erasure takes away: written down whole before the first of it goes.

A plan names records, lines and places, and repeats no text, but for manifests of batches as they
will be. It lies in the restricted folder until everything in it is done, so that an erasure that
was killed goes on where it stopped: each step looks for what is left of its part.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flywheel.errors import ErasureError
from flywheel.lake import locked
from flywheel.layout import Layout
from flywheel.privacy.originals import open_restricted, write_private

Spans = list[tuple[int, int]]  # offset and length of lines in a file


@dataclass(kw_only=True)
class Plan:
    """What goes, and what is written down of it.

    Attributes:
        number: Of its entry in the ledger of erasures.
        what: record, annotator, user or subject.
        subject: Keyed hash of the name.
        at: When it was asked for, UTC.
        uids: Records that go.
        raw: Batch to numbers of the lines of raw sources that go.
        quarantined: Batch to numbers of quarantined lines that go.
        manifests: Batch to its manifest as it will be.
        spans: File below the home to the lines of it that are blanked.
        hashes: File of the inbox to the BLAKE3 that it has once they are: another is left alone.
        prompt_keys: Prompts that no other record asks.
        datasets: Frozen datasets that hold one of the records.
        removed: How much goes, by place.
        checkpoints: Those that had one of the records in a step.
        descendants: Ids of checkpoints that started from one of those.
        left: What will hold some of it still.
    """

    number: int
    what: str
    subject: str
    by: str
    reason: str
    at: str
    uids: list[str] = field(default_factory=list)
    raw: dict[str, list[int]] = field(default_factory=dict)
    quarantined: dict[str, list[int]] = field(default_factory=dict)
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)
    spans: dict[str, Spans] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    prompt_keys: list[str] = field(default_factory=list)
    datasets: list[str] = field(default_factory=list)
    removed: dict[str, int] = field(default_factory=dict)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    descendants: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to take away."""
        return not self.removed

    def save(self, layout: Layout) -> None:
        """Write it down, on the disk before going on."""
        open_restricted(layout)
        write_private(path_of(layout), json.dumps(asdict(self)).encode())


def path_of(layout: Layout) -> Path:
    """Where the plan of an erasure that is under way lies."""
    return layout.restricted / "erasure.json"


def read_plan(layout: Layout) -> Plan | None:
    """The plan of an erasure that has begun and not ended.

    Raises:
        ErasureError: It cannot be read.
    """
    path = path_of(layout)
    try:
        return Plan(**json.loads(path.read_text())) if path.exists() else None
    except (ValueError, TypeError) as error:
        raise ErasureError(
            f"{path} is no plan of an erasure: {error}; remove it and give the command again, "
            f"which looks for everything anew"
        ) from error


def pending(layout: Layout) -> str:
    """What there is to say of an erasure that has begun and not ended; empty where none has."""
    plan = read_plan(layout)
    if plan is None:
        return ""
    return (
        f"an erasure that {plan.by} asked for at {plan.at} was cut off; give the same command "
        f"again, or wait for the nightly job: either finishes it"
    )


@contextmanager
def alone(layout: Layout) -> Iterator[None]:
    """One erasure at a time in a home, and no clearing of logs beside it."""
    with locked(layout.registry / ".erasing.lock"):
        yield
