"""What was erased, by whom and why: a sealed entry for each erasure, without what it took away.

`registry/erasures.jsonl`, a chain as the ledger of decisions is one. What was asked for is named by
a hash that only this home can make, so that who asks again can be told, and nobody else is named.
"""

from dataclasses import dataclass, field
from typing import Any

from flywheel.lake.chain import Chain, Sealed
from flywheel.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure(Sealed):
    """One erasure, or one clearing of served logs whose time was over.

    Attributes:
        what: record, annotator, user or subject; "retention" where a time was over.
        subject: Keyed hash of the name; empty of a retention.
        by: Who asked for it.
        reason: Why.
        removed: How many rows, lines and files, by the place that they were taken from.
        checkpoints: Those that had a removed record in a step: id, content hash, records, times.
        descendants: Ids of checkpoints that started from one of those.
        left: What still holds some of it, and what to do.
    """

    what: str
    subject: str
    by: str
    reason: str
    removed: dict[str, int]
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    descendants: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class Erasures(Chain[Erasure]):
    """The erasures of one home."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout.registry, "erasures", Erasure)
