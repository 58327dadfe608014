"""Landing: files in, typed rows out, and every line accounted for.

A file is known by its content: delivered twice, or under another name, it lands once. One that
grew after it landed is another file and lands anew, as a whole; its earlier rows then lie in two
batches with the same `content_sha256`, by which the warehouse counts each event once. Its rows
are published first, its manifest last, under a lock; what a killed landing left without a
manifest is removed by the next one, which lands the file again, or by the next build of the
warehouse (`only_committed`).
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from flywheel.errors import IngestError, SettingsError
from flywheel.ingest.batch import UNREAD, BatchManifest, alone, older, read_batches, remove_orphans
from flywheel.ingest.blocks import Block, Parsed
from flywheel.ingest.columns import pseudonyms
from flywheel.ingest.discover import Settled, find_files, settled, source_of
from flywheel.ingest.drafts import Drafts, drafts_of
from flywheel.ingest.formats import RAW, named, recognise
from flywheel.ingest.formats.gathered import UNFIT
from flywheel.ingest.intake import Intake, Judge
from flywheel.ingest.left import LeftAlone, shown
from flywheel.ingest.refused import why_blocked
from flywheel.ingest.screening import Screening
from flywheel.ingest.seen import Seen
from flywheel.ingest.unit import Unit
from flywheel.ingest.units import read_blocks
from flywheel.lake import COMPRESSIONS, ensure
from flywheel.layout import Layout
from flywheel.privacy import Policy, Tombstones, forget_originals

SNIFFED = 100  # objects looked at to recognise a format
Log = Callable[[str], object]


def land(
    paths: Iterable[Path],
    layout: Layout,
    *,
    judge: Judge | None = None,
    personal: Policy | None = None,
    format: str = "auto",
    source: str | None = None,
    quarantine_limit: float = 0.2,
    quiet_seconds: float = 0.0,
    compression: str = "none",
    log: Log = print,
) -> list[BatchManifest]:
    """Land every new file below `paths`.

    Args:
        paths: Files and folders.
        layout: Where the lake lies.
        judge: Judges the rows of one kind; rows that fail a critical rule are quarantined.
        personal: What becomes of personal data, by source; None lands them as they are.
        format: Name of a reader; "auto" looks inside.
        source: Name of the source; the folder's name where there is none.
        quarantine_limit: Largest share of a file's lines that may be quarantined, those without
            a label aside; beyond it, or where the file as a whole cannot be read or the sum over
            its lines does not hold, it is blocked: nothing of it lands, and it is judged anew.
        quiet_seconds: A file of a folder that changed less than this ago is left for the next
            time, as one that ends inside a line is for a minute; a file that is named is not.
        compression: Of the rows: none, lz4 or zstd.
        log: Told of each file, and of what was left alone.

    Returns:
        The batches of this call, in order; files that landed before are not among them, and
        `left_alone` names those that were left.

    Raises:
        SettingsError: There is no such format or compression, or the source is no name of a
            folder.
        LakeError: A file of the lake could not be written.
        IngestError: A path is not there, or a folder cannot be read or written.
    """
    wanted = list(paths)
    _check(wanted, layout, format, source, quarantine_limit, compression)
    try:
        with alone(layout):
            left = LeftAlone(layout, log)
            new = partial(settled, left=left, quiet_seconds=quiet_seconds, named=set(wanted))
            drafts = partial(drafts_of, compression=compression)
            landed = _land(
                *(wanted, layout, judge, personal, format, source, quarantine_limit),
                *(new, drafts, left, log),
            )
            left.save()
            return landed
    except OSError as error:
        raise IngestError(
            f"landing stopped at {error.filename or layout.root}: {error.strerror or error}; free "
            f"some space or mend the permissions and land again: whole files landed are kept"
        ) from error


def pending_files(layout: Layout, quiet_seconds: float = 0.0) -> list[Path]:
    """Files that `land` would land from the inbox now, blocked ones aside."""
    batches = read_batches(layout)
    known = {content for one in batches for content in one.contents}
    found = settled(find_files([layout.inbox]), older(batches), quiet_seconds=quiet_seconds)
    return [file.path for file in found if file.hash not in known]


def _check(
    paths: list[Path],
    layout: Layout,
    format: str,
    source: str | None,
    limit: float,
    compression: str,
) -> None:
    if format not in ("auto", RAW):
        named(format)
    if source is not None and (not source or source[0] in "._" or "/" in source):
        raise SettingsError(
            f"source {source!r} names a folder of the lake: it cannot be empty, begin with a dot "
            f"or an underscore, or hold a slash"
        )
    if compression not in COMPRESSIONS:
        raise SettingsError(
            f"compression is one of {', '.join(COMPRESSIONS)}, found {compression!r}; mend "
            f"[landing] compression in settings.toml"
        )
    if not 0 <= limit <= 1:
        raise SettingsError(f"quarantine_limit is a share from 0 to 1, found {limit}")
    for path in paths:
        if path != layout.inbox and not path.exists():
            raise IngestError(f"{path} is not there; mend the path, or name no path for the inbox")


def _land(
    paths: list[Path],
    layout: Layout,
    judge: Judge | None,
    personal: Policy | None,
    format: str,
    source: str | None,
    limit: float,
    new: Callable[..., Iterator[Settled]],
    drafted: Callable[..., AbstractContextManager[Drafts]],
    left: LeftAlone,
    log: Log,
) -> list[BatchManifest]:
    ensure(layout)
    batches = read_batches(layout)
    for path in remove_orphans(layout, {one.batch_id for one in batches}):
        log(f"removed {path.name}: a landing was cut off before it was whole")
    known = {content: one for one in batches for content in one.contents}
    number = max((one.number for one in batches), default=0)
    landed = []
    seen, tombstones = Seen(layout), Tombstones(layout)
    pseudonym = pseudonyms(layout.root)
    for file in new(find_files(paths, left), older(batches)):
        before = known.get(file.hash)
        if before and (not before.blocked or before in landed):
            continue
        facts: dict[str, Any] = {
            "batch_id": f"b{number + 1:06d}-{file.hash[-12:]}",
            "file": shown(file.path, layout),
            "source": source or source_of(file.path, layout),
            "landed_at": datetime.now(UTC).replace(tzinfo=None),
        }
        with drafted(layout, facts["source"], facts["batch_id"], tombstones) as drafts:
            screening = Screening.of(personal, str(facts["source"]), layout)
            taking = partial(Intake, facts, pseudonym, judge, drafts, screening)
            intake, told = _take_in(file, taking, format)
            if not file.holds_still:
                left(file.path, "it changed while it was read, and is left for the next time")
                continue
            batch = _manifest(file, facts, intake, told, number + 1, limit, drafts, seen)
            if before and batch.says_what(before):  # blocked for the same reasons: that one stays
                batch = before
            else:
                if before:
                    _forget(layout, before)
                number += 1
                if screening:
                    screening.save(layout, batch.batch_id, rows_landed=not batch.blocked)
                drafts.publish(batch)
                if not batch.blocked:
                    seen.add(drafts.events, batch.batch_id)
        known[file.hash] = batch
        landed.append(batch)
        log(
            f"{batch.file}: {batch.format} ({batch.sure:.0%}: {batch.why}), {batch.lines} lines = "
            f"{batch.rows} rows + {batch.quarantined} quarantined + {batch.blanks} blank"
            + (f" + {batch.erased} erased before" if batch.erased else "")
            + (f", BLOCKED: {why_blocked(batch, layout)}" if batch.blocked else "")
        )
    seen.save()
    return landed


Told = tuple[str, float, str]  # format, how sure, why
Taking = Callable[[str], Intake]  # an empty intake for the reader of that name


def _take_in(file: Settled, taking: Taking, format: str) -> tuple[Intake, Told]:
    """Read one file whole, or not at all: whatever is wrong with it is its own trouble."""
    seen = 0

    def counted() -> Iterator[Block]:
        nonlocal seen
        for block in read_blocks(file.path):
            yield block
            seen += len(block)

    try:
        return _read(counted(), taking, format)
    except IngestError as error:  # nothing of a torn file lands, and it is not passed over
        reason = str(error)
    except UNFIT as error:  # a defect of a reader, or values that Python cannot hold
        reason = f"{type(error).__name__}: {error}; behind the first {seen} lines or rows of it"
    told = (RAW, 0.0, f"{UNREAD}: {reason}")
    intake = taking(RAW)
    intake.discard()
    intake.is_unreadable = True
    intake.take(Parsed([Unit(1, 0, b"", file.stamp[2], fault=("unreadable_file", reason))]))
    intake.flush()
    return intake, told


def _read(blocks: Iterator[Block], taking: Taking, format: str) -> tuple[Intake, Told]:
    first: list[Block] = []
    samples: list[dict[str, Any]] = []
    for block in blocks:
        first.append(block)
        values = (unit.value for unit in block.units() if unit.value is not None)
        samples.extend(itertools.islice(values, SNIFFED - len(samples)))
        if len(samples) == SNIFFED:
            break
    told = (format, 1.0, "asked for") if format != "auto" else _recognised(samples)
    intake = taking(told[0])
    for block in itertools.chain(first, blocks):
        intake.take(block)
    intake.flush()
    if intake.lines != intake.rows + intake.quarantined + intake.blanks:
        raise IngestError(
            f"{intake.lines} lines, but {intake.rows} rows + {intake.quarantined} "
            f"quarantined + {intake.blanks} blank; this is a defect of the reader {told[0]}, "
            f"please report it"
        )
    return intake, told


def _recognised(samples: list[dict[str, Any]]) -> Told:
    return recognise(samples) if samples else (RAW, 0.0, "it holds no object")


def _manifest(
    file: Settled,
    facts: dict[str, Any],
    intake: Intake,
    told: Told,
    number: int,
    limit: float,
    drafts: Drafts,
    seen: Seen,
) -> BatchManifest:
    blanks = intake.blanks - drafts.erased_whole
    said = intake.lines - blanks - intake.set_aside
    faulty = intake.quarantined - intake.set_aside
    blocked = intake.is_unreadable or (bool(said) and faulty / said > limit)
    return BatchManifest(
        number=number,
        batch_id=facts["batch_id"],
        file=facts["file"],
        source=facts["source"],
        format=told[0],
        sure=round(told[1], 3),
        why=told[2],
        file_hash=file.hash,
        file_bytes=file.stamp[2],
        lines=intake.lines,
        rows=intake.rows - len(drafts.erased_lines),
        quarantined=intake.quarantined - drafts.erased_refused,
        blanks=blanks,
        rows_by_kind={} if blocked else drafts.rows,
        new_rows_by_kind={} if blocked else seen.count_new(drafts.rows, drafts.events),
        blocked=blocked,
        landed_at=facts["landed_at"].isoformat(),
        personal_data=intake.personal_data,
        expectations=intake.expectations,
        erased=len(drafts.erased_lines) + drafts.erased_refused + drafts.erased_whole,
        set_aside=intake.set_aside,
        skipped=dict(sorted(intake.skipped.items())),
    )


def _forget(layout: Layout, batch: BatchManifest) -> None:
    """Take back a blocked batch: its file is judged anew."""
    (layout.batches / f"{batch.batch_id}.json").unlink()
    (layout.quarantine / f"{batch.batch_id}.parquet").unlink(missing_ok=True)
    forget_originals(layout, batch.batch_id)
