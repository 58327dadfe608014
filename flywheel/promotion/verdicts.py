"""A person's word: yes or no to a challenger that waits, and the title given back.

Who speaks gives a name and a reason. Names are taken on trust: who may write to the home's
registry may call himself anything, so that `approvers` keeps slips apart, and not attackers.
"""

from collections.abc import Sequence

from flywheel.errors import PromotionError
from flywheel.layout import Layout
from flywheel.promotion.evidence import refuse_stale
from flywheel.promotion.ledger import Entry, Ledger
from flywheel.promotion.permission import Forbidden, refuse_forbidden, told_of
from flywheel.promotion.reigns import about, as_champion, holder_of, reigns_of
from flywheel.promotion.succession import (
    SAID,
    end_stage,
    first_stage,
    judge_again,
    last_of,
    title_of,
)
from flywheel.promotion.title import check_weights, settle


def approve(
    layout: Layout,
    generation: str,
    *,
    by: str,
    reason: str,
    approvers: Sequence[str] = (),
    decision: int | None = None,
    stages: Sequence[str] = (),
    forbidden: Forbidden | None = None,
) -> Entry:
    """Say yes to a challenger that waits.

    Args:
        layout: The home.
        generation: Of the challenger.
        by: Who decides.
        reason: Why.
        approvers: Who may; empty: anyone.
        decision: Number of the entry that was read before; the word is good for no later one.
        stages: What the challenger goes through before it takes the title.
        forbidden: Asked whether its data may be used today; None: nobody is asked.

    Raises:
        PromotionError: It does not wait for anybody, or no longer on that entry; nobody is named
            who may decide, or no reason; its data may not be used; its weights or its evaluation
            are others by now than those that were judged, or an evaluation set has a newer version;
            or the champion is another than it was compared with.
    """
    may_decide(by, reason, approvers)
    _waiting(Ledger(layout).entries(), generation, decision)
    refuse_forbidden(generation, forbidden)
    again = f"materialize held_out_evaluation and gate_decision of {generation} again"
    with Ledger(layout).appending() as (entries, append):
        last = _waiting(entries, generation, decision)
        now = holder_of(entries)
        if now and now != holder_of(entries[: last.number]):
            raise PromotionError(judge_again(generation, now))
        refuse_stale(layout, last)
        check_weights(layout, as_champion(last), again, files=True)
        stage = first_stage(entries, generation, stages)
        end_stage(entries, append, f"{generation} takes its place", by, but=generation)
        entry = append(
            action="APPROVE",
            reasons=[reason],
            by=by,
            champion=title_of(entries) if stage else generation,
            stage=stage,
            **about(last),
        )
        settle(layout, holder_of(entries))
    return entry


def reject(
    layout: Layout,
    generation: str,
    *,
    by: str,
    reason: str,
    approvers: Sequence[str] = (),
    decision: int | None = None,
) -> Entry:
    """Say no to a challenger that waits; the arguments are those of `approve`.

    Raises:
        PromotionError: It does not wait for anybody, or no longer on that entry; nobody is named
            who may decide, or no reason.
    """
    may_decide(by, reason, approvers)
    with Ledger(layout).appending() as (entries, append):
        last = _waiting(entries, generation, decision)
        entry = append(
            action="DECLINE", reasons=[reason], by=by, champion=title_of(entries), **about(last)
        )
        settle(layout, holder_of(entries))
    return entry


def rollback(layout: Layout, *, by: str, reason: str, forbidden: Forbidden | None = None) -> Entry:
    """Give the title back to the champion before this one, never to one that was rolled back.

    A challenger that is on a stage is off it. Of the first champion there is nothing to give
    back: then that is all that happens. Anybody may, whoever the approvers are: it is for the
    hour when something is wrong. So it goes to one whose data may not be used, too, by what
    `forbidden` says: then that is the entry's second reason.

    Raises:
        PromotionError: There is no champion, there was none before it, its folder is gone or
            holds other weights, whichever file they are in, or nobody is named.
    """
    named(by, reason)
    before = reigns_of(Ledger(layout).entries())[-2:-1]
    told = {one.content_hash: told_of(one.generation, forbidden) for one in before}
    with Ledger(layout).appending() as (entries, append):
        reigns = reigns_of(entries)
        if not reigns:
            raise PromotionError("there is no champion to roll back")
        if len(reigns) == 1:
            if ended := end_stage(entries, append, reason, by):
                return ended
            raise PromotionError(f"{reigns[0].generation} is the first champion: none is before it")
        back = reigns[-2]
        another = (
            "restore that folder from a copy first, or put another generation forward: materialize "
            "held_out_evaluation and gate_decision of that one"
        )
        check_weights(layout, as_champion(back), another, files=True)
        why = told.get(back.content_hash, "whether its data may be used was not looked at")
        end_stage(entries, append, reason, by)
        entry = append(
            action="ROLLBACK",
            reasons=[reason, why] if why else [reason],
            by=by,
            champion=back.generation,
            **about(back),
        )
        settle(layout, holder_of(entries))
    return entry


def waiting_in(entries: list[Entry]) -> list[str]:
    """Generations that wait for a person."""
    every = sorted({one.generation for one in entries})
    return [one for one in every if (said := last_of(entries, one, SAID)) and said.awaiting]


def named(by: str, reason: str) -> None:
    """Refuse a decision of nobody, or for no reason."""
    if not by.strip():
        raise PromotionError("a person's decision needs a name in `by`, got none")
    if not reason.strip():
        raise PromotionError("a person's decision needs a reason: say why, for who reads it later")


def may_decide(by: str, reason: str, approvers: Sequence[str]) -> None:
    """Refuse a decision of nobody, of who is none of the approvers, or for no reason."""
    named(by, reason)
    if approvers and by not in approvers:
        raise PromotionError(
            f"{by} may not decide: [gate] approvers in settings.toml are {', '.join(approvers)}"
        )


def _waiting(entries: list[Entry], generation: str, decision: int | None) -> Entry:
    """The entry on which a generation waits for a person."""
    last = last_of(entries, generation, actions=SAID)
    if last is None or not last.awaiting:
        found = "nothing was decided on it"
        if last:
            found = f"its last entry is {last.action}, by {last.by} at {last.at}"
        raise PromotionError(
            f"{generation} does not wait for a person: {found}; "
            f"who waits now: {', '.join(waiting_in(entries)) or 'nobody'}"
        )
    if decision is not None and decision != last.number:
        raise PromotionError(
            f"{generation} was decided on again since entry {decision} of the ledger: it waits on "
            f"entry {last.number} by now; read that one, and give its number"
        )
    return last
