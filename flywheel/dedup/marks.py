"""Compare all texts of the warehouse and write the marks that the marts conclude from.

Marks only say what is the case; which rows a mark excludes is decided in dbt, in one place. All
files are rewritten whole, so they can be thrown away at any time. What was compared before is not
compared again (`index.py`, `leaks.py`); the files are the same.

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

from flywheel.dedup import kernel
from flywheel.dedup.index import TextIndex
from flywheel.dedup.leaks import contaminated, scanned
from flywheel.dedup.texts import Edge, Row, open_texts, prints
from flywheel.errors import SettingsError
from flywheel.lake import DERIVED, write_table
from flywheel.layout import Layout

ROLES = ("prompt", "response", "trajectory")  # only texts of one role can repeat each other


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
    """Compare the texts of the warehouse and write the derived files of `layout`.

    Texts that were compared before, by the index of `layout`, are not compared again; the files
    are those of comparing everything.

    Raises:
        SettingsError: The threshold is not above 0.5 and at most 1.
        WarehouseError: `int_texts` is not built, or the warehouse is missing or locked.
    """
    if not 0.5 < threshold <= 1:
        raise SettingsError(
            f"the similarity threshold must be above 0.5 and at most 1, got {threshold}; repair "
            "[deduplication] in settings.toml"
        )
    index = {role: TextIndex(layout.text_index / role, threshold, log) for role in ROLES}
    with open_texts(database) as texts:
        rows = texts.rows
        by_role = {role: [row for row in rows if row["role"] == role] for role in ROLES}
        edges: dict[str, list[Edge]] = {}
        for role, some in by_role.items():
            ids = [row["text_id"] for row in some]
            found = index[role].update(ids, prints(some), texts.fetch)
            edges[role] = list(zip(*(column.tolist() for column in found), strict=True))
        contained, covered = scanned(texts, layout.text_index / "scanned.parquet")
    prompts = by_role["prompt"]
    repeats = [repeat for role in ROLES for repeat in _repeats(by_role[role], edges[role])]
    groups = _groups(prompts, edges["prompt"])
    leaks = contaminated(rows, edges["prompt"], contained)
    for name, marks in (
        ("near_duplicates", repeats),
        ("prompt_groups", groups),
        ("contamination", leaks),
        ("evaluation_overlaps", covered),
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
            "newly_compared": sum(one.compared for one in index.values()),
            "computed_by": kernel.state(),
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
            "texts_that_cover_half_of_a_prompt": len(covered),
        },
    )


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
