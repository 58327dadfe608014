"""Pairs of answers that an evaluation compares, put before people: blind, and in a random order.

What was sampled is asked about and nothing is sampled anew, so that a judgement is of the very
answers whose win rate is told. A line says neither who wrote which nor what anybody thinks of it;
which answer stands first is drawn for each. Prompts that are left to people come first, in an order
that the seed mixes: asked again for more, the first ones are the same.

Pairs of a second kind tell how far the reward may be followed (`evaluate.reward.by_people`): an
answer from along a way, the best of n or the challenger's run, and one of the SFT policy that it
began from. All places of a prompt are asked about in one queue, and each pair of words once,
whatever the places that say them; those that a person has judged are left out, until all are and
others may be asked about them. The lines of all prompts are mixed, and nothing in a line or in its
place tells how far along its answer lies. Which one is the SFT policy's is not said either, but can
be found out: it recurs in the lines of a prompt.
"""

import json
import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq

from flywheel.datasets.manifest import read_split
from flywheel.errors import EvaluationError
from flywheel.layout import Layout
from flywheel.records.message import load, text_of

PEOPLE = "people"  # grader of prompts that are left to them
WAYS = "way.parquet"  # as `evaluate.reward.ways` writes it


def queue_of(layout: Layout, generation: str) -> Path:
    """Where the pairs of a generation lie: beside the queues that train, and not among them."""
    return layout.annotation_queue / "evaluation" / f"{generation}.jsonl"


def ask_people(
    layout: Layout, generation: str, *, pairs: int = 100, along: int = 0, seed: int = 0
) -> dict[str, Any]:
    """Write the pairs that people should judge: of challenger and opponent, and along the ways.

    Args:
        layout: The home.
        generation: Whose challenger it is.
        pairs: Prompts to ask about the challenger and its opponent.
        along: Pairs of answers from along the ways and of the SFT policy.
        seed: Of the choice and of the order.

    Returns:
        queue, lines, those `along` the ways among them, `judged`: pairs along the ways that a
        person has judged, and `alike`: prompts to which challenger and opponent gave the same
        answer.

    Raises:
        EvaluationError: The generation was not evaluated on evaluation prompts, `pairs` or `along`
            is negative, or the evaluation followed no way that could be asked about.
    """
    samples = layout.evaluation(generation) / "samples.parquet"
    if not samples.exists():
        raise EvaluationError(
            f"there is nothing to ask people about: {generation} was not evaluated ({samples} is "
            f"missing); materialize held_out_evaluation"
        )
    if pairs < 0 or along < 0:
        raise EvaluationError(
            f"people can be asked about 0 pairs or more, got {pairs}, and {along} along the ways"
        )
    prompts = {
        row["prompt_key"]: row
        for row in read_split(layout.dataset("evaluation", generation), "test").to_pylist()
    }
    said: dict[str, dict[str, str]] = {}
    for row in pq.read_table(samples).to_pylist():
        if not row["greedy"]:
            said.setdefault(row["policy"], {})[row["prompt_key"]] = row["response"]
    mine, other = said["policy"], said.get("champion") or said["base"]
    able = [key for key in mine.keys() & other.keys() & prompts.keys() if mine[key] != other[key]]
    able.sort(key=lambda key: (prompts[key]["grader"] != PEOPLE, _drawn(seed, generation, key)))
    lines = [
        {
            "queue_id": f"{generation}-evaluation-{key[:16]}",
            "prompt": msgspec.to_builtins(load(prompts[key]["prompt"])),
            "responses": _in_order(mine[key], other[key], _drawn(seed, key, "order")),
            "reason": "evaluation",
        }
        for key in able[:pairs]
    ]
    about_ways, judged = _along(layout, generation, prompts, along, seed) if along else ([], 0)
    path = queue_of(layout, generation)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    every = lines + about_ways
    draft.write_text("".join(json.dumps(line) + "\n" for line in every))
    os.replace(draft, path)
    alike = sum(mine[key] == other[key] for key in mine.keys() & other.keys())
    return {
        "queue": str(path),
        "lines": len(every),
        "along": len(about_ways),
        "judged": judged,
        "alike": alike,
    }


def _along(
    layout: Layout, generation: str, prompts: dict[str, dict[str, Any]], count: int, seed: int
) -> tuple[list[dict[str, Any]], int]:
    """Lines on answers from along the ways, `count` at most: chosen prompt by prompt, and mixed.
    And how many pairs a person has judged."""
    path = layout.evaluation(generation) / WAYS
    if not path.exists():
        raise EvaluationError(
            f"{generation} was followed along no way that people could be asked about ({path} is "
            f"missing); set [people] along, and materialize held_out_evaluation again"
        )
    said: dict[tuple[str, ...], None] = {}  # key and two answers in an order of their own
    for row in pq.read_table(path).to_pylist():
        if row["response"] != row["start"] and row["prompt_key"] in prompts:
            said[row["prompt_key"], *sorted((row["response"], row["start"]))] = None
    judged = said.keys() & _judged(layout, generation)
    able = [pair for pair in said if pair not in judged] or [*said]
    able.sort(key=lambda pair: _drawn(seed, generation, "along", pair[0]))
    names = {pair: _drawn(seed, generation, "along", *pair) for pair in able[:count]}
    return [
        {
            "queue_id": f"{generation}-evaluation-{name:016x}",
            "prompt": msgspec.to_builtins(load(prompts[pair[0]]["prompt"])),
            "responses": _in_order(pair[1], pair[2], _drawn(seed, "order", *pair)),
            "reason": "evaluation",
        }
        for pair, name in sorted(names.items(), key=lambda one: one[1])
    ], len(judged)


def _judged(layout: Layout, generation: str) -> set[tuple[str, ...]]:
    """Key and two answers, in an order of their own, of each pair that a person has judged."""
    path = layout.run("people_judgements", generation) / "judgements.parquet"
    rows = pq.read_table(path).to_pylist() if path.exists() else []
    return {
        (row["prompt_key"], *sorted(text_of(load(row[f"response_{side}"])) for side in "ab"))
        for row in rows
        if row["annotator_kind"] == "person"
    }


def _drawn(*parts: object) -> int:
    text = " ".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


def _in_order(mine: str, other: str, drawn: int) -> list[str]:
    return [other, mine] if drawn % 2 else [mine, other]
