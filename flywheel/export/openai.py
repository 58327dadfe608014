"""OpenAI fine-tuning files: chat, preference and reinforcement.

Turns of the assistant in a prompt get weight 0, so that only the response is learnt. A prompt that
is tested on becomes a row of reinforcement, with its reference for the grader.
Source: OpenAPI document 2.3.0, as `flywheel.ingest.formats.openai`.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from flywheel.export.chat import with_texts
from flywheel.export.line import Line, Row, Way, Writer, decided, passed, tools
from flywheel.records.message import Conversation, load

VERSION = "OpenAPI document 2.3.0"


def demonstrations(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Chats in which the response alone is learnt."""
    for row in rows:
        chat = _chat(load(row["prompt"]), load(row["response"]))
        yield Line({"messages": chat, **tools(row, way)}, [row])


def trajectories(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """One chat per attempt that passed, in which every turn of the agent is learnt."""
    for row in passed(rows, way):
        chat = _chat(load(row["prompt"]), load(row["steps"]))
        yield Line({"messages": chat, **tools(row, way)}, [row])


def preferences(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Pairs with the better side as preferred."""
    for row, chosen, rejected, line in decided(rows, way):
        prompt = load(row["prompt"])
        calls = sum(len(turn.tool_calls) for turn in prompt)
        asked = {"messages": with_texts(prompt), "tools": [], **tools(row, way)}
        line.value.update(
            input=asked | {"parallel_tool_calls": True},
            preferred_output=with_texts(chosen, calls),
            non_preferred_output=with_texts(rejected, calls),
        )
        yield line


def evaluation(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Prompts with what their grader needs."""
    for row in rows:
        reference = {"reference_answer": row["reference"]} if row["reference"] is not None else {}
        grader = {"evaluation_set": row["evaluation_set"], "grader": row["grader"]}
        asked = {"messages": with_texts(load(row["prompt"])), **tools(row, way)}
        yield Line({**asked, **reference, **grader}, [row])


def _chat(prompt: Conversation, learnt: Conversation) -> list[dict[str, Any]]:
    turns = with_texts((*prompt, *learnt))
    for turn in turns[: len(prompt)]:
        if turn["role"] == "assistant":
            turn["weight"] = 0
    return turns


WRITERS: dict[str, Writer] = {
    "demonstration": demonstrations,
    "preference": preferences,
    "trajectory": trajectories,
    "evaluation": evaluation,
}
