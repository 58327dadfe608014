"""The desk's stamp: what every record of the sample world carries beside its content."""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from flywheel.sample.annotators import Annotator
from flywheel.sample.world import Request
from flywheel.sample.writers import Demonstrator

SOURCE = "sample-refund-desk"
LICENCE = "CC0-1.0"
ASSISTANT = "desk-assistant-0"  # the simulated earlier assistant whose replies are judged
OPENED_AT = datetime(2025, 1, 6, 8, tzinfo=UTC)  # the desk's first working day


class Desk:
    """Numbers the records of one delivery and stamps them with time and origin."""

    def __init__(self, rng: Random, *, prefix: str) -> None:
        self.rng = rng
        self.prefix = prefix
        self.count = 0

    def stamp(
        self, request: Request, annotator: Annotator | Demonstrator | None, *, effort: float = 1.0
    ) -> dict[str, Any]:
        """The common fields of a record about this request, by this person."""
        self.count += 1
        stamp: dict[str, Any] = {
            "id": f"{self.prefix}-{self.count:05d}",
            "prompt": request.text,
            "source": SOURCE,
            "licence": LICENCE,
            "domain": request.domain,
            "occurred_at": OPENED_AT + timedelta(minutes=3 * self.count),
            "metadata": {"simulated": True},
        }
        if isinstance(annotator, Demonstrator):
            stamp |= {
                "guideline_version": annotator.guideline,
                "seconds": round(self.rng.uniform(60, 120), 1),
                "cost_usd": 0.9,
            }
        elif annotator is not None:
            stamp |= {
                "guideline_version": "v2",
                "seconds": round(effort * annotator.seconds * self.rng.uniform(0.6, 1.4), 1),
                "cost_usd": round(effort * annotator.cost_usd, 3),
            }
        if annotator is not None:
            kind = "demonstrator" if isinstance(annotator, Demonstrator) else annotator.type
            stamp |= {
                "annotator_id": annotator.name,
                "annotator_kind": "program",
                "metadata": {"simulated": True, "annotator_type": kind},
            }
        return stamp
