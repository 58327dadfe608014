"""The lake: rows of landing, of raw sources, of quarantine and of what redaction took out.

Finding reads everything and changes nothing: a file that is torn stops an erasure before it began.
What the same was said again as (`content_sha256`) goes with it, in whatever batch it lies.
"""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flywheel.erasure.plan import Plan
from flywheel.erasure.who import Who
from flywheel.errors import LakeError
from flywheel.ingest import BatchManifest, ExpectationResult, read_batches
from flywheel.ingest.columns import CONSENTS
from flywheel.ingest.formats.gathered import NO_LABEL
from flywheel.ingest.seen import EVENT
from flywheel.lake import ERASED, whole, write_table
from flywheel.layout import Layout
from flywheel.lineage.records import open_records, quoted
from flywheel.privacy import erased_name, forget_originals, keep_originals, read_originals
from flywheel.records import KINDS

WANTED = ("record_uid", "record_id", "line_no", "byte_offset", "prompt_key", EVENT)
Place = tuple[int, int]  # number and offset of a line


@dataclass
class Found:
    """What was found in the lake.

    Attributes:
        places: Batch to the lines that hold any of it.
        kept: Batch to lines that hold another record that stays.
        rows: Batch to rows that go, by kind.
        events: Batch and kind to the events of these rows.
        names: What tombstones call all of it.
        record_ids: As they were delivered.
    """

    uids: list[str] = field(default_factory=list)
    raw: dict[str, list[int]] = field(default_factory=dict)
    quarantined: dict[str, list[int]] = field(default_factory=dict)
    no_label: dict[str, int] = field(default_factory=dict)
    places: dict[str, set[Place]] = field(default_factory=lambda: defaultdict(set))
    kept: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    rows: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    events: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    record_ids: set[str] = field(default_factory=set)
    prompt_keys: set[str] = field(default_factory=set)


def find_in_lake(layout: Layout, who: Who, responses: set[str]) -> Found:
    """Everything of somebody that landed or was quarantined.

    Args:
        layout: The home.
        who: Whose, or which.
        responses: Served answers that go, with what was said of them.

    Raises:
        LakeError: A file is torn.
    """
    found = Found()
    events = pa.array(sorted(_events(layout, who, responses)), pa.string())
    for kind, path in _landed(layout) if len(events) else ():
        table = _read(path, WANTED)
        goes = pc.is_in(table[EVENT], value_set=events)
        gone, batch = table.filter(goes), path.stem
        if not gone.num_rows:
            continue
        found.uids += gone["record_uid"].to_pylist()
        found.record_ids.update(gone["record_id"].to_pylist())
        found.rows[batch][kind] = gone.num_rows
        found.events[batch, kind] = gone[EVENT].to_pylist()
        found.places[batch].update(_places(gone))
        found.prompt_keys.update(gone["prompt_key"].to_pylist())
    found.names = [erased_name(EVENT, one) for one in events.to_pylist()]
    _find_raw(layout, who, found)
    _find_quarantined(layout, who, found)
    _look_at_the_rest(layout, found)
    return found


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
            manifests[name] = BatchManifest(
                **{
                    **{one: getattr(batch, one) for one in BatchManifest.__dataclass_fields__},
                    "rows": max(0, batch.rows - landed),
                    "quarantined": batch.quarantined - refused,
                    "set_aside": batch.set_aside - found.no_label.get(name, 0),
                    "erased": batch.erased + refused + min(landed, batch.rows),
                    "rows_by_kind": {kind: count for kind, count in rows.items() if count},
                    "new_rows_by_kind": {kind: n for kind, n in new.items() if rows[kind]},
                    "erased_at": at,
                }
            )
    return manifests


def remove_from_lake(layout: Layout, plan: Plan, key_file: str) -> None:
    """Write every file of the plan again without what goes, then its manifest."""
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
        results = [ExpectationResult(**one) for one in facts["expectations"]]
        BatchManifest(**(facts | {"expectations": results})).save(layout)


def as_facts(manifest: BatchManifest) -> dict[str, Any]:
    """A manifest as a plan keeps it."""
    return asdict(manifest)


def _events(layout: Layout, who: Who, responses: set[str]) -> set[str]:
    """Events that the records of somebody are copies of."""
    names = pa.array(sorted(who.names), pa.string())
    found: set[str] = set()
    by_name = ("record_uid", "record_id") if who.what == "record" else (who.column,)
    for _, path in _landed(layout):
        table = _read(path, (*by_name, EVENT, *(("metadata",) if responses else ())))
        goes = pc.is_in(table[by_name[0]], value_set=names)
        for name in by_name[1:]:
            goes = pc.or_(goes, pc.is_in(table[name], value_set=names))
        found.update(table[EVENT].filter(goes).to_pylist())
        if responses:
            about = pc.match_substring(table["metadata"], '"response_id"').fill_null(False)
            for row in table.filter(about).to_pylist():
                if json.loads(row["metadata"]).get("response_id") in responses:
                    found.add(row[EVENT])
    return found


def _find_raw(layout: Layout, who: Who, found: Found) -> None:
    """Rows of raw sources, by what the warehouse makes of them; statements of consent stay."""
    raw = {one.batch_id: one for one in read_batches(layout) if one.rows_by_kind.get("raw")}
    raw = {name: one for name, one in raw.items() if one.source != CONSENTS}
    if not raw or who.what == "subject":
        return
    names = ", ".join(map(quoted, sorted(who.names)))
    columns = ("record_uid", "record_id") if who.what == "record" else (who.column,)
    which = " or ".join(f"{name} in ({names})" for name in columns)
    batches = ", ".join(map(quoted, raw))
    with open_records(layout) as connection:
        rows = connection.sql(
            f"select batch_id, line_no, record_uid from records "
            f"where batch_id in ({batches}) and ({which}) order by all"
        ).fetchall()
    for batch, line, uid in rows:
        found.raw.setdefault(batch, []).append(line)
        found.uids.append(uid)
    for batch, lines in found.raw.items():
        table = _read(layout.raw(raw[batch].source) / f"{batch}.parquet", None)
        gone = table.filter(pc.is_in(table["line_no"], value_set=pa.array(lines, pa.int64())))
        found.raw[batch] = gone["line_no"].to_pylist()
        if gone.num_rows:
            found.rows[batch]["raw"] = gone.num_rows
            found.places[batch].update(_places(gone))
            found.names += [erased_name("record", one) for one in gone["record"].to_pylist()]


def _find_quarantined(layout: Layout, who: Who, found: Found) -> None:
    uids = set(found.uids)
    for path in sorted(layout.quarantine.glob("[!_.]*.parquet")):
        for row in _read(path, None).to_pylist():
            if row["record_uid"] in uids or who.stands_in(row["raw"]):
                found.quarantined.setdefault(path.stem, []).append(row["line_no"])
                found.places[path.stem].add((row["line_no"], row["byte_offset"]))
                found.names.append(erased_name("line", row["raw"]))
                is_no_fault = row["reason_kind"] == NO_LABEL
                found.no_label[path.stem] = found.no_label.get(path.stem, 0) + is_no_fault


def _look_at_the_rest(layout: Layout, found: Found) -> None:
    """Which lines and which prompts are those of records that stay, too."""
    uids, keys = pa.array(found.uids, pa.string()), pa.array(sorted(found.prompt_keys), pa.string())
    for _, path in _landed(layout) if found.places else ():
        table = _read(path, ("record_uid", "line_no", "prompt_key"))
        stays = table.filter(pc.invert(pc.is_in(table["record_uid"], value_set=uids)))
        asked = stays["prompt_key"].filter(pc.is_in(stays["prompt_key"], value_set=keys))
        found.prompt_keys -= set(asked.to_pylist())
        if path.stem in found.places:
            wanted = pa.array([number for number, _ in found.places[path.stem]], pa.int64())
            both = stays["line_no"].filter(pc.is_in(stays["line_no"], value_set=wanted))
            found.kept[path.stem].update(both.to_pylist())


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


def _landed(layout: Layout) -> Iterator[tuple[str, Path]]:
    for kind in KINDS:
        for path in sorted(layout.landing(kind).glob("[!_.]*.parquet")):
            yield kind, path


def _places(table: pa.Table) -> set[Place]:
    columns = (table[name].to_pylist() for name in ("line_no", "byte_offset"))
    return set(zip(*columns, strict=True))


def _without(path: Path, column: str, values: pa.Array) -> None:
    """A file without the rows that hold one of some values; gone where no other row is left."""
    if not len(values) or not path.exists():
        return
    table = _read(path, None)
    kept = table.filter(pc.invert(pc.is_in(table[column], value_set=values)))
    if not kept.num_rows:
        path.unlink()
    elif kept.num_rows < table.num_rows:
        write_table(kept, path)


def _read(path: Path, columns: tuple[str, ...] | None) -> pa.Table:
    try:
        return whole(pq.read_table(path, columns=list(columns))) if columns else pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise LakeError(
            f"{path} is torn: {error}; restore it from a copy, or remove it with its manifest "
            f"{path.stem}.json and land its file again, then erase again"
        ) from error
