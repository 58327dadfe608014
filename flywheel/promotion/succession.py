"""The champion: who holds the title, and how it changes hands.

The ledger decides; `champion.json` is what others read. It is rewritten in one step after every
entry, and made again from the ledger where a kill came between the two. Both happen under the
ledger's lock, so that a late reader never puts an old champion back.
"""

from collections.abc import Callable, Sequence
from typing import Any

from flywheel.errors import PromotionError
from flywheel.layout import Layout
from flywheel.promotion.gate import Decision
from flywheel.promotion.ledger import Entry, Ledger, file_sha256
from flywheel.promotion.reigns import (
    about,
    holder_of,
    reigns_of,
    sent_away,
    staged_of,
    takes_title,
)
from flywheel.promotion.title import Champion, check_weights, is_settled, settle

GATE = ("PROMOTE", "HOLD", "REJECT")
SAID = (*GATE, "APPROVE", "DECLINE", "ADVANCE", "STOP")  # of a generation, whoever said it


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
    decision: Decision | Callable[[int], Decision],
    *,
    content_hash: str,
    compared_with: str,
    human_approval: bool,
    stages: Sequence[str] = (),
    look: str = "",
    by: str = "gate",
) -> Entry:
    """Enter the gate's decision; a promotion takes effect at once unless a person is asked.

    Which challenger of its champion this is, is counted while the ledger is held, so that two who
    are judged at once do not both pass for the first.

    The same decision on the same evidence is entered once, so a step that runs again neither
    asks a person twice nor undoes a rollback. Another decision on it (settings changed) is new,
    and so is a promotion that waits once nobody needs be asked, unless a person has spoken.

    Args:
        layout: The home.
        generation: Of the challenger.
        decision: What the gate says, or how it decides, given the number of the challenger.
        content_hash: Of the challenger's checkpoint.
        compared_with: Content hash of the champion that the evaluation compared it with; empty
            where it was none.
        human_approval: Whether a promotion waits for a person; that of weights which a person has
            sent away always does.
        stages: What a promoted challenger goes through before it takes the title; none where there
            is no champion yet.
        look: How the challenger was sampled.
        by: Who decides.

    Raises:
        PromotionError: Somebody else is the champion than whom it was compared with, or a
            promotion would send on weights that are not those that were judged.
    """
    evidence = layout.evaluation(generation) / "result.json"
    sha = file_sha256(evidence)
    with Ledger(layout).appending() as (entries, append):
        if not isinstance(decision, Decision):
            decision = decision(challenger_number(entries, content_hash, look))
        last = last_of(entries, generation)
        said = (decision.decision, sha, content_hash)
        asked = human_approval or content_hash in sent_away(entries)
        awaiting = decision.decision == "PROMOTE" and asked
        if last and (last.action, last.evidence_sha256, last.content_hash) == said:
            waits = last == last_of(entries, generation, actions=SAID) and last.awaiting
            if awaiting or not waits:
                return last
        now = holder_of(entries)
        if now and now.generation != generation and now.content_hash != compared_with:
            raise PromotionError(judge_again(generation, now))
        forward = decision.decision == "PROMOTE" and not awaiting
        stage = first_stage(entries, generation, stages) if forward else ""
        if forward:
            mine = Champion(
                generation=generation,
                checkpoint=_below(layout, generation),
                content_hash=content_hash,
            )
            check_weights(layout, mine, _restored(generation), files=True)
            end_stage(entries, append, f"{generation} takes its place", by, but=generation)
        entry = append(
            action=decision.decision,
            generation=generation,
            reasons=decision.reasons,
            by=by,
            awaiting=awaiting,
            champion=generation if forward and not stage else title_of(entries),
            checkpoint=_below(layout, generation),
            content_hash=content_hash,
            evidence=str(evidence.relative_to(layout.root)),
            evidence_sha256=sha,
            look=look,
            stage=stage,
        )
        settle(layout, holder_of(entries))
    return entry


def title_given(layout: Layout, generation: str) -> Entry:
    """The entry that last gave the title to a generation.

    Raises:
        PromotionError: None ever did.
    """
    for entry in reversed(Ledger(layout).entries()):
        is_given = takes_title(entry) or entry.action == "ROLLBACK"
        if is_given and entry.generation == generation:
            return entry
    raise PromotionError(f"{generation} never held the title")


def challenger_number(entries: list[Entry], content_hash: str, look: str = "") -> int:
    """Which challenger of the present champion these weights are: 1 for the first it meets.

    Looked at again with more prompts, the same weights are the same challenger. Sampled otherwise
    they are another one: luck must not be drawn for until it comes. Who gets the title back after
    a rollback goes on counting where it stopped.
    """
    met: dict[str | None, list[tuple[str, str]]] = {}
    reign: str | None = None
    for entry in entries:
        here = met.setdefault(reign, [])
        if entry.action in GATE and (entry.content_hash, entry.look) not in here:
            here.append((entry.content_hash, entry.look))
        reign = entry.champion
    here = met.get(reign, [])
    one = (content_hash, look)
    return here.index(one) + 1 if one in here else len(here) + 1


def latest_decision(layout: Layout, generation: str) -> dict[str, Any] | None:
    """What was last said of a generation, or None.

    Returns:
        {number, decision, reasons, awaiting, stage, by, at}; `stage` is where it is on one.
        needs_yes: whether its weights were sent away, so that only a person brings them back.
        rollback: {champion, is_given, reasons, by, at} where the title was given back to it since,
        or taken from it, and who has it then; None where neither.
    """
    entries = Ledger(layout).entries()
    entry = last_of(entries, generation, actions=SAID)
    if entry is None:
        return None
    return {
        "number": entry.number,
        "decision": entry.action,
        "reasons": entry.reasons,
        "awaiting": entry.awaiting,
        "stage": entry.stage if entry == staged_of(entries) else "",
        "by": entry.by,
        "at": entry.at,
        "needs_yes": entry.content_hash in sent_away(entries),
        "rollback": _rollback_since(entries, entry),
    }


def _rollback_since(entries: list[Entry], said: Entry) -> dict[str, Any] | None:
    """The last rollback since an entry that took the title from its generation, or gave it back."""
    for place in range(len(entries) - 1, said.number - 1, -1):
        entry = entries[place]
        if entry.action == "ROLLBACK" and said.generation in {
            entry.generation,
            *(one.generation for one in reigns_of(entries[:place])[-1:]),
        }:
            return {
                "champion": entry.generation,
                "is_given": entry.generation == said.generation,
                "reasons": entry.reasons,
                "by": entry.by,
                "at": entry.at,
            }
    return None


def history(layout: Layout) -> list[Entry]:
    """Every decision, oldest first."""
    return Ledger(layout).entries()


def end_stage(
    entries: list[Entry], append: Callable[..., Entry], reason: str, by: str, *, but: str = ""
) -> Entry | None:
    """Enter that who is on a stage is off it, before the entry that ends it: none is lost silently.

    Args:
        entries: Of the ledger, which the caller holds.
        append: Appends to it.
        reason: Why.
        by: Whose decision it is.
        but: A generation that goes on by that entry, and is not stopped.

    Returns:
        The entry; None where nobody is on a stage.
    """
    staged = staged_of(entries)
    if staged is None or staged.generation == but:
        return None
    return append(
        action="STOP", reasons=[reason], by=by, champion=title_of(entries), **about(staged)
    )


def first_stage(entries: list[Entry], generation: str, stages: Sequence[str]) -> str:
    """Where a promoted challenger begins; empty where it takes the title at once."""
    now = holder_of(entries)
    return stages[0] if stages and now and now.generation != generation else ""


def judge_again(generation: str, now: Champion) -> str:
    """That a generation was compared with another champion than the present one, and the remedy."""
    return (
        f"{generation} was never compared with {now.generation}, which is the champion by now; "
        f"materialize held_out_evaluation and gate_decision of {generation} again, which judges it "
        f"against {now.generation}"
    )


def title_of(entries: list[Entry]) -> str | None:
    """Generation of the champion after these entries."""
    return entries[-1].champion if entries else None


def last_of(entries: list[Entry], generation: str, actions: tuple[str, ...] = GATE) -> Entry | None:
    """The last of these actions on a generation."""
    found = [e for e in entries if e.generation == generation and e.action in actions]
    return found[-1] if found else None


def _restored(generation: str) -> str:
    """What to do about weights that are not those that were judged."""
    return (
        f"restore that folder from a copy, or remove it and materialize policy, "
        f"held_out_evaluation and gate_decision of {generation} again"
    )


def _below(layout: Layout, generation: str) -> str:
    return str(layout.checkpoint("policy", generation).relative_to(layout.root))
