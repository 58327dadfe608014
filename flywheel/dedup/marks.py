"""Compare all texts of the warehouse and write the marks that the marts conclude from.

Marks only say what is the case; which rows a mark excludes is decided in dbt, in one place. All
three files are rewritten whole, so they can be thrown away at any time.

*Near duplicates*: in the order of their arrival, a text repeats the first earlier text that is
similar to it and repeats nothing itself, so every repeated text is similar to the one kept.
*Prompt groups*: prompts connected by similarity or by a hint given with them; chains count, because
a group is what must not be split. A prompt that connects two groups makes them one under the id of
the older, so the younger's split can change between generations. *Contamination*: see `overlap.py`
for what is not a prompt. A prompt's text comes without system and developer turns (`int_texts`),
its key with them.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from flywheel.dedup.join import similar_pairs
from flywheel.dedup.overlap import LEAST_WORDS, EvaluationRuns
from flywheel.errors import SettingsError
from flywheel.lake import DERIVED, write_table
from flywheel.layout import Layout
from flywheel.warehouse import read_table

TEXTS = "intermediate.int_texts"
ROLES = ("prompt", "response", "trajectory")  # only texts of one role can repeat each other
Row = dict[str, Any]
Edge = tuple[int, int, float]


@dataclass(frozen=True, slots=True)
class Report:
    """What was marked: for each derived file, numbers for the Dagster UI."""

    near_duplicates: dict[str, Any]
    prompt_groups: dict[str, Any]
    contamination: dict[str, Any]


def mark(
    database: Path,
    layout: Layout,
    *,
    threshold: float = 0.8,  # below, texts of one template meet; above, one changed word hides
    log: Callable[[str], object] = print,
) -> Report:
    """Read every text from the warehouse and write the derived files of `layout`.

    Raises:
        SettingsError: The threshold is not above 0.5 and at most 1.
        WarehouseError: `int_texts` is not built, or the warehouse is missing or locked.
    """
    if not 0.5 < threshold <= 1:
        raise SettingsError(
            f"the similarity threshold must be above 0.5 and at most 1, got {threshold}; repair "
            "[deduplication] in settings.toml"
        )
    rows = sorted(_read(database), key=lambda row: (row["first_seen"] or "", row["text_id"]))
    by_role = {role: [row for row in rows if row["role"] == role] for role in ROLES}
    edges = {role: _edges(texts, threshold) for role, texts in by_role.items()}
    prompts = by_role["prompt"]
    repeats = [repeat for role in ROLES for repeat in _repeats(by_role[role], edges[role])]
    groups = _groups(prompts, edges["prompt"])
    leaks = contaminated(rows, edges["prompt"])
    for name, marks in (
        ("near_duplicates", repeats),
        ("prompt_groups", groups),
        ("contamination", leaks),
    ):
        write_table(pa.Table.from_pylist(marks, DERIVED[name]), layout.derived(name))
    sizes = Counter(group["group_id"] for group in groups)
    log(
        f"compared {len(rows)} texts at Jaccard {threshold}: {len(repeats)} repeat another, "
        f"{len(prompts)} prompts form {len(sizes)} groups, {len(leaks)} overlaps with evaluations"
    )
    return Report(
        near_duplicates={
            "dagster/row_count": len(repeats),
            "texts": len(rows),
            "similar_pairs": sum(map(len, edges.values())),
            "threshold": threshold,
        },
        prompt_groups={
            "dagster/row_count": len(groups),
            "groups": len(sizes),
            "largest_group": max(sizes.values(), default=0),
        },
        contamination={
            "dagster/row_count": len(leaks),
            "texts": len({(leak["role"], leak["text_key"]) for leak in leaks}),
            "evaluation_prompts": sum(row["is_evaluation"] for row in rows),
        },
    )


def contaminated(rows: Sequence[Row], prompt_edges: Sequence[Edge]) -> list[Row]:
    """Overlaps of training texts with evaluation prompts, the strongest kind of each.

    Args:
        rows: Rows of `int_texts`.
        prompt_edges: Similar pairs among the prompts of `rows`, as indices into them.
    """
    prompts = [row for row in rows if row["role"] == "prompt"]
    items = [row for row in prompts if row["is_evaluation"]]
    by_key = {row["text_key"]: row for row in items}
    found: dict[tuple[str, str, str], Row] = {}

    def note(text: Row, item: Row, kind: str, jaccard: float | None, span: str | None) -> None:
        place = (text["role"], text["text_key"], item["text_key"])
        found.setdefault(
            place,
            {
                "text_key": text["text_key"],
                "role": text["role"],
                "evaluation_set": item["evaluation_set"],
                "evaluation_prompt_key": item["text_key"],
                "kind": kind,
                "jaccard": jaccard,
                "span": span,
            },
        )

    for row in prompts:
        if not row["is_evaluation"] and row["text_key"] in by_key:
            note(row, by_key[row["text_key"]], "exact", 1.0, None)
    for first, second, jaccard in prompt_edges:
        one, other = prompts[first], prompts[second]
        if one["is_evaluation"] != other["is_evaluation"]:
            text, item = (other, one) if one["is_evaluation"] else (one, other)
            note(text, item, "near", jaccard, None)
    runs = EvaluationRuns([item["text"] for item in items])
    training = [row for row in rows if not row["is_evaluation"]]
    for overlap in runs.find([row["text"] for row in training]):
        note(training[overlap.text], items[overlap.item], "contained", None, overlap.span)
    return sorted(found.values(), key=lambda leak: (leak["role"], leak["text_key"], leak["kind"]))


def positive_control(database: Path) -> tuple[int, int]:
    """Plant copies of evaluation prompts among training texts and look for them.

    Plants each of up to 20 prompts word for word as a prompt, nearly so, and inside a response.
    Where the warehouse has no evaluation prompts, two of the control's own are planted.

    Returns:
        How many were caught, and how many were planted; anything but equality is a broken net.
    """
    items = [row for row in _read(database) if row["is_evaluation"] and row["text"]][:20]
    for text in () if items else CONTROL_PROMPTS:
        items.append(_planted("prompt", text, text, evaluation_set="control"))
    plants = [plant for item in items for plant in _plants(item)]
    expected = {plant["text_key"]: plant["kind"] for plant in plants}
    caught = set()
    for item in items:  # one at a time: the net is on trial, not the rule on boilerplate
        rows = [item, *plants]
        edges = _edges([row for row in rows if row["role"] == "prompt"], 0.8)
        for leak in contaminated(rows, edges):
            if leak["kind"] == expected[leak["text_key"]]:
                caught.add(leak["text_key"])
    return len(caught), len(expected)


def _plants(item: Row) -> list[Row]:
    """Copies of an evaluation prompt, with the kind of overlap each must be found as."""
    key, text, words = item["text_key"], item["text"], len(item["text"].split())
    plants = [_planted("prompt", key, text, kind="exact")]
    if words >= 8:  # one more word leaves a similarity of at least 6/7
        plants.append(_planted("prompt", f"near {key}", f"{text} please", kind="near"))
    if words >= LEAST_WORDS:
        inside = f"You asked the following . {text} Here is what I think ."
        plants.append(_planted("response", f"inside {key}", inside, kind="contained"))
    return plants


CONTROL_PROMPTS = (
    "A train leaves the station at nine and another at ten ; when does the second one catch up ?",
    "Explain to a child of seven why the sky is blue at noon and red in the evening .",
)


def _planted(
    role: str, key: str, text: str, *, evaluation_set: str | None = None, kind: str | None = None
) -> Row:
    return {
        "text_key": key,
        "role": role,
        "text": text,
        "is_evaluation": evaluation_set is not None,
        "evaluation_set": evaluation_set,
        "kind": kind,
    }


def _read(database: Path) -> list[Row]:
    rows = read_table(database, TEXTS).to_pylist()
    return [row | {"text": row["text"] or ""} for row in rows]


def _edges(rows: Sequence[Row], threshold: float) -> list[Edge]:
    first, second, similarity = similar_pairs([row["text"] for row in rows], threshold)
    return list(zip(first.tolist(), second.tolist(), similarity.tolist(), strict=True))


def _repeats(rows: Sequence[Row], edges: Sequence[Edge]) -> list[Row]:
    """Greedy leaders among training texts; `rows` are in the order of their arrival."""
    earlier: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for first, second, jaccard in edges:
        if not (rows[first]["is_evaluation"] or rows[second]["is_evaluation"]):
            earlier[second].append((first, jaccard))
    repeated: dict[int, Row] = {}
    for index in sorted(earlier):
        for leader, jaccard in sorted(earlier[index]):
            if leader not in repeated:
                repeated[index] = {
                    "text_key": rows[index]["text_key"],
                    "role": rows[index]["role"],
                    "status": "near_duplicate",
                    "representative_key": rows[leader]["text_key"],
                    "jaccard": jaccard,
                    "reason": f"shares {jaccard:.0%} of its word 3-grams with an earlier text",
                }
                break
    return list(repeated.values())


def _groups(prompts: Sequence[Row], edges: Sequence[Edge]) -> list[Row]:
    """Connected components, each named after the prompt that arrived first."""
    parent = list(range(len(prompts)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    def join(one: int, other: int) -> None:
        low, high = sorted((root(one), root(other)))
        parent[high] = low  # the earliest stays the root

    for first, second, _ in edges:
        join(first, second)
    seen: dict[tuple[str, str], int] = {}
    for index, row in enumerate(prompts):  # the same prompt twice, or the same hint
        for tie in [("key", row["text_key"]), *(("hint", h) for h in row["group_hints"])]:
            join(index, seen.setdefault(tie, index))
    keys = {row["text_key"]: prompts[root(index)] for index, row in enumerate(prompts)}
    return [{"prompt_key": key, "group_id": leader["text_key"]} for key, leader in keys.items()]
