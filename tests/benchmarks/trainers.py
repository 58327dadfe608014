"""Our trainers beside TRL's and beside a plain torch loop: tokens, pairs and memory, as ratios."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tests.benchmarks.measurement import Measurement
from tests.benchmarks.trainer_race import BATCH, PER_DEVICE, build

REPEATS = 3
# kind of race -> sides; each repeat runs them one after the other, in a process each
RACES = {
    "sft": ("flywheel", "trl", "torch"),
    "dpo": ("flywheel", "trl"),
    "reward4": ("flywheel", "trl"),
    "reward9": ("flywheel", "trl"),
}
Run = dict[str, float]


def measure_trainers() -> list[Measurement]:
    """Medians over interleaved repeats on the same weights, text and order of sides."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        runs = {kind: {side: list[Run]() for side in sides} for kind, sides in RACES.items()}
        for _ in range(REPEATS):
            for kind, sides in RACES.items():
                for side in sides:
                    runs[kind][side].append(_run(kind, side, folder))
    rows = [
        _row("sft_vs_trl", runs["sft"], "trl", _tokens, "tokens/s"),
        _row("dpo_vs_trl", runs["dpo"], "trl", _tokens, "tokens/s"),
        _row("sft_vs_torch", runs["sft"], "torch", _tokens, "tokens/s"),
        _row("reward_kwise_k4", runs["reward4"], "trl", _pairs, "pairs/s"),
        _row("reward_kwise_k9", runs["reward9"], "trl", _pairs, "pairs/s"),
    ]
    return rows + [
        _row(f"{kind}_memory", runs[kind], "trl", lambda run: run["peak_bytes"] / 2**20, "MiB")
        for kind in RACES
    ]


def _run(kind: str, side: str, folder: Path) -> Run:
    command = [sys.executable, "-m", "tests.benchmarks.trainer_race", kind, side, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{kind} on the side of {side} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _tokens(run: Run) -> float:
    return run["tokens"] / run["seconds"]


def _pairs(run: Run) -> float:
    return run["elements"] / run["seconds"]


def _row(
    name: str, sides: dict[str, list[Run]], peer: str, of: Callable[[Run], float], unit: str
) -> Measurement:
    ours, theirs = (median(map(of, sides[side])) for side in ("flywheel", peer))
    ratios = [of(a) / of(b) for a, b in zip(sides["flywheel"], sides[peer], strict=True)]
    return Measurement(
        name=name,
        value=ours,
        unit=unit,
        peer=peer,
        peer_value=theirs,
        ratio=ours / theirs,
        conditions=(
            f"ratios {min(ratios):.2f} to {max(ratios):.2f} over {REPEATS} repeats, 2.2 M "
            f"parameters, {BATCH} rows or pairs a step, the peer {PER_DEVICE} at once"
        ),
    )
