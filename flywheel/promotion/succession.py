"""The champion: who holds the title, and how it changes hands.

The ledger decides; `champion.json` is what others read. It is rewritten in one step after every
entry, and made again from the ledger where a kill came between the two. Both happen under the
ledger's lock, so that a late reader never puts an old champion back.
"""

from typing import Any

from flywheel.errors import PromotionError
from flywheel.layout import Layout
from flywheel.promotion.gate import Decision
from flywheel.promotion.ledger import Entry, Ledger, file_sha256
from flywheel.promotion.reigns import as_champion, holder_of, reigns_of, sent_away
from flywheel.promotion.title import Champion, check_weights, is_settled, settle

GATE = ("PROMOTE", "HOLD", "REJECT")
SAID = (*GATE, "APPROVE", "DECLINE")  # of a generation, by the gate or by a person


def champion(layout: Layout) -> Champion | None:
    """Who holds the title now, its weights being those that took it.

    Raises:
        LedgerError: The ledger was edited, or entries are gone.
        PromotionError: The champion's folder is gone or holds other weights.
    """
    holder = title_holder(layout)
    if holder:
        check_weights(
            layout,
            holder,
            f"restore that folder from a copy, or roll back to the champion before it, or remove "
            f"the folder and materialize policy, held_out_evaluation and gate_decision of "
            f"{holder.generation} again",
        )
    return holder


def title_holder(layout: Layout) -> Champion | None:
    """Who holds the title by the ledger, for who names it and does not use it.

    Raises:
        LedgerError: The ledger was edited, or entries are gone.
    """
    ledger = Ledger(layout)
    holder = holder_of(ledger.entries())
    if is_settled(layout, holder):
        return holder
    with ledger.appending() as (entries, _):  # a kill came between, or somebody is writing now
        holder = holder_of(entries)
        settle(layout, holder)
    return holder


def decide_and_record(
    layout: Layout,
    generation: str,
    decision: Decision,
    *,
    content_hash: str,
    compared_with: str,
    human_approval: bool,
    look: str = "",
    by: str = "gate",
) -> Entry:
    """Enter the gate's decision; a promotion takes effect at once unless a person is asked.

    The same decision on the same evidence is entered once, so a step that runs again neither
    asks a person twice nor undoes a rollback. Another decision on it (settings changed) is new,
    and so is a promotion that waits once nobody needs be asked, unless a person has spoken.

    Args:
        layout: The home.
        generation: Of the challenger.
        decision: What the gate says.
        content_hash: Of the challenger's checkpoint.
        compared_with: Content hash of the champion that the evaluation compared it with; empty
            where it was none.
        human_approval: Whether a promotion waits for a person; that of weights which a person has
            sent away always does.
        look: How the challenger was sampled.
        by: Who decides.

    Raises:
        PromotionError: Somebody else is the champion than whom it was compared with.
    """
    evidence = layout.evaluation(generation) / "result.json"
    sha = file_sha256(evidence)
    with Ledger(layout).appending() as (entries, append):
        last = _last(entries, generation)
        said = (decision.decision, sha, content_hash)
        asked = human_approval or content_hash in sent_away(entries)
        awaiting = decision.decision == "PROMOTE" and asked
        if last and (last.action, last.evidence_sha256, last.content_hash) == said:
            waits = last == _last(entries, generation, actions=SAID) and last.awaiting
            if awaiting or not waits:
                return last
        now = holder_of(entries)
        if now and now.generation != generation and now.content_hash != compared_with:
            raise PromotionError(_judge_again(generation, now))
        promoted = decision.decision == "PROMOTE" and not awaiting
        entry = append(
            action=decision.decision,
            generation=generation,
            reasons=decision.reasons,
            by=by,
            awaiting=awaiting,
            champion=generation if promoted else _title(entries),
            checkpoint=_below(layout, generation),
            content_hash=content_hash,
            evidence=str(evidence.relative_to(layout.root)),
            evidence_sha256=sha,
            look=look,
        )
        settle(layout, holder_of(entries))
    return entry


def challenger_number(layout: Layout, content_hash: str, look: str = "") -> int:
    """Which challenger of the present champion these weights are: 1 for the first it meets.

    Looked at again with more prompts, the same weights are the same challenger. Sampled otherwise
    they are another one: luck must not be drawn for until it comes. Who gets the title back after
    a rollback goes on counting where it stopped.
    """
    met: dict[str | None, list[tuple[str, str]]] = {}
    reign: str | None = None
    for entry in Ledger(layout).entries():
        here = met.setdefault(reign, [])
        if entry.action in GATE and (entry.content_hash, entry.look) not in here:
            here.append((entry.content_hash, entry.look))
        reign = entry.champion
    here = met.get(reign, [])
    one = (content_hash, look)
    return here.index(one) + 1 if one in here else len(here) + 1


def approve(layout: Layout, generation: str, *, by: str, reason: str = "") -> Entry:
    """Say yes to a challenger that waits.

    Raises:
        PromotionError: It does not wait for anybody, its weights are others by now than those
            that were judged, or the champion is another than the one it was compared with.
    """
    return _verdict(layout, generation, "APPROVE", by, reason)


def reject(layout: Layout, generation: str, *, by: str, reason: str = "") -> Entry:
    """Say no to a challenger that waits.

    Raises:
        PromotionError: It does not wait for anybody.
    """
    return _verdict(layout, generation, "DECLINE", by, reason)


def rollback(layout: Layout, *, by: str, reason: str) -> Entry:
    """Give the title back to the champion before this one, never to one that was rolled back.

    Raises:
        PromotionError: There is no champion, there was none before it, its folder is gone or
            holds other weights, or nobody is named.
    """
    _named(by)
    with Ledger(layout).appending() as (entries, append):
        reigns = reigns_of(entries)
        if not reigns:
            raise PromotionError("there is no champion to roll back")
        if len(reigns) == 1:
            raise PromotionError(f"{reigns[0].generation} is the first champion: none is before it")
        back = reigns[-2]
        check_weights(layout, as_champion(back), "restore that folder from a copy first")
        entry = append(
            action="ROLLBACK",
            generation=back.generation,
            reasons=[reason],
            by=by,
            awaiting=False,
            champion=back.generation,
            checkpoint=back.checkpoint,
            content_hash=back.content_hash,
            evidence=back.evidence,
            evidence_sha256=back.evidence_sha256,
        )
        settle(layout, holder_of(entries))
    return entry


def latest_decision(layout: Layout, generation: str) -> dict[str, Any] | None:
    """What was last said of a generation, {decision, reasons, awaiting, by, at}, or None."""
    entry = _last(Ledger(layout).entries(), generation, actions=SAID)
    if entry is None:
        return None
    return {
        "decision": entry.action,
        "reasons": entry.reasons,
        "awaiting": entry.awaiting,
        "by": entry.by,
        "at": entry.at,
    }


def history(layout: Layout) -> list[Entry]:
    """Every decision, oldest first."""
    return Ledger(layout).entries()


def _verdict(layout: Layout, generation: str, action: str, by: str, reason: str) -> Entry:
    _named(by)
    with Ledger(layout).appending() as (entries, append):
        last = _last(entries, generation, actions=SAID)
        if last is None or not last.awaiting:
            found = f"its last entry is {last.action}" if last else "nothing was decided on it"
            waiting = sorted({e.generation for e in entries if e.awaiting})
            raise PromotionError(
                f"{generation} does not wait for a person: {found}; "
                f"promotions that waited so far: {', '.join(waiting) or 'none'}"
            )
        now = holder_of(entries)
        if action == "APPROVE" and now and now != holder_of(entries[: last.number]):
            raise PromotionError(_judge_again(generation, now))
        if action == "APPROVE":
            again = f"materialize held_out_evaluation and gate_decision of {generation} again"
            check_weights(layout, as_champion(last), again)
        entry = append(
            action=action,
            generation=generation,
            reasons=[reason] if reason else [],
            by=by,
            awaiting=False,
            champion=generation if action == "APPROVE" else _title(entries),
            checkpoint=last.checkpoint,
            content_hash=last.content_hash,
            evidence=last.evidence,
            evidence_sha256=last.evidence_sha256,
        )
        settle(layout, holder_of(entries))
    return entry


def _judge_again(generation: str, now: Champion) -> str:
    return (
        f"{generation} was never compared with {now.generation}, which is the champion by now; "
        f"materialize held_out_evaluation and gate_decision of {generation} again, which judges it "
        f"against {now.generation}"
    )


def _named(by: str) -> None:
    if not by.strip():
        raise PromotionError("a person's decision needs a name in `by`, got none")


def _title(entries: list[Entry]) -> str | None:
    return entries[-1].champion if entries else None


def _last(entries: list[Entry], generation: str, actions: tuple[str, ...] = GATE) -> Entry | None:
    found = [e for e in entries if e.generation == generation and e.action in actions]
    return found[-1] if found else None


def _below(layout: Layout, generation: str) -> str:
    return str(layout.checkpoint("policy", generation).relative_to(layout.root))
