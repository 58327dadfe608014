r"""Pairs of whole dialogues in one string each, as anthropics/hh-rlhf publishes them: comparisons.

A turn begins at a paragraph that starts with `Human:` or `Assistant:`; the same words inside a
paragraph are the author's own. The prompt is what both dialogues begin with, in whole turns.
Nobody is named as the author. The red-team file of the same place rates attacks, not responses,
and is none of this format.
Source: anthropics/hh-rlhf, README.
"""

import re
from collections.abc import Sequence
from typing import Any

from flywheel.errors import RecordError
from flywheel.ingest.formats.messages import shared_turns, without_nulls
from flywheel.records import Comparison, Message, Record
from flywheel.records.message import Conversation

ROLES = {"Human": "user", "Assistant": "assistant"}
TURN = re.compile(r"\n\n(Human|Assistant):")
BEGINNING = "\n\nHuman:"


def sniff(value: dict[str, Any]) -> float:
    """Sure where both sides begin as dialogues do."""
    sides = (value.get("chosen"), value.get("rejected"))
    return float(all(isinstance(side, str) and side.startswith(BEGINNING) for side in sides))


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one pair."""
    chosen, rejected = dialogue(value["chosen"]), dialogue(value["rejected"])
    shared = shared_turns(chosen, rejected)
    rest = without_nulls(value)
    del rest["chosen"], rest["rejected"]
    return (
        Comparison(
            prompt=chosen[:shared],
            response_a=chosen[shared:],
            response_b=rejected[shared:],
            choice="a",
            metadata=rest,
        ),
    )


def dialogue(text: Any) -> Conversation:
    r"""Cut "\n\nHuman: ...\n\nAssistant: ..." into turns.

    Raises:
        RecordError: It does not begin with a turn.
    """
    start, *parts = TURN.split(text) if isinstance(text, str) else [""]
    if start.strip() or not parts:
        raise RecordError(r"a dialogue in one string must begin with \n\nHuman: or \n\nAssistant:")
    return tuple(
        Message(role=ROLES[role], content=content.strip())  # type: ignore[arg-type]
        for role, content in zip(parts[::2], parts[1::2], strict=True)
    )
