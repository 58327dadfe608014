"""What the entries of the ledger come to: who reigned, who reigns, whom a person sent away."""

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
        elif entry.action in ("PROMOTE", "APPROVE") and not entry.awaiting:
            if reigns and reigns[-1].generation == entry.generation:
                reigns.pop()  # confirmed on new evidence: no second reign
            reigns.append(entry)
    return reigns


def sent_away(entries: list[Entry]) -> set[str]:
    """Weights that a person rolled back or declined, and has not approved since."""
    found: set[str] = set()
    for place, entry in enumerate(entries):
        if entry.action == "ROLLBACK":
            before = {one.content_hash for one in reigns_of(entries[:place])}
            found |= before - {one.content_hash for one in reigns_of(entries[: place + 1])}
        elif entry.action == "DECLINE":
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
