"""TRL's dataset types, standard (strings) and conversational (lists of messages).

prompt + completion is a demonstration, with a boolean `label` an interaction (a thumb from nobody
in particular); a label that is null says neither, so its row is refused. prompt + chosen +
rejected is a comparison, and so is chosen + rejected alone, where both sides are whole dialogues
with one beginning.
Source: huggingface/trl, docs/source/dataset_formats.md.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal

from flywheel.errors import RecordError
from flywheel.ingest.formats.messages import conversation, without_nulls
from flywheel.records import Comparison, Demonstration, Interaction, Message, Record
from flywheel.records.message import Conversation

ROLES = {"Human": "user", "Assistant": "assistant"}
TURN = re.compile(r"\n\n(Human|Assistant):")
LABELS = {"true": True, "True": True, "false": False, "False": False}  # as CSV has them


def sniff(value: dict[str, Any]) -> float:
    """Sure of the pairs and of the labelled; `messages` alone is more likely OpenAI's."""
    keys = {key for key, item in value.items() if item is not None}
    if {"chosen", "rejected"} <= keys:
        sides = (value["chosen"], value["rejected"])
        return 0.95 if all(isinstance(side, str | list) for side in sides) else 0.0
    if {"prompt", "completion"} <= keys:
        return 0.95
    is_labelled = "label" in value and isinstance(value["label"], bool | None)
    return 0.9 if "messages" in keys and is_labelled else 0.0


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one row."""
    has_label = "label" in value
    value = without_nulls(value)
    rest = {
        key: item
        for key, item in value.items()
        if key not in ("prompt", "completion", "chosen", "rejected", "label", "messages")
    }
    if "chosen" in value:
        prompt, chosen, rejected = _pair(value)
        return (
            Comparison(
                prompt=prompt, response_a=chosen, response_b=rejected, choice="a", metadata=rest
            ),
        )
    if "messages" in value:
        turns = conversation(value["messages"])
        if len(turns) < 2 or turns[-1].role != "assistant":
            raise RecordError("the last message must be the assistant's, after at least one other")
        prompt, response = turns[:-1], turns[-1:]
    else:
        prompt, response = _side(value["prompt"], "user"), _side(value["completion"], "assistant")
    if not has_label:
        return (Demonstration(prompt=prompt, response=response, metadata=rest),)
    label = value.get("label")
    label = LABELS.get(label) if isinstance(label, str) else label
    if not isinstance(label, bool):
        raise RecordError(f"label must be true or false, found {value.get('label')!r}")
    thumbs: Literal["up", "down"] = "up" if label else "down"
    return (Interaction(prompt=prompt, response=response, thumbs=thumbs, metadata=rest),)


def _side(value: Any, role: str) -> Conversation:
    if isinstance(value, str):
        return (Message(role=role, content=value),)  # type: ignore[arg-type]
    return conversation(value)


def _pair(value: dict[str, Any]) -> tuple[Conversation, Conversation, Conversation]:
    if "prompt" in value:
        prompt = _side(value["prompt"], "user")
        return prompt, _side(value["chosen"], "assistant"), _side(value["rejected"], "assistant")
    chosen, rejected = (
        _dialogue(value[side]) if isinstance(value[side], str) else conversation(value[side])
        for side in ("chosen", "rejected")
    )
    shared = 0
    for one, other in zip(chosen[:-1], rejected[:-1], strict=False):
        if one != other:
            break
        shared += 1
    if not shared:
        raise RecordError("chosen and rejected share no beginning, so there is no prompt")
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _dialogue(text: str) -> Conversation:
    r"""Cut "\n\nHuman: ...\n\nAssistant: ..." into turns."""
    start, *parts = TURN.split(text)
    if start.strip() or not parts:
        raise RecordError(r"a dialogue in one string must begin with \n\nHuman: or \n\nAssistant:")
    return tuple(
        Message(role=ROLES[role], content=content.strip())  # type: ignore[arg-type]
        for role, content in zip(parts[::2], parts[1::2], strict=True)
    )
