"""The statistic of the gate, continued on what is served: is a challenger on its stage worse?

An outcome is one user's, from 0 to 1, a half where the two are alike, and it is made once: of the
first comparisons of that user, whatever he says later. So the bets of
`flywheel.evaluate.statistics.sequential` hold at every look, however many there are, and who says
much weighs no more than who says little.

* On `shadow` a comparison is whether the reward model of the champion scores the challenger's
  answer higher than the one that was shown; the challenger was not trained against that model.
* On `canary` users differ in who answers them. What a person says of answers to himself, thumbs
  and ratings from 0 to 1, makes his value; each user of the canary is set against the next few
  users of the champion, as many as the shares allow and each of them once, and the outcome is half
  their difference above a half. Who says nothing counts for nothing: how many do is told by arm.

Shown to be worse than the champion: the stage is stopped. Shown to be no worse than by `margin`:
the next stage, or the title. Either is wrong with a chance of at most `level`, at all looks of a
stage together. A person's stop or advance goes before (`flywheel.promotion.stages`).
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from flywheel.evaluate.statistics.sequential import bounds
from flywheel.layout import Layout
from flywheel.promotion import Entry, Forbidden, advance, standing, stop
from flywheel.serve.feedback import FOLDER
from flywheel.serve.log import Row, Rows
from flywheel.serve.said import share_of_scale
from flywheel.serve.settings import ServeSettings

EVEN = 0.5
BY = "online statistic"
Values = dict[str, float]  # of users, in the order in which they were complete


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What there is to say of a stage now.

    Attributes:
        verdict: STOP, ADVANCE or WAIT.
        outcomes: One a user, in the order in which they came about.
        users_by_arm: Who was counted, before canary users were set against others.
        unusable: Lines that cannot be compared: an answer was too long for the reward model, or a
            rating lies on no scale.
        torn: Lines that a kill left.
    """

    generation: str
    stage: str
    since: int
    verdict: Literal["STOP", "ADVANCE", "WAIT"]
    reasons: list[str]
    outcomes: list[float]
    users_by_arm: dict[str, int]
    unusable: int
    torn: int

    @property
    def facts(self) -> dict[str, Any]:
        """For people and for JSON."""
        count = len(self.outcomes)
        return {
            "generation": self.generation,
            "stage": self.stage,
            "since_entry": self.since,
            "verdict": self.verdict,
            "reasons": self.reasons,
            "outcomes": count,
            "mean": sum(self.outcomes) / count if count else None,
            "users_by_arm": self.users_by_arm,
            "unusable_lines": self.unusable,
            "torn_lines": self.torn,
        }


def look(layout: Layout, settings: ServeSettings) -> Look | None:
    """Look at the stage that a challenger is on; None where none is on any. Decides nothing."""
    holder, staged = standing(layout)
    if holder is None or staged is None:
        return None
    rows = Rows(_lines_of(layout, staged), since=staged.at[:10])
    if staged.stage == "shadow":
        outcomes, unusable = shadow_outcomes(rows, staged, settings)
        arms = {"shadow": len(outcomes)}
    else:
        outcomes, arms, unusable = canary_outcomes(rows, staged, holder.content_hash, settings)
    verdict, reasons = judge(outcomes, settings)
    return Look(
        generation=staged.generation,
        stage=staged.stage,
        since=staged.number,
        verdict=verdict,
        reasons=reasons,
        outcomes=outcomes,
        users_by_arm=arms,
        unusable=unusable,
        torn=rows.torn,
    )


def counted_now(layout: Layout) -> tuple[Entry | None, Path | None]:
    """The entry of who is on a stage, and the folder whose lines since then it is judged by."""
    _, staged = standing(layout)
    return staged, _lines_of(layout, staged) if staged else None


def _lines_of(layout: Layout, staged: Entry) -> Path:
    return layout.served if staged.stage == "shadow" else layout.served / FOLDER


def decide_stage(
    layout: Layout, settings: ServeSettings, forbidden: Forbidden | None = None
) -> tuple[Look | None, Entry | None]:
    """Look, and enter what is shown into the ledger.

    Raises:
        PromotionError: Another entry came between, or who would be sent on has other weights by
            now, or data that may not be used by what `forbidden` says.
    """
    seen = look(layout, settings)
    if seen is None or seen.verdict == "WAIT":
        return seen, None
    if seen.verdict == "STOP":
        return seen, stop(layout, since=seen.since, by=BY, reasons=seen.reasons)
    entry = advance(
        layout,
        since=seen.since,
        stages=settings.stages,
        by=BY,
        reasons=seen.reasons,
        forbidden=forbidden,
    )
    return seen, entry


def judge(
    outcomes: Sequence[float], settings: ServeSettings
) -> tuple[Literal["STOP", "ADVANCE", "WAIT"], list[str]]:
    """What outcomes show, and why."""
    low, high = bounds(outcomes, settings.level)
    bar, count = EVEN - settings.margin, len(outcomes)
    told = (
        f"against the champion {sum(outcomes) / max(1, count):.3f} ({low:.3f} to {high:.3f}, "
        f"however often one looks) over {count} users"
    )
    if high < EVEN:
        return "STOP", [f"{told}: shown to be worse, the upper bound is below {EVEN}"]
    if count < settings.least_users:
        return "WAIT", [f"{told}; {settings.least_users} users are asked for"]
    if low > bar:
        return "ADVANCE", [f"{told}: shown to be no worse than by {settings.margin:g}"]
    return "WAIT", [f"{told}: neither shown to be worse, nor to be above {bar:g}"]


def shadow_outcomes(
    rows: Iterable[Row], staged: Entry, settings: ServeSettings
) -> tuple[list[float], int]:
    """How often users' shown answers were beaten by the shadow's, one outcome a user.

    Returns:
        The outcomes, and how many lines have no score for one of the two answers.
    """
    said, unusable = [], 0
    for row in rows:
        if not row.get("scores") or not row["user"]:
            continue
        if row["content_hash"] != staged.content_hash or row["at"] < staged.at:
            continue
        mine, theirs = (row["scores"].get(arm) for arm in ("shadow", "champion"))
        if any(one is None or not math.isfinite(one) for one in (mine, theirs)):
            unusable += 1
            continue
        said.append((row["at"], row["user"], EVEN + ((mine > theirs) - (mine < theirs)) / 2))
    return list(_values(said, settings.per_user).values()), unusable


def canary_outcomes(
    rows: Iterable[Row], staged: Entry, champion_hash: str, settings: ServeSettings
) -> tuple[list[float], dict[str, int], int]:
    """Users of the canary set against users of the champion.

    Returns:
        The outcomes, how many users there are of each arm, and how many lines say nothing usable.
    """
    arms = {("canary", staged.content_hash): "canary", ("champion", champion_hash): "champion"}
    said: dict[str, list[tuple[str, str, float]]] = {"canary": [], "champion": []}
    seen: set[str] = set()
    unusable = 0
    for row in rows:
        arm = arms.get((row["stage"], row["content_hash"]))
        counts = (
            arm
            and row["is_own"]
            and row["author_kind"] == "person"
            and row["what"] in ("thumbs", "rating")
            and row["propensity"] < 1  # whom the draw could have sent to the other
            and row["answered_at"] >= staged.at
            and row["feedback_id"] not in seen
        )
        if arm and counts:
            seen.add(row["feedback_id"])
            value = _value(row)
            if value is None:
                unusable += 1
            else:
                said[arm].append((row["at"], row["author"], value))
    values = {arm: _values(found, settings.per_user) for arm, found in said.items()}
    both = values["canary"].keys() & values["champion"].keys()  # the share was changed
    mine, theirs = (
        [value for user, value in values[arm].items() if user not in both]
        for arm in ("canary", "champion")
    )
    each = max(1, round((1 - settings.canary_share) / settings.canary_share))
    whole = min(len(mine), len(theirs) // each)
    outcomes = [
        EVEN + (mine[n] - sum(theirs[n * each : (n + 1) * each]) / each) / 2 for n in range(whole)
    ]
    return outcomes, {"canary": len(mine), "champion": len(theirs)}, unusable


def _value(row: Row) -> float | None:
    """From 0 to 1; None for a rating on no scale, which one NaN would carry into every outcome."""
    if row["what"] == "thumbs":
        return float(row["value"] == "up")
    low, high = row["scale"]
    return share_of_scale(low, row["value"], high)


def _values(said: list[tuple[str, str, float]], per_user: int) -> Values:
    """Mean of the first comparisons of each user who made so many; what came later is left out."""
    first: dict[str, list[float]] = defaultdict(list)
    values: Values = {}
    for _, user, value in sorted(said, key=lambda one: one[0]):
        first[user].append(value)
        if len(first[user]) == per_user:
            values[user] = sum(first[user]) / per_user
    return values
