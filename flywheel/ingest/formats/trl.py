"""TRL's dataset types, standard (strings) and conversational (lists of messages).

* messages                                demonstrations, one for each turn of the assistant
* prompt + completion                     a demonstration
* prompt + completion, or messages, + label   an interaction: a thumb from nobody in particular;
  a label that is null says neither, so its row is refused
* either with a rating, a score or the like beside it is refused: it may be one not to imitate
* prompt + chosen + rejected              a comparison
* chosen + rejected                       a comparison of two whole dialogues with one beginning,
  which is cut in whole messages: two whole texts have no such border, and are refused
* prompt + completions + labels           step ratings, 1 and 0 on 0..1, until a label is missing
* prompt alone                            a task to be tested on, what stands beside it for its
  grader; a prompt that is text is a column of any table, and read only when trl is asked for

Text alone asks nothing and is refused.
Source: huggingface/trl at f2cd577, docs/source/dataset_formats.md.
"""

from collections.abc import Sequence
from typing import Any, Literal

from flywheel.errors import RecordError
from flywheel.ingest.formats.labels import task, to_imitate
from flywheel.ingest.formats.messages import (
    beyond,
    conversation,
    demonstrations,
    one_turn,
    shared_turns,
    tools_of,
    without_nulls,
)
from flywheel.ingest.formats.openai import has_object_arguments
from flywheel.records import Comparison, Demonstration, Interaction, Message, Record, StepRating
from flywheel.records.message import Conversation

LABELS = {"true": True, "True": True, "false": False, "False": False}  # as CSV has them
SIDES = ("chosen", "rejected")
READ = {"prompt", "completion", *SIDES, "label", "messages", "tools", "completions", "labels"}


def sniff(value: dict[str, Any]) -> float:
    """Sure of the pairs, the steps and the labelled; `messages` alone is more likely OpenAI's."""
    keys = {key for key, item in value.items() if item is not None}
    if keys >= set(SIDES):
        return 0.95 if all(isinstance(value[side], str | list) for side in SIDES) else 0.0
    if {"prompt", "completions", "labels"} <= keys:
        return 0.95
    if {"prompt", "completion"} <= keys:
        return 0.95
    if "messages" in keys:
        is_labelled = "label" in value and isinstance(value["label"], bool | None)
        turns = value["messages"] if isinstance(value["messages"], list) else []
        is_chat = keys <= {"messages", "tools"} and has_object_arguments(turns)
        return 0.9 if is_labelled else 0.95 if is_chat else 0.0
    asked = value.get("prompt") if "kind" not in keys else None
    is_chat = isinstance(asked, list) and all(isinstance(t, dict) and "role" in t for t in asked)
    return 0.8 if asked and is_chat else 0.0


def read(value: dict[str, Any]) -> Sequence[Record]:
    """Read one row."""
    has_label = "label" in value
    value = without_nulls(value)
    metadata = {key: item for key, item in value.items() if key not in READ}
    metadata |= tools_of(value.get("tools"))
    if "chosen" in value:
        prompt, chosen, rejected = _pair(value)
        return (
            Comparison(
                prompt=prompt, response_a=chosen, response_b=rejected, choice="a", metadata=metadata
            ),
        )
    if "completions" in value:
        return _steps(value, metadata)
    if "messages" in value:
        turns = conversation(value["messages"])
        metadata |= beyond(value["messages"])
        if not has_label:
            to_imitate(value)
            return demonstrations(turns, metadata)
        if len(turns) < 2 or turns[-1].role != "assistant":
            raise RecordError("the last message must be the assistant's, after at least one other")
        prompt, response = turns[:-1], turns[-1:]
    elif "prompt" not in value:
        raise RecordError("there is no prompt: text that nothing asks for cannot be taken in")
    else:
        prompt = one_turn(value["prompt"], "user")
        if "completion" not in value:
            beside = metadata | ({"label": value["label"]} if "label" in value else {})
            return (task(prompt, beside, "trl_prompts"),)
        response = one_turn(value["completion"], "assistant")
    if not has_label:
        to_imitate(value)
        return (Demonstration(prompt=prompt, response=response, metadata=metadata),)
    label: Any = value.get("label")
    label = LABELS.get(label) if isinstance(label, str) else label
    if not isinstance(label, bool):
        raise RecordError(f"label must be true or false, found {value.get('label')!r}")
    thumbs: Literal["up", "down"] = "up" if label else "down"
    return (Interaction(prompt=prompt, response=response, thumbs=thumbs, metadata=metadata),)


def _pair(value: dict[str, Any]) -> tuple[Conversation, Conversation, Conversation]:
    if "prompt" in value:
        chosen, rejected = (one_turn(value[side], "assistant") for side in SIDES)
        return one_turn(value["prompt"], "user"), chosen, rejected
    if any(isinstance(value[side], str) for side in SIDES):
        raise RecordError(
            "two whole texts without a prompt have no border where it ends; give a prompt, or "
            "lists of messages, or land dialogues of Human and Assistant as hh_rlhf"
        )
    chosen, rejected = (conversation(value[side]) for side in SIDES)
    shared = shared_turns(chosen, rejected)
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _steps(value: dict[str, Any], metadata: dict[str, Any]) -> Sequence[Record]:
    texts, labels = value["completions"], value.get("labels")
    if not isinstance(texts, list) or not isinstance(labels, list) or len(texts) != len(labels):
        raise RecordError("completions and labels must be lists of one length")
    if not texts or not all(isinstance(one, bool) for one in labels):
        raise RecordError(f"labels must be true or false, one for each step, found {labels!r}")
    steps = tuple(Message(role="assistant", content=text) for text in texts)
    return [
        StepRating(
            prompt=one_turn(value["prompt"], "user"),
            steps=steps[: place + 1],
            rating=float(label),
            rating_min=0.0,
            rating_max=1.0,
            metadata=metadata,
        )
        for place, label in enumerate(labels)
    ]
