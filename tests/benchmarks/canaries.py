"""Simulated canaries: how often looking again and again stops what is no worse, or lets harm pass.

The lines of feedback are those that the endpoint writes, and the statistic is the server's own.
"""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from flywheel.promotion import Entry
from flywheel.serve.online import canary_outcomes, judge
from flywheel.serve.settings import ServeSettings
from tests.benchmarks.measurement import Measurement

HALF = ServeSettings(stages=["canary"], canary_share=0.5)
START = datetime(2026, 1, 2, tzinfo=UTC)
RUNS, LOOKS, USERS = 500, 20, 1000
Z = 1.644854  # of a one-sided test at .05

Judge = Callable[[list[float]], str]


def entry_of(stage: str) -> Entry:
    """The entry that put g0002 on a stage."""
    facts: dict[str, Any] = {"number": 2, "action": "PROMOTE", "generation": "g0002"}
    facts |= {"at": "2026-01-01T00:00:00+00:00", "reasons": [], "by": "gate", "awaiting": False}
    facts |= {"champion": "g0001", "checkpoint": "c", "content_hash": "new", "before": "b"}
    return Entry(**facts, evidence="e", evidence_sha256="s", hash="h", stage=stage)


def said(user: str, arm: str, thumbs: str, minute: int = 0, **changes: Any) -> dict[str, Any]:
    """A line of feedback of a user on an answer to himself."""
    at = (START + timedelta(minutes=minute)).isoformat()
    row = {
        "feedback_id": f"{user} {minute}",
        "at": at,
        "answered_at": at,
        "author": user,
        "author_kind": "person",
        "what": "thumbs",
        "value": thumbs,
        "scale": None,
        "is_own": True,
        "content_hash": "new" if arm == "canary" else "old",
        "stage": arm,
        "propensity": 0.5,
    }
    return row | changes


def by_us(outcomes: list[float]) -> str:
    """What the server says."""
    return judge(outcomes, HALF)[0]


def by_z(outcomes: list[float]) -> str:
    """What a test of fixed size says, where it is asked at every look."""
    if len(outcomes) < HALF.least_users:
        return "WAIT"
    off = np.mean(outcomes) - 0.5
    error = max(np.std(outcomes) / len(outcomes) ** 0.5, 1e-9)
    if off / error < -Z:
        return "STOP"
    return "ADVANCE" if (off + HALF.margin) / error > Z else "WAIT"


def fates(
    mine: float, theirs: float, *, runs: int, looks: int, users: int, verdict: Judge = by_us
) -> Counter[str]:
    """What became of canaries that were looked at until they were stopped or sent on.

    Args:
        mine: Chance of a thumb up for the challenger's answers, of a user of the usual temper.
        theirs: For the champion's.
        runs: How many canaries.
        looks: At each.
        users: Of both arms; each says two things, and they differ in temper.
        verdict: What is said of the outcomes of a look.
    """
    rng = np.random.default_rng(0)
    chances = {"canary": mine, "champion": theirs}
    found: Counter[str] = Counter()
    for _ in range(runs):
        temper = rng.beta(2, 2, size=users) / 2 - 0.25
        drawn = rng.random(2 * users)
        rows = []
        for n in range(2 * users):
            arm = ("canary", "champion")[n // 2 % 2]
            is_pleased = drawn[n] < min(1, max(0, chances[arm] + temper[n // 2]))
            rows.append(said(f"u{n // 2}", arm, "up" if is_pleased else "down", n))
        words = "WAIT"
        for seen in np.linspace(0, len(rows), looks + 1)[1:].astype(int):
            words = verdict(canary_outcomes(rows[:seen], entry_of("canary"), "old", HALF)[0])
            if words != "WAIT":
                break
        found[words] += 1
    return found


def canaries() -> list[Measurement]:
    """Canaries that are as good, worse by the margin, and harmful; ours beside a z-test."""
    rows = []
    for name, what, mine, theirs in (
        ("canary_false_stop_rate", "STOP", 0.6, 0.6),
        ("canary_false_advance_rate", "ADVANCE", 0.55, 0.65),  # by the margin: half of .1
        ("canary_harm_stopped_rate", "STOP", 0.4, 0.7),
    ):
        ours, peer = (
            fates(mine, theirs, runs=RUNS, looks=LOOKS, users=USERS, verdict=one)[what] / RUNS
            for one in (by_us, by_z)
        )
        rows.append(
            Measurement(
                name=name,
                value=ours,
                unit="of canaries",
                peer="z-test at each look",
                peer_value=peer,
                ratio=ours / HALF.level,
                conditions=f"thumbs up {mine} and {theirs}, {USERS} users in two arms, {LOOKS} "
                f"looks, {RUNS} runs, level {HALF.level}, ratio to the level",
            )
        )
    return rows
