"""TRL's dataset types, conversational; but stepwise supervision, of step ratings, is plain text.

Tools are JSON text, which TRL reads as well as a list, and Arrow would merge lists over all rows.

Source: huggingface/trl at f2cd577, docs/source/dataset_formats.md.
"""

import itertools
from collections.abc import Iterable, Iterator

import msgspec

from flywheel.export.chat import as_text, is_plain, with_objects
from flywheel.export.line import Line, Row, Way, Writer, decided, passed, tools
from flywheel.records.message import Conversation, load, text_of

VERSION = "trl f2cd577 (2026-07-24)"


def demonstrations(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Prompt-completion."""
    for row in rows:
        prompt, response = with_objects(load(row["prompt"])), with_objects(load(row["response"]))
        yield Line({"prompt": prompt, "completion": response, **_tools(row, way)}, [row])


def preferences(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Preference with an explicit prompt."""
    for row, chosen, rejected, line in decided(rows, way):
        line.value.update(
            prompt=with_objects(load(row["prompt"])),
            chosen=with_objects(chosen),
            rejected=with_objects(rejected),
            **_tools(row, way),
        )
        yield line


def ratings(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Unpaired preference: a share of full marks from the cut-off on is a thumb up."""
    way.settings["cut_off"] = way.cut_off
    for row in rows:
        way.lost["scores_cut"] += row["score_frac"] not in (0, 1)
        value = {
            "prompt": with_objects(load(row["prompt"])),
            "completion": with_objects(load(row["response"])),
            "label": row["score_frac"] >= way.cut_off,
            **_tools(row, way),
        }
        yield Line(value, [row], {"score_frac": row["score_frac"]})


def trajectories(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Language modelling, of attempts that passed; the agent's turns of a prompt are learnt too."""
    for row in passed(rows, way):
        prompt, steps = load(row["prompt"]), load(row["steps"])
        way.lost["turns_of_prompts_not_masked"] += sum(turn.role == "assistant" for turn in prompt)
        yield Line({"messages": with_objects((*prompt, *steps)), **_tools(row, way)}, [row])


def step_ratings(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Stepwise supervision: one line per attempt, a label for every step that somebody rated.

    A step is text: calls are written out, and what nobody rated, observations too, is joined to
    the next step that somebody did. An opening that several attempts share stands in each.
    """
    way.settings["cut_off"] = way.cut_off
    chains: dict[str, list[tuple[Conversation, Row]]] = {}
    for row in rows:
        chains.setdefault(row["prompt_key"], []).append((load(row["steps"]), row))
    for rated in chains.values():
        for steps, row in rated:
            if any(len(other) > len(steps) and other[: len(steps)] == steps for other, _ in rated):
                continue
            prompt = load(row["prompt"])
            is_text = is_plain(prompt, "user") and all(is_plain((s,), "assistant") for s in steps)
            way.lost["conversations_written_as_text"] += not is_text
            line = sorted((s for s in rated if steps[: len(s[0])] == s[0]), key=lambda s: len(s[0]))
            way.lost["scores_cut"] += sum(one["score_frac"] not in (0, 1) for _, one in line)
            starts = [0, *(len(one) for one, _ in line)]
            value = {
                "prompt": as_text(prompt, "user"),
                "completions": [
                    text_of(steps[start:end]) for start, end in itertools.pairwise(starts)
                ],
                "labels": [one["score_frac"] >= way.cut_off for _, one in line],
            }
            yield Line(value, [one for _, one in line])


def evaluation(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Prompt-only; the other columns reach the function that rewards."""
    for row in rows:
        beside = {name: row[name] for name in ("reference", "grader", "evaluation_set")}
        asked = {"prompt": with_objects(load(row["prompt"])), **_tools(row, way)}
        yield Line({**asked, **beside}, [row])


def _tools(row: Row, way: Way) -> dict[str, str]:
    return {name: msgspec.json.encode(one).decode() for name, one in tools(row, way).items()}


WRITERS: dict[str, Writer] = {
    "demonstration": demonstrations,
    "preference": preferences,
    "rating": ratings,
    "trajectory": trajectories,
    "step_rating": step_ratings,
    "evaluation": evaluation,
}
