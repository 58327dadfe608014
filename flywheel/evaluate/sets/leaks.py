"""Evaluation prompts in frozen training text: looked for in what was frozen, not in the marks.

The marks of deduplication (`flywheel.dedup.leaks`) say which landed texts overlap an evaluation
prompt and are left out; `decontamination` tells both of each evaluation set, and against which
datasets it was looked.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from flywheel.datasets.manifest import MANIFEST, DatasetManifest, read_split
from flywheel.dedup.overlap import EvaluationRuns, Overlap
from flywheel.evaluate.sets.rows import Row, by_set
from flywheel.records.message import Conversation, load, text_of

SIDES = ("prompt", "response", "response_a", "response_b", "steps")


def leaks_into(items: Sequence[str], datasets: Iterable[Path]) -> list[Overlap]:
    """Where prompts stand in what the datasets train on; a dataset that is not there has none."""
    texts = dict.fromkeys(
        text_of(load(said))
        for dataset in datasets
        if (dataset / MANIFEST).exists()
        for split in DatasetManifest.load(dataset).rows_by_split
        if split != "test"
        for table in [read_split(dataset, split)]
        for side in SIDES
        if side in table.column_names
        for said in table[side].drop_null().to_pylist()
    )
    return EvaluationRuns(items).find(list(texts))


def asked_text(prompt: Conversation) -> str:
    """What is asked: a system prompt of the evaluation's own must not hide what it stands over."""
    turns = tuple(turn for turn in prompt if turn.role not in ("system", "developer"))
    return text_of(turns or prompt)


def decontamination(
    rows: Sequence[Row], datasets: Sequence[Path], marks: Path
) -> dict[str, dict[str, Any]]:
    """By evaluation set, what of it stands in training text.

    Args:
        rows: Of the evaluation dataset.
        datasets: Frozen datasets that something is trained on.
        marks: The derived file of contamination.

    Returns:
        `left_out`: prompts that landed texts overlap, which the marts leave out, by how they do;
        `trained_on`: prompts that stand in a frozen training row all the same, with `examples`;
        checked_at, marked_at and the datasets looked through with their content.
    """
    prompts = [row for mine in by_set(rows).values() for row in mine]
    items = [asked_text(load(row["prompt"])) for row in prompts]
    found: dict[str, set[str]] = {}
    spans: dict[str, list[str]] = {}
    for one in leaks_into(items, datasets):
        name, key = prompts[one.item]["evaluation_set"], prompts[one.item]["prompt_key"]
        found.setdefault(name, set()).add(key)
        spans.setdefault(name, []).append(one.span)
    kinds = _marked(marks)
    looked = {
        f"{manifest.name}/{manifest.generation}": manifest.content_hash
        for folder in datasets
        if (folder / MANIFEST).exists()
        for manifest in [DatasetManifest.load(folder)]
    }
    marked_at = datetime.fromtimestamp(marks.stat().st_mtime, UTC) if marks.exists() else None
    return {
        name: {
            "prompts": len(mine),
            "left_out": dict(
                Counter(kinds[row["prompt_key"]] for row in mine if row["prompt_key"] in kinds)
            ),
            "trained_on": len(found.get(name, ())),
            "examples": spans.get(name, [])[:5],
            "checked_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "marked_at": marked_at.isoformat(timespec="seconds") if marked_at else None,
            "datasets": looked,
        }
        for name, mine in by_set(rows).items()
    }


def _marked(marks: Path) -> dict[str, str]:
    """The strongest overlap of each evaluation prompt with a landed text, by prompt key."""
    if not marks.exists():
        return {}
    strongest = ("contained", "near", "exact")
    rows = pq.read_table(marks, columns=["evaluation_prompt_key", "kind"]).to_pylist()
    rows.sort(key=lambda row: strongest.index(row["kind"]))
    return {row["evaluation_prompt_key"]: row["kind"] for row in rows}
