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

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flywheel.dedup import kernel
from flywheel.dedup.index import TextIndex
from flywheel.dedup.leaks import contaminated, scanned
from flywheel.dedup.sets import Ints
from flywheel.dedup.texts import Edge, Row, evaluated, open_texts, prints
from flywheel.errors import SettingsError
from flywheel.lake import DERIVED, write_table
from flywheel.layout import Layout

# only texts of one role can repeat each other; prompts come last, for their rows are wanted to the
# end, and what ten million texts are, without what they say, is a gigabyte
ROLES = ("response", "trajectory", "prompt")


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
    edges: dict[str, list[Edge]] = {}
    repeats: list[Row] = []
    with open_texts(database) as texts:
        for role in ROLES:
            rows = texts.of_role(role)
            ids, said = rows["text_id"].combine_chunks(), prints(rows)
            rows = rows.drop_columns(["text_id", "print"])
            found = index[role].update(ids, said, partial(texts.fetch, role=role))
            del ids, said
            edges[role] = list(zip(*(column.tolist() for column in found), strict=True))
            repeats += _repeats(rows, edges[role])
        prompts = rows
        contained, covered = scanned(texts, layout.text_index / "scanned.parquet")
        count, items = texts.count(), len(texts.items)
    groups = _groups(prompts, edges["prompt"])
    leaks = contaminated(prompts, edges["prompt"], contained)
    for name, marks in (
        ("near_duplicates", repeats),
        ("contamination", leaks),
        ("evaluation_overlaps", covered),
    ):
        write_table(pa.Table.from_pylist(marks, DERIVED[name]), layout.derived(name))
    write_table(groups, layout.derived("prompt_groups"))
    sizes = pc.value_counts(groups["group_id"]).field("counts")
    log(
        f"compared {count} texts at Jaccard {threshold}: {len(repeats)} repeat another, "
        f"{prompts.num_rows} prompts form {len(sizes)} groups, "
        f"{len(leaks)} overlaps with evaluations"
    )
    return Report(
        near_duplicates={
            "dagster/row_count": len(repeats),
            "texts": count,
            "similar_pairs": sum(map(len, edges.values())),
            "threshold": threshold,
            "newly_compared": sum(one.compared for one in index.values()),
            "computed_by": kernel.state(),
        },
        prompt_groups={
            "dagster/row_count": groups.num_rows,
            "groups": len(sizes),
            "largest_group": pc.max(sizes).as_py() or 0,
        },
        contamination={
            "dagster/row_count": len(leaks),
            "texts": len({(leak["role"], leak["text_key"]) for leak in leaks}),
            "evaluation_prompts": items,
            "texts_that_cover_half_of_a_prompt": len(covered),
        },
    )


def _repeats(rows: pa.Table, edges: Sequence[Edge]) -> list[Row]:
    """Greedy leaders among training texts; `rows` are in the order of their arrival."""
    asked = evaluated(rows)
    earlier: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for first, second, jaccard in edges:
        if not (asked[first] or asked[second]):
            earlier[second].append((first, jaccard))
    leaders: dict[int, tuple[int, float]] = {}
    for index in sorted(earlier):
        for leader, jaccard in sorted(earlier[index]):
            if leader not in leaders:
                leaders[index] = leader, jaccard
                break
    repeated = rows.select(["text_key", "role"]).take(pa.array(leaders, pa.int64())).to_pylist()
    kept = rows["text_key"].take(pa.array([one for one, _ in leaders.values()], pa.int64()))
    return [
        row
        | {
            "status": "near_duplicate",
            "representative_key": key,
            "jaccard": jaccard,
            "reason": f"shares {jaccard:.0%} of its word 3-grams with an earlier text",
        }
        for row, key, (_, jaccard) in zip(repeated, kept.to_pylist(), leaders.values(), strict=True)
    ]


def _groups(prompts: pa.Table, edges: Sequence[Edge]) -> pa.Table:
    """Connected components, each named after the prompt that arrived first."""
    keys = prompts["text_key"].combine_chunks()
    numbers = pa.array(np.arange(len(keys)))
    hinted = pc.list_parent_indices(prompts["group_hints"])
    # the same prompt twice, or the same hint, ties a prompt to the first that has it
    first_of_key = _first_with(keys, numbers)
    hints = _first_with(pc.list_flatten(prompts["group_hints"]), hinted)
    one = np.concatenate([first_of_key, hints, [edge[0] for edge in edges]]).astype(np.int64)
    other = np.concatenate([numbers, hinted, [edge[1] for edge in edges]]).astype(np.int64)
    root = _roots(len(keys), one, other)
    once = np.flatnonzero(first_of_key == np.asarray(numbers))
    return pa.table(
        {"prompt_key": keys.take(pa.array(once)), "group_id": keys.take(pa.array(root[once]))},
        DERIVED["prompt_groups"],
    )


def _first_with(values: pa.Array, owners: pa.Array) -> Ints:
    """For each value the owner of the first that is equal; owners ascend."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    coded = values.dictionary_encode()
    codes = np.asarray(coded.indices).astype(np.int64)
    first = np.full(len(coded.dictionary), len(codes))
    np.minimum.at(first, codes, np.arange(len(codes)))
    return np.asarray(owners)[first[codes]].astype(np.int64)


def _roots(count: int, one: Ints, other: Ints) -> Ints:
    """The lowest number in the connected component of each of `count` nodes."""
    root = np.arange(count)
    while True:
        low, high = np.minimum(root[one], root[other]), np.maximum(root[one], root[other])
        apart = low < high
        if not apart.any():
            return root
        one, other = one[apart], other[apart]
        np.minimum.at(root, high[apart], low[apart])  # a root points to a lower one
        while (root != root[root]).any():
            root = root[root]
