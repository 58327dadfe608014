"""Whether a checkpoint may be used for what it is wanted for, by what its data allows today.

Asked at the gate, and of who answers again and again: consents are withdrawn, and licences read
anew, long after a training run has ended.
"""

from collections.abc import Callable
from typing import Any

from flywheel.layout import Layout
from flywheel.lineage.behind import Reading, reading_of
from flywheel.lineage.trace import trace

INVARIANT = "rights of its data"
RULES_TOLD = 5


def against_its_use(layout: Layout, name: str, reading: Reading) -> str:
    """Why a checkpoint (`policy/g0001`) may not be used any more; empty where it may.

    What it was trained on counts, and what each of its ancestors was; what is not known of them
    may be evaluated alone. Where `[licences] use` asks for no use, only consents that allow nothing
    and erasures count.

    Raises:
        LineageError: There is no such checkpoint, or a file of the lake cannot be read.
    """
    rules = trace(layout, f"checkpoint:{name}", reading)["against_use"]
    if not rules:
        return ""
    wanted = f"used to {reading.use}" if reading.use else "used any more"
    more = len(rules) - RULES_TOLD
    told = "; ".join(rules[:RULES_TOLD]) + (f"; and by {more} more rules" if more > 0 else "")
    return (
        f"{name} was trained, or descends from what was, on what may not be {wanted}: "
        f"{told}. Take a turn, which leaves such records out where [licences] refused says so, "
        f"from a base that did not see them, and roll back to a champion without them until then"
    )


def forbidden_by(layout: Layout, settings: Callable[[str], dict[str, Any]]) -> Callable[[str], str]:
    """Asks `against_its_use` of a generation's policy, by a home's settings: for who decides.

    The settings are read when it asks, so that who only wants to give back a title is not stopped
    by a fault in them.
    """
    return lambda generation: against_its_use(layout, f"policy/{generation}", reading_of(settings))
