"""The ledger: every decision ever taken, kept as a chain; see `lake.chain` for how that is done."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from flywheel.lake.chain import Chain, Sealed
from flywheel.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Sealed):
    """One decision.

    Attributes:
        action: PROMOTE, HOLD or REJECT by the gate; APPROVE, DECLINE or ROLLBACK by a person;
            ADVANCE or STOP of a stage, by the statistic or by a person; STOP, too, just before an
            entry by which another challenger or champion takes the place of who is on a stage.
        awaiting: A promotion that waits for a person.
        champion: Generation of the champion after this entry; None where there is none.
        evidence: Path of the evaluation below the home, with its sha256.
        look: How the challenger was sampled: other samples are another draw of its luck. Empty in
            entries of a person, and of before it was written down.
        stage: Which the challenger is on from here, shadow or canary; empty where the entry gives
            the title, or neither.
    """

    action: str
    generation: str
    reasons: list[str]
    by: str
    awaiting: bool
    champion: str | None
    checkpoint: str
    content_hash: str
    evidence: str
    evidence_sha256: str
    look: str = ""
    stage: str = ""


class Ledger(Chain[Entry]):
    """The decisions of one home."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout.registry, "ledger", Entry)


def file_sha256(path: Path) -> str:
    """sha256 of a file of evidence."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
