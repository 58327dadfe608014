"""Where somebody stands in the lake: landing, raw sources, quarantine.

Finding reads everything and changes nothing: a file that is torn stops an erasure before it began.
What the same was said again as (`content_sha256`) goes with it, in whatever batch it lies.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flywheel.erasure.who import ABOUT, Who
from flywheel.errors import ErasureError, LakeError
from flywheel.ingest import BatchManifest, read_batches
from flywheel.ingest.columns import CONSENTS
from flywheel.ingest.formats.gathered import NO_LABEL
from flywheel.ingest.seen import EVENT
from flywheel.lake import whole
from flywheel.layout import Layout
from flywheel.lineage.records import open_records, quoted
from flywheel.privacy import erased_name
from flywheel.records import KINDS

NAMED = 10  # records of one id that an error names
IS_AMONG = "(batch_id, line_no) in (select (batch_id, line_no) from places)"
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
        left: What stays on purpose, or may be meant.
        of_others: Records of others that stand on the same lines of raw sources, and go with them.
    """

    uids: list[str] = field(default_factory=list)
    raw: dict[str, list[int]] = field(default_factory=dict)
    quarantined: dict[str, list[int]] = field(default_factory=dict)
    no_label: dict[str, int] = field(default_factory=dict)
    places: dict[str, set[Place]] = field(default_factory=lambda: defaultdict(set))
    kept: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    rows: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    events: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    names: list[bytes] = field(default_factory=list)
    record_ids: set[str] = field(default_factory=set)
    left: list[str] = field(default_factory=list)
    prompt_keys: set[str] = field(default_factory=set)
    of_others: int = 0


def find_in_lake(layout: Layout, who: Who) -> Found:
    """Everything of somebody, and of answers that go, that landed or was quarantined.

    Raises:
        LakeError: A file is torn.
        ErasureError: An id is that of several records.
    """
    found = Found()
    events = pa.array(sorted(_events(layout, who)), pa.string())
    for kind, path in landed(layout) if len(events) else ():
        table = read_table(path, WANTED)
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
    batches = {one.batch_id: one for one in read_batches(layout)}
    _find_raw(layout, who, batches, found)
    _find_quarantined(layout, who, batches, found)
    _look_at_the_rest(layout, found)
    return found


def _events(layout: Layout, who: Who) -> set[str]:
    """Events that the records of somebody are copies of."""
    names = pa.array(sorted(who.names), pa.string())
    found: set[str] = set()
    by_id: dict[str, str] = {}  # event of a record that was delivered with the id -> its uid
    by_name = ("record_uid", "record_id") if who.what == "record" else (who.column,)
    for _, path in landed(layout):
        table = read_table(path, (*by_name, EVENT, *(("metadata",) if who.answers else ())))
        named = table[by_name[0]]
        named = pc.utf8_lower(pc.utf8_trim_whitespace(named)) if who.what == "subject" else named
        found.update(table[EVENT].filter(pc.is_in(named, value_set=names)).to_pylist())
        for name in by_name[1:]:
            same = table.filter(pc.is_in(table[name], value_set=names))
            for row in same.select([EVENT, "record_uid"]).to_pylist():
                by_id.setdefault(row[EVENT], row["record_uid"])
        if who.answers:
            about = pc.match_substring(table["metadata"], '"response_id"').fill_null(False)
            for row in table.filter(about).to_pylist():
                if json.loads(row["metadata"]).get("response_id") in who.answers:
                    found.add(row[EVENT])
    if len(by_id) > 1 and not found:
        raise ErasureError(
            f"{len(by_id)} records were delivered with this id: name one by its record_uid: "
            f"{', '.join(sorted(by_id.values())[:NAMED])}; or see `flywheel trace`"
        )
    return found | set(by_id)


def _find_raw(layout: Layout, who: Who, batches: dict[str, BatchManifest], found: Found) -> None:
    """Rows of raw sources, by what the warehouse makes of them and by what they hold themselves;
    statements of consent stay."""
    raw = {name: one for name, one in batches.items() if one.rows_by_kind.get("raw")}
    places: list[tuple[str, int]] = []
    own: dict[tuple[str, int], str] = {}  # rows of which the name is the id
    stated = 0
    for name, one in raw.items():
        rows, maybe = _raw_rows(layout.raw(one.source) / f"{name}.parquet", who)
        if one.source != CONSENTS:
            ids = {line for line, row in rows.items() if who.is_id_of(row)}
            if who.what == "record" and not who.answers and (ids or found.names):
                maybe += len(rows) - len(ids)  # these have another id, and name a record's
                rows = {line: rows[line] for line in ids}
            places += [(name, line) for line in rows]
            own |= {(name, line): rows[line] for line in ids}
        elif who.what != "record":
            stated += len(rows) + maybe
            continue
        if maybe:
            found.left.append(
                f"{maybe} rows of the source {one.source} in {one.file} hold the name in a field "
                f"that need not be a person's, or the record's own; look at them"
            )
    said, records = len({*own.values()}), len({*found.names})
    if who.what == "record" and said and not who.answers and said + records > 1:
        of = (f"{batch}:{line} ({raw[batch].file})" for batch, line in list(own)[:NAMED])
        raise ErasureError(
            f"{said} rows of raw sources have this id, and {records} records: name a record by its "
            f"record_uid, a row by its batch and line: {', '.join(of)}"
        )
    if stated:
        found.left.append(
            f"{stated} statements about consents, here and in the inbox, kept on purpose: they say "
            f"what may be done with what is said"
        )
    raw = {name: one for name, one in raw.items() if one.source != CONSENTS}
    if not raw:
        return
    found_lines: dict[str, set[int]] = defaultdict(set)
    for name, line in [*places, *_said_in_warehouse(layout, who, sorted(raw), places, found)]:
        found_lines[name].add(line)
    for batch, wanted in found_lines.items():
        table = read_table(layout.raw(raw[batch].source) / f"{batch}.parquet", None)
        gone = table.filter(pc.is_in(table["line_no"], value_set=pa.array(wanted, pa.int64())))
        found.raw[batch] = gone["line_no"].to_pylist()
        if gone.num_rows:
            found.rows[batch]["raw"] = gone.num_rows
            found.places[batch].update(_places(gone))
            found.names += [erased_name("record", one) for one in gone["record"].to_pylist()]


def _raw_rows(path: Path, who: Who) -> tuple[dict[int, str], int]:
    """Rows of a raw source that are somebody's, by their lines; how many more hold the name."""
    table = read_table(path, None)
    named = {name.rpartition(":")[2] for name in who.names if name.startswith(f"{path.stem}:")}
    if who.what == "record" and named:
        table = table.filter(pc.is_in(pc.cast(table["line_no"], pa.string()), pa.array(named)))
        return dict(zip(*(table[one].to_pylist() for one in ("line_no", "record")), strict=True)), 0
    about = [ABOUT.pattern] if who.answers else []
    either = "|".join([*map(re.escape, sorted(who.names)), *about, r"\\", "@"])
    maybe = table.filter(pc.match_substring_regex(table["record"], either, ignore_case=True))
    rows = dict(zip(maybe["line_no"].to_pylist(), maybe["record"].to_pylist(), strict=True))
    his = {line: row for line, row in rows.items() if who.stands_in(row, elsewhere=who.telling)}
    rest = (row for line, row in rows.items() if line not in his)
    return his, sum(who.stands_in(row, elsewhere=who.names) for row in rest)


def _said_in_warehouse(
    layout: Layout, who: Who, raw: list[str], places: list[tuple[str, int]], found: Found
) -> list[tuple[str, int]]:
    """Lines of raw batches that are somebody's in the warehouse; uids of these and of `places`."""
    names = ", ".join(map(quoted, sorted(who.names)))
    columns = {"record": ("record_uid", "record_id"), "subject": ()}.get(who.what, (who.column,))
    his = " or ".join(f"{name} in ({names})" for name in columns) or "false"
    some = [
        pa.array([batch for batch, _ in places], pa.string()),
        pa.array([line for _, line in places], pa.int64()),
    ]
    with open_records(layout) as connection:
        connection.register("places", pa.table(some, names=["batch_id", "line_no"]))
        rows = connection.sql(
            f"select batch_id, line_no, record_uid, coalesce({his}, false) from records "
            f"where batch_id in ({', '.join(map(quoted, raw))}) and ({his} or {IS_AMONG}) "
            f"order by all"
        ).fetchall()
    found.uids += [uid for *_, uid, _ in rows]
    if columns:
        found.of_others = sum(not is_his for *_, is_his in rows)
    return [(batch, line) for batch, line, *_ in rows]


def _find_quarantined(
    layout: Layout, who: Who, batches: dict[str, BatchManifest], found: Found
) -> None:
    uids = set(found.uids)
    for path in sorted(layout.quarantine.glob("[!_.]*.parquet")):
        system = batches[path.stem].format if path.stem in batches else ""
        for row in read_table(path, None).to_pylist():
            if row["record_uid"] in uids or who.stands_in(row["raw"], system=system):
                found.quarantined.setdefault(path.stem, []).append(row["line_no"])
                found.places[path.stem].add((row["line_no"], row["byte_offset"]))
                found.names.append(erased_name("line", row["raw"]))
                is_no_fault = row["reason_kind"] == NO_LABEL
                found.no_label[path.stem] = found.no_label.get(path.stem, 0) + is_no_fault


def _look_at_the_rest(layout: Layout, found: Found) -> None:
    """Which lines and which prompts are those of records that stay, too."""
    uids, keys = pa.array(found.uids, pa.string()), pa.array(sorted(found.prompt_keys), pa.string())
    for _, path in landed(layout) if found.places else ():
        table = read_table(path, ("record_uid", "line_no", "prompt_key"))
        stays = table.filter(pc.invert(pc.is_in(table["record_uid"], value_set=uids)))
        asked = stays["prompt_key"].filter(pc.is_in(stays["prompt_key"], value_set=keys))
        found.prompt_keys -= set(asked.to_pylist())
        if path.stem in found.places:
            wanted = pa.array([number for number, _ in found.places[path.stem]], pa.int64())
            both = stays["line_no"].filter(pc.is_in(stays["line_no"], value_set=wanted))
            found.kept[path.stem].update(both.to_pylist())


def landed(layout: Layout) -> Iterator[tuple[str, Path]]:
    """Every file of landing with its kind."""
    for kind in KINDS:
        for path in sorted(layout.landing(kind).glob("[!_.]*.parquet")):
            yield kind, path


def _places(table: pa.Table) -> set[Place]:
    columns = (table[name].to_pylist() for name in ("line_no", "byte_offset"))
    return set(zip(*columns, strict=True))


def read_table(path: Path, columns: tuple[str, ...] | None) -> pa.Table:
    """A file of the lake, or some of its columns, whole.

    Raises:
        LakeError: It is torn.
    """
    try:
        return whole(pq.read_table(path, columns=list(columns))) if columns else pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise LakeError(
            f"{path} is torn: {error}; restore it from a copy, or remove it with its manifest "
            f"{path.stem}.json and land its file again, then erase again"
        ) from error
