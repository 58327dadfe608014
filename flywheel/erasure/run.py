"""One erasure from beginning to end.

First everything is looked for, which changes nothing. Then tombstones are set, so that no landing
brings it back, and the plan is written down; then each part of the plan is carried out; at last it
is entered into the ledger of erasures, and the plan goes. Killed anywhere, the next erasure, or the
nightly job, first finishes what was begun.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flywheel.erasure import frozen, lines
from flywheel.erasure.found import Found, find_in_lake
from flywheel.erasure.lake import remove_from_lake, will_be
from flywheel.erasure.plan import Plan, alone, path_of, read_plan
from flywheel.erasure.who import Who
from flywheel.errors import ErasureError
from flywheel.ingest import pending_files, read_batches, standing_batches
from flywheel.ingest.batch import alone as landing_alone
from flywheel.lake import ensure, read_folder
from flywheel.layout import Layout
from flywheel.lineage import Erasure, Erasures, reached_by
from flywheel.lineage.checkpoints import known_checkpoints
from flywheel.privacy import Tombstones, read_originals
from flywheel.serve.delivery import delivery_held
from flywheel.serve.feedback import FOLDER

FOLLOWS = "the read copy of the warehouse, marks, pages and the text index, until the next build"
Log = Callable[[str], object]


def erase(
    layout: Layout,
    what: str,
    name: str,
    *,
    by: str,
    reason: str,
    key_file: str = "",
    log: Log = print,
) -> Erasure:
    """Take a record, or everything of a person, out of this home.

    Args:
        layout: The home.
        what: record, annotator, user or subject.
        name: Which, or whose.
        by: Who asks for it.
        reason: Why.
        key_file: Of `[personal_data]`: opens what redaction took out and sealed.
        log: Told what goes.

    Returns:
        The entry that says so; of what was erased before and is nowhere now, the entry of then.

    Raises:
        ErasureError: Nothing here is called that, or several records are, nobody is named, or a
            file cannot be written.
        LakeError: A file of the lake is torn; nothing was taken out.
        SettingsError: The key of what was sealed is not there.
    """
    if not by.strip() or not reason.strip():
        raise ErasureError("an erasure needs who asks for it and why: give --by and --reason")
    with alone(layout):
        _finish(layout, key_file, log)
        with _held(layout):
            plan, found = _look(layout, what, name, by, reason)
            if plan.is_empty:
                return _before(layout, plan, what, name)
            for batch in plan.manifests:
                read_originals(layout, batch, key_file)  # a wrong key is told before it begins
            Tombstones(layout).add(found.names)
            plan.save(layout)
        return _finish(layout, key_file, log)


def look_for(layout: Layout, what: str, name: str) -> Plan:
    """What an erasure would take away; nothing is changed.

    Raises:
        LakeError: A file of the lake is torn.
    """
    with alone(layout), _held(layout):
        return _look(layout, what, name, "", "")[0]


def finish_pending(layout: Layout, *, key_file: str = "", log: Log = print) -> Erasure | None:
    """Finish an erasure that was cut off; None where none was.

    Raises:
        ErasureError: Its plan cannot be read, or a file cannot be written.
    """
    with alone(layout):
        return _finish(layout, key_file, log) if path_of(layout).exists() else None


def _look(layout: Layout, what: str, name: str, by: str, reason: str) -> tuple[Plan, Found]:
    ensure(layout)
    who, at = Who.of(layout, what, name), datetime.now(UTC).isoformat(timespec="seconds")
    spans, responses = lines.served_answers(layout, who)
    who = replace(who, answers=frozenset(responses))
    found = find_in_lake(layout, who)
    spans |= lines.said_of_answers(layout, who, responses, found.record_ids)
    batches = read_batches(layout)
    manifests = will_be(batches, found, at)
    delivered = lines.delivered_lines(layout, batches, found)
    found.names += delivered.names
    for file, more in delivered.spans.items():
        spans[file] = sorted({*spans.get(file, ()), *more})
    hashes = {
        file: lines.hash_with_blanks(layout.root / file, some)
        for file, some in spans.items()
        if file.startswith("inbox/")
    }
    for one, files in delivered.files.items():
        if one in manifests:
            manifests[one] = replace(manifests[one], blanked_hash=hashes[files[0]])
    uids = [*found.uids, *_erased_before(layout, who)]
    reached = reached_by(layout, uids) if uids else {}
    known = known_checkpoints(layout) if uids else {}
    datasets = sorted({one["dataset"] for one in reached.get("datasets", ())})
    rows = frozen.rows_frozen(layout, datasets, uids)
    left = [*delivered.left, *found.left]
    left += frozen.copies_left(layout, uids, sorted(found.prompt_keys))
    left += _not_looked_through(layout)
    if found.uids or found.raw:
        left.append(FOLLOWS)
    if found.uids:
        saw = [one["checkpoint"] for one in reached["checkpoints"]]
        left += frozen.policies_aside(layout, saw + reached["descendants"])
    removed = {
        "records": len(found.uids) - found.of_others,
        "records_of_others_on_the_same_lines": found.of_others,
        "raw_rows": sum(map(len, found.raw.values())),
        "quarantined_lines": sum(map(len, found.quarantined.values())),
        "batches": len(manifests),
        "dataset_rows": sum(rows.values()),
        "people_judgements": frozen.judgements_held(layout, uids, sorted(found.prompt_keys)),
        **_lines_of(spans),
    }
    plan = Plan(
        number=len(Erasures(layout).entries()) + 1,
        what=what,
        subject=who.hash,
        by=by,
        reason=reason,
        at=at,
        uids=uids,
        raw=found.raw,
        quarantined=found.quarantined,
        manifests={one: asdict(manifest) for one, manifest in manifests.items()},
        spans=spans,
        hashes=hashes,
        prompt_keys=sorted(found.prompt_keys),
        datasets=sorted(rows),
        removed={place: count for place, count in removed.items() if count},
        checkpoints=[
            one | {"content_hash": known[one["checkpoint"]]["content_hash"]}
            for one in reached.get("checkpoints", ())
            if one["checkpoint"] in known
        ],
        descendants=reached.get("descendants", []),
        left=left,
    )
    return plan, found


def _finish(layout: Layout, key_file: str, log: Log) -> Any:
    """Carry out the plan that is written down, as far as that is not done; its entry."""
    plan = read_plan(layout)
    if plan is None:
        return None
    ledger = Erasures(layout)
    entries = ledger.entries()
    if plan.number <= len(entries) and not _is_of(entries[plan.number - 1], plan):
        (layout.erased / f"e{plan.number:06d}.parquet").unlink(missing_ok=True)
        plan.number = len(entries) + 1  # somebody else's entry took its number meanwhile
        plan.save(layout)
    if len(entries) < plan.number:
        with _held(layout):
            remove_from_lake(layout, plan, key_file)
            left = plan.left + lines.blank(layout, plan)
            frozen.remove_from_datasets(layout, plan.datasets, plan.uids)
            prompts = frozen.remove_prompts(layout, plan.prompt_keys)
            frozen.remove_judgements(layout, plan.uids, plan.prompt_keys)
            if plan.manifests:
                frozen.forget_warehouse(layout)
        with ledger.appending() as (entries, append):
            append(
                what=plan.what,
                subject=plan.subject,
                by=plan.by,
                reason=plan.reason,
                removed=plan.removed | prompts,
                checkpoints=plan.checkpoints,
                descendants=plan.descendants,
                left=left,
            )
    entry = ledger.entries()[plan.number - 1]
    path_of(layout).unlink(missing_ok=True)
    told = ", ".join(f"{count} {place}" for place, count in entry.removed.items())
    log(f"erasure {entry.number}: {told or 'nothing'} taken out")
    return entry


def _is_of(entry: Erasure, plan: Plan) -> bool:
    return (entry.what, entry.subject) == (plan.what, plan.subject)


def _erased_before(layout: Layout, who: Who) -> list[str]:
    """Records that went when the same was asked for before: an older copy of the warehouse may
    have brought them back into a dataset."""
    entries = Erasures(layout).entries()
    same = [one.number for one in entries if (one.what, one.subject) == (who.what, who.hash)]
    erased = read_folder(layout.erased)
    goes = pc.is_in(erased["erasure"], value_set=pa.array(same, pa.int64()))
    if who.what == "record":
        names = pa.array(sorted(who.names), pa.string())
        goes = pc.or_(goes, pc.is_in(erased["record_uid"], value_set=names))
    return sorted(set(erased["record_uid"].filter(goes).to_pylist()))


def _not_looked_through(layout: Layout) -> list[str]:
    """Files that may hold something of anybody, and have not landed."""
    left = [
        f"{one.file} is blocked, and was not looked through but for its quarantined lines; mend "
        f"and land it, then erase again, or remove it"
        for one in standing_batches(layout)
        if one.blocked
    ]
    if waiting := pending_files(layout):
        left.append(f"{len(waiting)} files wait in the inbox, not looked through; land them first")
    return left


def _before(layout: Layout, plan: Plan, what: str, name: str) -> Erasure:
    """The entry of an erasure that took away already what is asked for.

    Raises:
        ErasureError: None did.
    """
    entries = Erasures(layout).entries()
    same = [one for one in entries if (one.what, one.subject) == (what, plan.subject)]
    if not same and what == "record":
        erased = read_folder(layout.erased)
        rows = erased.filter(pc.equal(erased["record_uid"], pa.scalar(name.strip())))
        same = [entries[number - 1] for number in rows["erasure"].to_pylist()]
    if same:
        return same[-1]
    raise ErasureError(
        "; ".join(
            [
                f"nothing here is of {what} {name!r}; look the name up with `flywheel trace`, or "
                f"land what waits in the inbox first",
                *plan.left,
            ]
        )
    )


def _lines_of(spans: dict[str, list[tuple[int, int]]]) -> dict[str, int]:
    """Lines by where they stand."""
    places = {"inbox/": "inbox_lines", f"served/{FOLDER}/": "feedback_lines"}
    counts: dict[str, int] = {}
    for file, some in spans.items():
        place = next((to for start, to in places.items() if file.startswith(start)), "served_lines")
        counts[place] = counts.get(place, 0) + len(some)
    return counts


@contextmanager
def _held(layout: Layout) -> Iterator[None]:
    """Hold off landing, dbt and the delivery of feedback."""
    with delivery_held(layout), landing_alone(layout):
        yield
