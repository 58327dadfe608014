"""Whether who answers may still be used: its data's licences, consents and erasures, as of today.

Looked at whenever a batch has landed, something was erased, another answers, or a day has begun:
consents end by themselves. What was found stands until it is found otherwise; where it cannot be
found out, that is told, and where nothing was known before it counts as forbidden.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from flywheel.errors import FlywheelError
from flywheel.layout import Layout
from flywheel.lineage import Reading, against_its_use
from flywheel.promotion import alert
from flywheel.serve.engine import Loaded
from flywheel.serve.watch import Watch


class Permitted:
    """Keeps what there is against each checkpoint that answers; `look` is called by one thread."""

    def __init__(self, layout: Layout, watch: Watch, reading: Reading) -> None:
        self._layout, self._watch, self._reading = layout, watch, reading
        self._seen: tuple[object, ...] = ()
        self._against: dict[str, str] = {}

    def against(self, one: Loaded) -> str:
        """Why a checkpoint may not be used; empty where it may."""
        return self._against.get(one.content_hash, "")

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
        if seen == self._seen:
            return
        found, is_whole = dict(self._against), True
        for one in answering:
            name = f"policy/{one.generation}"
            try:
                found[one.content_hash] = against_its_use(self._layout, name, self._reading)
            except FlywheelError as error:
                why = f"whether the data of {name} may be used cannot be told: {error}"
                found.setdefault(one.content_hash, why)
                is_whole = False
            if (why := found[one.content_hash]) and why != self.against(one):
                at = datetime.now(UTC).isoformat(timespec="seconds")
                alert(self._layout, {"at": at, "job": "serve", "steps": [], "message": why})
                print(f"flywheel serve: {why}", file=sys.stderr, flush=True)
        self._against = found
        self._seen = seen if is_whole else ()

    def _answering(self) -> list[Loaded]:
        stand = self._watch.stand
        return [one for one in (stand.champion, stand.staged) if one]


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
