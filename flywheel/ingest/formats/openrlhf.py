"""OpenRLHF's rows under its default and usual keys: input, output, label, chosen, rejected, margin.

* input + output               a demonstration, of two strings or two lists of messages
* input, a list                a demonstration whose last message is the target
* either of them + label       a thumb or a score, which is no response to imitate: refused
* input + label                a task: the label goes to the function that rewards
* prompt + chosen + rejected   a comparison, as TRL has it
* chosen + rejected            whole dialogues; OpenRLHF takes all but the last message of `chosen`
  as the prompt, so a pair that differs before that is refused and not cut elsewhere

`margin` and `datasource` go to the metadata.
Source: OpenRLHF/OpenRLHF at 3c3be62, openrlhf/datasets.
"""

from collections.abc import Sequence
from typing import Any

from flywheel.errors import RecordError
from flywheel.ingest.formats import trl
from flywheel.ingest.formats.labels import task, to_imitate
from flywheel.ingest.formats.messages import (
    conversation,
    one_turn,
    tools_of,
    without_nulls,
)
from flywheel.records import Demonstration, Record

BESIDE = {"input", "output", "label", "margin", "datasource", "images", "tools"}


def sniff(value: dict[str, Any]) -> float:
    """Sure of pairs with a margin, and of an input with nothing foreign beside it."""
    keys = {key for key, item in value.items() if item is not None}
    if {"chosen", "rejected", "margin"} <= keys:
        return 1.0
    asked = value.get("input")
    if not isinstance(asked, str | list) or not keys <= BESIDE:
        return 0.0
    if isinstance(asked, list) and not all(isinstance(t, dict) and "role" in t for t in asked):
        return 0.0
    return 0.9 if isinstance(asked, list) or {"output", "label"} & keys else 0.0


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one row."""
    value = without_nulls(value)
    if "chosen" in value:
        chosen, rejected = value["chosen"], value.get("rejected")
        is_whole = "prompt" not in value and isinstance(chosen, list) and isinstance(rejected, list)
        if is_whole and conversation(chosen)[:-1] != conversation(rejected)[:-1]:
            raise RecordError(
                "without a prompt, chosen and rejected must be alike in all but the last "
                "message; land the file as trl to cut them at their shared beginning"
            )
        return trl.read({key: item for key, item in value.items() if key != "label"})
    asked = one_turn(value.get("input"), "user")
    rest = {key: item for key, item in value.items() if key not in ("input", "output", "tools")}
    rest |= tools_of(value.get("tools"))
    if "output" in value:
        to_imitate(value)
        said = one_turn(value["output"], "assistant")
        return (Demonstration(prompt=asked, response=said, metadata=rest),)
    if asked[-1].role == "assistant" and len(asked) > 1:
        to_imitate(value)
        return (Demonstration(prompt=asked[:-1], response=asked[-1:], metadata=rest),)
    return (task(asked, rest, "openrlhf_prompts"),)
