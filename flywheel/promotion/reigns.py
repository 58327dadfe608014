"""What the entries of the ledger come to: who reigned, who reigns, who is on a stage before that,
and who was sent away.

A *stage* is what a promoted challenger goes through before it takes the title, where settings ask
for it: `shadow` (it answers too, and nobody sees it), then `canary` (it answers a share of users).
"""

from flywheel.promotion.ledger import Entry
from flywheel.promotion.title import Champion


def reigns_of(entries: list[Entry]) -> list[Entry]:
    """Champions one on top of the other, in the order in which they took the title.

    A rollback takes champions off the top until the one that it names is there.
    """
    reigns: list[Entry] = []
    for entry in entries:
        if entry.action == "ROLLBACK":
            while reigns and reigns[-1].generation != entry.generation:
                reigns.pop()
            reigns = reigns or [entry]
        elif takes_title(entry):
            if reigns and reigns[-1].generation == entry.generation:
                reigns.pop()  # confirmed on new evidence: no second reign
            reigns.append(entry)
    return reigns


def takes_title(entry: Entry) -> bool:
    """Whether an entry makes its generation the champion; a rollback gives the title back."""
    forward = entry.action in ("PROMOTE", "APPROVE", "ADVANCE")
    return forward and not entry.awaiting and not entry.stage


def staged_of(entries: list[Entry]) -> Entry | None:
    """The entry that put a challenger on the stage that it is on now; None where none is on any.

    One challenger is on a stage at a time: the next takes its place. Its stage is over, too, once
    the champion changes, whom it was compared with, and once anything else is said of it. A STOP
    says so first, in entries that are not of before it was written down.
    """
    found: Entry | None = None
    for entry in entries:
        if entry.stage:
            found = entry
        elif found and (
            takes_title(entry)
            or entry.action in ("ROLLBACK", "STOP")
            or entry.generation == found.generation
        ):
            found = None
    return found


def sent_away(entries: list[Entry]) -> set[str]:
    """Weights that were rolled back, declined or stopped, and that no person has approved since."""
    found: set[str] = set()
    for place, entry in enumerate(entries):
        if entry.action == "ROLLBACK":
            before = {one.content_hash for one in reigns_of(entries[:place])}
            found |= before - {one.content_hash for one in reigns_of(entries[: place + 1])}
            if staged := staged_of(entries[:place]):
                found.add(staged.content_hash)
        elif entry.action in ("DECLINE", "STOP"):
            found.add(entry.content_hash)
        elif entry.action == "APPROVE":
            found.discard(entry.content_hash)
    return found


def holder_of(entries: list[Entry]) -> Champion | None:
    """Who holds the title after these entries."""
    reigns = reigns_of(entries)
    return as_champion(reigns[-1]) if reigns else None


def as_champion(entry: Entry) -> Champion:
    """The checkpoint that an entry is about."""
    return Champion(
        generation=entry.generation, checkpoint=entry.checkpoint, content_hash=entry.content_hash
    )


def about(entry: Entry) -> dict[str, object]:
    """What a later entry on the same checkpoint and the same evidence repeats."""
    return {
        "generation": entry.generation,
        "awaiting": False,
        "checkpoint": entry.checkpoint,
        "content_hash": entry.content_hash,
        "evidence": entry.evidence,
        "evidence_sha256": entry.evidence_sha256,
    }
