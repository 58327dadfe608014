"""From stage to stage: a challenger that was promoted and does not hold the title yet.

Each step is an entry of the ledger, by the statistic (`flywheel.serve.online`) or by a person, and
is good for the very stage that was looked at: where another entry came between, it is refused.
"""

from collections.abc import Sequence

from flywheel.errors import PromotionError
from flywheel.layout import Layout
from flywheel.promotion.evidence import refuse_stale
from flywheel.promotion.ledger import Entry, Ledger
from flywheel.promotion.permission import Forbidden, refuse_forbidden
from flywheel.promotion.reigns import about, as_champion, holder_of, staged_of
from flywheel.promotion.succession import title_of
from flywheel.promotion.title import Champion, check_weights, settle
from flywheel.promotion.verdicts import may_decide, named

STAGES = ("shadow", "canary")  # in the order in which a challenger goes through them


def standing(layout: Layout) -> tuple[Champion | None, Entry | None]:
    """Who holds the title, and the entry of who is on a stage, at one moment."""
    entries = Ledger(layout).entries()
    return holder_of(entries), staged_of(entries)


def advance(
    layout: Layout,
    *,
    since: int,
    stages: Sequence[str],
    by: str,
    reasons: Sequence[str],
    approvers: Sequence[str] = (),
    forbidden: Forbidden | None = None,
) -> Entry:
    """Put who is on a stage on the next one; after the last of them it takes the title.

    Args:
        layout: The home.
        since: Number of the entry that put it there.
        stages: All stages of this home.
        by: The statistic, or a person's name.
        reasons: Why.
        approvers: Which persons may; empty: anyone.
        forbidden: Asked whether its data may be used today; None: nobody is asked.

    Raises:
        PromotionError: It is no longer on that stage, nobody is named who may decide, its data may
            not be used, its weights or its evaluation are others, or an evaluation set that was
            asked has a newer version.
    """
    may_decide(by, " ".join(reasons), approvers)
    refuse_forbidden(_staged(Ledger(layout).entries(), since).generation, forbidden)
    with Ledger(layout).appending() as (entries, append):
        staged = _staged(entries, since)
        again = f"materialize held_out_evaluation and gate_decision of {staged.generation} again"
        refuse_stale(layout, staged)
        check_weights(layout, as_champion(staged), again, files=True)
        later = STAGES[STAGES.index(staged.stage) + 1 :]
        stage = next((one for one in later if one in stages), "")
        entry = append(
            action="ADVANCE",
            reasons=list(reasons),
            by=by,
            champion=title_of(entries) if stage else staged.generation,
            stage=stage,
            **about(staged),
        )
        settle(layout, holder_of(entries))
    return entry


def stop(layout: Layout, *, since: int, by: str, reasons: Sequence[str]) -> Entry:
    """Take who is on a stage off it; it comes back by a person's yes alone.

    Anybody may, whoever the approvers are: it is for the hour when something is wrong.

    Raises:
        PromotionError: It is no longer on that stage, or nobody is named.
    """
    named(by, " ".join(reasons))
    with Ledger(layout).appending() as (entries, append):
        return append(
            action="STOP",
            reasons=list(reasons),
            by=by,
            champion=title_of(entries),
            **about(_staged(entries, since)),
        )


def _staged(entries: list[Entry], since: int) -> Entry:
    staged = staged_of(entries)
    if staged is None or staged.number != since:
        found = f"{staged.generation} is on {staged.stage}" if staged else "nobody is on a stage"
        raise PromotionError(f"the stage that was looked at is over: {found} by now")
    return staged
