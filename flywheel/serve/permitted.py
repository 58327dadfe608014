"""Whether who answers may still be used: its data's licences, consents and erasures, as of today.

Looked at whenever a batch has landed, something was erased, another answers, or a day has begun:
consents end by themselves. What was found stands until it is found otherwise; where it cannot be
found out, that is told and tried again, and where nothing was known before it counts as forbidden.
So does a checkpoint that answers and was not looked at yet.
"""

import math
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from flywheel.errors import FlywheelError
from flywheel.layout import Layout
from flywheel.lineage import Reading, against_its_use
from flywheel.promotion import alert
from flywheel.serve.engine import Loaded
from flywheel.serve.watch import AGAIN_SECONDS, Watch

LOOK_SECONDS = 0.1  # how long who has just begun to answer is not looked at: short
NOT_YET = "whether the data of policy/{} may be used was not looked at yet; ask again in a moment"


class Permitted:
    """Keeps what there is against each checkpoint that answers; `look` is called by one thread."""

    def __init__(self, layout: Layout, watch: Watch, reading: Reading) -> None:
        self._layout, self._watch, self._reading = layout, watch, reading
        self._seen: tuple[object, ...] = ()
        self._again_at = 0.0  # where something could not be found out
        self._against: dict[str, str] = {}

    def against(self, one: Loaded) -> str:
        """Why a checkpoint may not be used, or that this is not known yet; empty where it may."""
        return self._against.get(one.content_hash, NOT_YET.format(one.generation))

    @property
    def told(self) -> dict[str, str]:
        """By generation why it may not be used, of those that answer now."""
        return {one.generation: why for one in self._answering() if (why := self.against(one))}

    def look(self) -> None:
        """Ask the lineage about who answers, where the answer may be another by now."""
        answering = self._answering()
        seen = (
            _changed_at(self._layout.batches),
            _changed_at(self._layout.registry / "erasures.jsonl"),
            datetime.now(UTC).date(),
            tuple(one.content_hash for one in answering),
        )
        if seen == self._seen and time.monotonic() < self._again_at:
            return
        found, is_whole = dict(self._against), True
        for one in answering:
            name = f"policy/{one.generation}"
            try:
                found[one.content_hash] = against_its_use(self._layout, name, self._reading)
            except Exception as error:  # whatever it is, it is told, and tried again
                why = f"{error}" if isinstance(error, FlywheelError) else repr(error)
                why = f"whether the data of {name} may be used cannot be told: {why}"
                found.setdefault(one.content_hash, why)
                is_whole = False
            if (why := found[one.content_hash]) and why != self._against.get(one.content_hash):
                at = datetime.now(UTC).isoformat(timespec="seconds")
                alert(self._layout, {"at": at, "job": "serve", "steps": [], "message": why})
                print(f"flywheel serve: {why}", file=sys.stderr, flush=True)
        self._against = found
        self._seen = seen
        self._again_at = time.monotonic() + AGAIN_SECONDS if not is_whole else math.inf

    def _answering(self) -> list[Loaded]:
        stand = self._watch.stand
        return [one for one in (stand.champion, stand.staged) if one]


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
