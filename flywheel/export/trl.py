"""TRL's dataset types, conversational; but stepwise supervision, of step ratings, is plain text.

Source: huggingface/trl at f2cd577, docs/source/dataset_formats.md.
"""

import itertools
from collections.abc import Iterable, Iterator

from flywheel.export.chat import is_plain, with_objects
from flywheel.export.line import Line, Row, Way, Writer, decided, passed
from flywheel.records.message import Conversation, load

VERSION = "trl f2cd577 (2026-07-24)"


def demonstrations(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Prompt-completion."""
    for row in rows:
        prompt, response = with_objects(load(row["prompt"])), with_objects(load(row["response"]))
        yield Line({"prompt": prompt, "completion": response}, [row])


def preferences(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Preference with an explicit prompt."""
    for row, chosen, rejected, line in decided(rows, way):
        line.value.update(
            prompt=with_objects(load(row["prompt"])),
            chosen=with_objects(chosen),
            rejected=with_objects(rejected),
        )
        yield line


def ratings(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Unpaired preference: a share of full marks from the cut-off on is a thumb up."""
    way.settings["cut_off"] = way.cut_off
    for row in rows:
        if row["weight"] == 0:
            way.lost["ratings_without_weight_dropped"] += 1
            continue
        way.lost["scores_cut"] += row["score_frac"] not in (0, 1)
        value = {
            "prompt": with_objects(load(row["prompt"])),
            "completion": with_objects(load(row["response"])),
            "label": row["score_frac"] >= way.cut_off,
        }
        beside = {"score_frac": row["score_frac"], "weight": row["weight"]}
        yield Line(value, [row], {key: item for key, item in beside.items() if item not in (0, 1)})


def trajectories(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Language modelling, of attempts that passed."""
    for row in passed(rows, way):
        turns = (*load(row["prompt"]), *load(row["steps"]))
        yield Line({"messages": with_objects(turns)}, [row])


def step_ratings(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Stepwise supervision: one line per attempt, a label for every step that somebody rated.

    Steps that nobody rated are joined to the next that somebody did. An opening that several
    attempts share, and its labels, stand in each.
    """
    way.settings["cut_off"] = way.cut_off
    chains: dict[str, list[tuple[Conversation, Row]]] = {}
    for row in rows:
        steps = load(row["steps"])
        if not is_plain(load(row["prompt"]), "user") or any(
            not is_plain((step,), "assistant") for step in steps
        ):
            way.lost["conversational_steps_dropped"] += 1
            continue
        chains.setdefault(row["prompt_key"], []).append((steps, row))
    for rated in chains.values():
        for steps, row in rated:
            if any(len(other) > len(steps) and other[: len(steps)] == steps for other, _ in rated):
                continue
            line = sorted((s for s in rated if steps[: len(s[0])] == s[0]), key=lambda s: len(s[0]))
            way.lost["scores_cut"] += sum(one["score_frac"] not in (0, 1) for _, one in line)
            starts = [0, *(len(one) for one, _ in line)]
            value = {
                "prompt": load(row["prompt"])[0].content,
                "completions": [
                    "\n".join(step.content for step in steps[start:end])
                    for start, end in itertools.pairwise(starts)
                ],
                "labels": [one["score_frac"] >= way.cut_off for _, one in line],
            }
            yield Line(value, [one for _, one in line])


def evaluation(rows: Iterable[Row], way: Way) -> Iterator[Line]:
    """Prompt-only; the other columns reach the function that rewards."""
    for row in rows:
        beside = {name: row[name] for name in ("reference", "grader", "evaluation_set")}
        yield Line({"prompt": with_objects(load(row["prompt"])), **beside}, [row])


WRITERS: dict[str, Writer] = {
    "demonstration": demonstrations,
    "preference": preferences,
    "rating": ratings,
    "trajectory": trajectories,
    "step_rating": step_ratings,
    "evaluation": evaluation,
}
