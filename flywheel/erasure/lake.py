"""The lake without what goes: landing, raw sources, quarantine, what redaction took out."""

import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.erasure.found import Found, read_table
from flywheel.erasure.plan import Plan
from flywheel.ingest import BatchManifest
from flywheel.lake import ERASED, write_table
from flywheel.layout import Layout
from flywheel.privacy import forget_originals, keep_originals, read_originals
from flywheel.records import KINDS


def will_be(batches: list[BatchManifest], found: Found, at: str) -> dict[str, BatchManifest]:
    """Manifests of the batches that something goes from, as they will be."""
    earlier: dict[str, set[str]] = defaultdict(set)
    manifests = {}
    for batch in batches:  # in order of landing: of an event that came twice, the first was new
        name = batch.batch_id
        rows, new = dict(batch.rows_by_kind), dict(batch.new_rows_by_kind)
        for kind, count in found.rows.get(name, {}).items():
            events = found.events.get((name, kind), [])
            rows[kind] -= count
            known = sum(one in earlier[kind] for one in events)
            new[kind] = max(0, new[kind] - count + known)
            earlier[kind].update(events)
        lines = {number for number, _ in found.places.get(name, ())} - found.kept.get(name, set())
        refused = len(found.quarantined.get(name, ()))
        landed = len(lines) - refused
        if name in found.rows or refused:
            manifests[name] = replace(
                batch,
                rows=max(0, batch.rows - landed),
                quarantined=batch.quarantined - refused,
                set_aside=batch.set_aside - found.no_label.get(name, 0),
                erased=batch.erased + refused + min(landed, batch.rows),
                rows_by_kind={kind: count for kind, count in rows.items() if count},
                new_rows_by_kind={kind: n for kind, n in new.items() if rows[kind]},
                erased_at=at,
            )
    return manifests


def remove_from_lake(layout: Layout, plan: Plan, key_file: str) -> None:
    """Write every file of the plan again without what goes, then its manifest."""
    for kind in KINDS:
        shutil.rmtree(layout.seen_events(kind), ignore_errors=True)  # hashes of what was said
    uids = pa.array(plan.uids, pa.string())
    if plan.uids:
        name = layout.erased / f"e{plan.number:06d}.parquet"
        numbers = pa.array([plan.number] * len(uids), pa.int64())
        write_table(pa.table([uids, numbers], schema=ERASED), name)
    for batch, facts in plan.manifests.items():
        for kind in KINDS:
            _without(layout.landing(kind) / f"{batch}.parquet", "record_uid", uids)
        lines = pa.array(plan.raw.get(batch, []), pa.int64())
        _without(layout.raw(facts["source"]) / f"{batch}.parquet", "line_no", lines)
        refused = pa.array(plan.quarantined.get(batch, []), pa.int64())
        _without(layout.quarantine / f"{batch}.parquet", "line_no", refused)
        _originals(layout, batch, uids, [*plan.raw.get(batch, []), *refused.to_pylist()], key_file)
        if (layout.batches / f"{batch}.json").exists():  # else its file was judged anew meanwhile
            BatchManifest.of(facts).save(layout)


def _originals(layout: Layout, batch: str, uids: pa.Array, lines: list[int], key_file: str) -> None:
    """What redaction took out of what goes: written again without, and sealed again."""
    rows = read_originals(layout, batch, key_file)
    of_line = pc.and_(
        pc.is_null(rows["record_uid"]),
        pc.is_in(rows["line_no"], value_set=pa.array(lines, pa.int64())),
    )
    gone = pc.or_(pc.is_in(rows["record_uid"], value_set=uids), of_line)
    kept = rows.filter(pc.invert(gone))
    if kept.num_rows == rows.num_rows:
        return
    if kept.num_rows:
        is_sealed = (layout.restricted / "originals" / f"{batch}.sealed").exists()
        keep_originals(layout, batch, kept, key_file if is_sealed else "")
    else:
        forget_originals(layout, batch)


def _without(path: Path, column: str, values: pa.Array) -> None:
    """A file without the rows that hold one of some values; gone where no other row is left."""
    if not len(values) or not path.exists():
        return
    table = read_table(path, None)
    kept = table.filter(pc.invert(pc.is_in(table[column], value_set=values)))
    if not kept.num_rows:
        path.unlink()
    elif kept.num_rows < table.num_rows:
        write_table(kept, path)
