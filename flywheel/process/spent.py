"""Seconds of a run over all its launches: those that were killed or failed cost as much.

`launches.json` lies beside RUN_DIR/state, from which the next launch goes on, and is forgotten
with it. It is written every few seconds, so that a kill loses no more than those.
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

NAME = "launches.json"
BEAT_SECONDS = 5.0


@contextmanager
def spending(run_dir: Path) -> Iterator[None]:
    """Count the seconds of one launch, beside those of the launches before it."""
    now, earlier = spent(run_dir) or (0.0, 0.0)
    _write(run_dir, 0.0, now + earlier)
    began, over = time.monotonic(), threading.Event()

    def tell() -> None:
        with suppress(OSError):  # a disk that is full is for the run itself to tell
            _, earlier = spent(run_dir) or (0.0, 0.0)  # nothing where the run began anew
            _write(run_dir, time.monotonic() - began, earlier)

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            tell()

    beats = threading.Thread(target=beat, daemon=True)
    beats.start()
    try:
        yield
    finally:
        over.set()
        beats.join()
        tell()


def spent(run_dir: Path) -> tuple[float, float] | None:
    """Seconds of the last launch, and of those before it; None where none are kept."""
    try:
        told = json.loads((run_dir / NAME).read_text())
        return float(told["seconds"]), float(told["earlier"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget(run_dir: Path) -> None:
    """Begin anew: what was launched before was another run, or its result tells of it."""
    (run_dir / NAME).unlink(missing_ok=True)


def _write(run_dir: Path, seconds: float, earlier: float) -> None:
    draft = run_dir / f".{NAME}.draft"
    draft.write_text(json.dumps({"seconds": round(seconds, 2), "earlier": round(earlier, 2)}))
    os.replace(draft, run_dir / NAME)
