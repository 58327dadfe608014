"""Copies of what landed: frozen datasets, sampled answers, queues for annotators, the warehouse.

A frozen dataset never changes, but for this: rows that rest on an erased record go as a whole,
and its manifest says how many. Its content hash stays the name of what was frozen, by which
checkpoints and their lineage know it.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flywheel.datasets.manifest import DatasetManifest, file_hash
from flywheel.erasure.plan import read_plan
from flywheel.errors import LakeError
from flywheel.ingest import read_batches
from flywheel.ingest.keys import prompt_key
from flywheel.lake import ensure, read_folder, write_table
from flywheel.layout import Layout
from flywheel.lineage.records import open_records
from flywheel.records.message import Conversation

SAID = {"samples.parquet": "samples", "way.parquet": "answers_along"}  # answers, by prompt_key
OF_ANSWERS = ("report.html", "scores.json")  # beside them: what shows them, or is named by them


def rows_frozen(layout: Layout, names: list[str], uids: list[str]) -> dict[str, int]:
    """Rows of each frozen dataset that rest on one of the records."""
    found = {}
    for name in names:
        folder = layout.artifacts / "datasets" / name
        parts = (_read(path) for path in sorted(folder.glob("*.parquet")))
        count = sum(pc.sum(_rests_on(part, uids)).as_py() or 0 for part in parts)
        if count:
            found[name] = int(count)
    return found


def erased_uids(layout: Layout) -> set[str]:
    """Records that were erased, or go with an erasure that was cut off: none is frozen any more.

    Not what was erased and landed again since, with other words or of others: staging gives rows
    of raw sources the ids that they had before.

    Raises:
        ErasureError: The plan of one that was cut off cannot be read.
    """
    ensure(layout)
    plan = read_plan(layout)
    going = {*plan.uids} if plan else set()
    erased = {*read_folder(layout.erased)["record_uid"].to_pylist()} - going
    if not erased:
        return going
    with open_records(layout) as connection:
        uids = pa.table({"uid": pa.array(sorted(erased), pa.string())})
        rows = connection.register("erased_uids", uids).sql(
            "select record_uid, batch_id, line_no from records "
            "semi join erased_uids on record_uid = uid"
        )
        named = rows.fetchall()
    sources = {one.batch_id: one.source for one in read_batches(layout)}
    lines: dict[str, set[int]] = {}
    for batch in {batch for _, batch, _ in named}:
        path = layout.raw(sources[batch]) / f"{batch}.parquet"
        lines[batch] = {*_read(path)["line_no"].to_pylist()} if path.exists() else set()
    return going | (erased - {uid for uid, batch, line in named if line in lines[batch]})


def copies_left(layout: Layout, uids: list[str], keys: list[str]) -> list[str]:
    """Copies that are not written to: versions of evaluation sets, the warehouse of dbt by hand."""
    left = []
    for path in sorted(layout.evaluation_sets.glob("*/v*/*.parquet")):
        table = _read(path)
        goes = _rests_on(table, uids)
        if "prompt_key" in table.column_names:
            asked = pc.is_in(table["prompt_key"], value_set=pa.array(keys, pa.string()))
            goes = pc.or_(goes, asked.combine_chunks())
        if count := pc.sum(goes).as_py():
            folder = path.parent.relative_to(layout.root)
            left.append(
                f"{folder} holds {count} of the prompts: a version of an evaluation set never "
                f"changes; freeze the next one, then remove that folder"
            )
    by_hand = layout.root / "dev" / layout.warehouse.name
    if (uids or keys) and by_hand.exists():
        left.append(f"{by_hand.relative_to(layout.root)}, built by hand: remove it, or build anew")
    return left


def remove_from_datasets(layout: Layout, names: list[str], uids: list[str]) -> None:
    """Write datasets again without the rows that rest on one of the records, then the manifest."""
    for name in names:
        folder = layout.artifacts / "datasets" / name
        manifest = DatasetManifest.load(folder)
        files, rows = dict(manifest.files), dict(manifest.rows_by_split)
        for path in sorted(folder.glob("*.parquet")):
            table = _read(path)
            kept = table.filter(pc.invert(_rests_on(table, uids)))
            if kept.num_rows < table.num_rows:
                write_table(kept, path)
            if path.stem in rows:
                files[path.name], rows[path.stem] = file_hash(path), kept.num_rows
        gone = manifest.rows - sum(rows.values())
        if gone:
            fewer = {"rows_by_split": rows, "files": files}
            more = {"rows_erased": manifest.rows_erased + gone}
            msgspec.structs.replace(manifest, **fewer, **more).save(folder)


def remove_prompts(layout: Layout, keys: list[str]) -> dict[str, int]:
    """Take prompts out of queues, and what was sampled on them out of evaluations.

    Returns:
        Lines of queues, and rows of answers, that went. A report that shows them goes, too, and is
        written again by its asset, `evaluation/report`; so do kept scores of hashed answers.
    """
    if not keys:
        return {}
    queues = sorted(layout.annotation_queue.rglob("*.jsonl"))
    removed = {"annotation_queue": sum(_without_prompts(path, set(keys)) for path in queues)}
    wanted = pa.array(keys, pa.string())
    for file, name in SAID.items():
        removed[name] = 0
        for path in sorted(layout.artifacts.glob(f"*/**/{file}")):
            table = _read(path)
            kept = table.filter(pc.invert(pc.is_in(table["prompt_key"], value_set=wanted)))
            if kept.num_rows < table.num_rows:
                for beside in OF_ANSWERS:
                    path.with_name(beside).unlink(missing_ok=True)
                write_table(kept, path)
                removed[name] += table.num_rows - kept.num_rows
    return {name: count for name, count in removed.items() if count}


def judgements_held(layout: Layout, uids: list[str], keys: list[str]) -> int:
    """How many votes evaluations were given that rest on one of the records, or on the prompts."""
    return sum(goes for *_, goes in _judgements(layout, uids, keys))


def remove_judgements(layout: Layout, uids: list[str], keys: list[str]) -> None:
    """Take these votes out."""
    for path, kept, goes in _judgements(layout, uids, keys):
        if goes:
            write_table(kept, path)


def _judgements(
    layout: Layout, uids: list[str], keys: list[str]
) -> Iterator[tuple[Path, pa.Table, int]]:
    """Files of votes that evaluations were given, what stays of each, and how many go."""
    asked = pa.array(keys, pa.string())
    for path in sorted(layout.runs.glob("people_judgements/*/judgements.parquet")):
        table = _read(path)
        goes = pc.or_(_rests_on(table, uids), pc.is_in(table["prompt_key"], value_set=asked))
        kept = table.filter(pc.invert(goes))
        yield path, kept, table.num_rows - kept.num_rows


def policies_aside(layout: Layout, checkpoints: list[str]) -> list[str]:
    """Folders of policies put aside along the runs of checkpoints, to be told: they have learned
    from the same records."""
    folders = {one: layout.run(*one.partition("/")[::2]) / "along" for one in checkpoints}
    return [
        f"policies put aside along the run of {one}, in {folder.relative_to(layout.root)}; remove "
        f"that folder"
        for one, folder in folders.items()
        if folder.exists()
    ]


def forget_warehouse(layout: Layout) -> None:
    """Remove the warehouse that dbt writes, with copies of it that were set aside: the next build
    makes it anew, so that not even a free page of it holds what was erased.

    The read copy stays until then: others read it. The caller keeps dbt out.
    """
    for path in layout.warehouse.parent.glob(f"{layout.warehouse.name}*"):
        path.unlink(missing_ok=True)


def _rests_on(table: pa.Table, uids: list[str]) -> pa.Array:
    """Which rows rest on one of the records."""
    wanted = pa.array(uids, pa.string())
    if "record_uid" in table.column_names:
        return pc.is_in(table["record_uid"], value_set=wanted).combine_chunks()
    if "record_uids" not in table.column_names:
        return pa.array([False] * table.num_rows, pa.bool_())
    names = set(uids)
    lists = table["record_uids"].to_pylist()
    return pa.array([not names.isdisjoint(one or ()) for one in lists], pa.bool_())


def _without_prompts(path: Path, keys: set[str]) -> int:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not _asks(line, keys)]
    if len(kept) < len(lines):
        draft = path.with_name(f".{path.name}.draft")
        draft.write_text("".join(kept), encoding="utf-8")
        os.replace(draft, path)
    return len(lines) - len(kept)


def _asks(line: str, keys: set[str]) -> bool:
    try:
        row: dict[str, Any] = json.loads(line)
        return prompt_key(msgspec.convert(row["prompt"], Conversation)) in keys
    except (ValueError, KeyError, TypeError):  # no line of ours
        return False


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise LakeError(
            f"{path} is torn: {error}; restore it from a copy, or remove its folder, then erase "
            f"again"
        ) from error
