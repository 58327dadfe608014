"""Batches: one per landed file. Its manifest, written last, is what makes it count."""

import json
import os
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flywheel.errors import LakeError
from flywheel.ingest.discover import SHA256, delivered_as
from flywheel.lake import locked, read_folder
from flywheel.lake.files import sync
from flywheel.layout import Layout
from flywheel.records import KINDS

UNREAD = "it could not be read"  # how the reason of a file begins of which no line was counted


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectationResult:
    """How one expectation fared on the rows of one kind of one batch."""

    kind: str
    name: str
    passed: bool
    checked: int
    failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchManifest:
    """What became of one file. lines = rows + quarantined + blanks + erased, always.

    Attributes:
        number: 1, 2, 3, ... in the order of landing.
        lines: Lines, elements or rows of the file.
        rows: Those that landed, and of which nothing was erased; one line may hold several
            records.
        rows_by_kind: Records landed, by kind; "raw" counts rows of raw sources.
        new_rows_by_kind: Those of them whose `content_sha256` no batch before held: of a file
            that grew, or came again in another form, only what is new. Raw rows are all new.
        blocked: More than the limit was quarantined, or the file as a whole could not be read,
            so nothing of it landed.
        set_aside: Those of the quarantined that hold no label: no fault, so they block nothing.
        skipped: What stood beside labels and is none, by why: drafts, cancelled, predictions.
        sure: How sure the format is, from 0 to 1, with `why` in words.
        personal_data: Values of persons that were taken out or refused, by kind.
        erased: Lines of which a record was taken out because somebody asked for it, since they
            landed, or as they came in again.
        erased_at: When that was done last; "" where it never was. Who keeps anything of a batch
            takes it anew when this changes.
        file_hash: BLAKE3 of the file, in hex; where an older release landed it, "sha256:" and its
            SHA-256.
        blanked_hash: Of the file in the inbox, once its erased lines were blanked there.
    """

    number: int
    batch_id: str
    file: str
    source: str
    format: str
    sure: float
    why: str
    file_hash: str
    file_bytes: int
    lines: int
    rows: int
    quarantined: int
    blanks: int
    rows_by_kind: dict[str, int]
    new_rows_by_kind: dict[str, int]
    blocked: bool
    landed_at: str
    personal_data: dict[str, int] = field(default_factory=dict)
    expectations: list[ExpectationResult] = field(default_factory=list)
    set_aside: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    erased: int = 0
    erased_at: str = ""
    blanked_hash: str = ""

    @classmethod
    def of(cls, facts: dict[str, Any]) -> "BatchManifest":
        """A manifest as it was written down, by this release or an older one."""
        told = {"new_rows_by_kind": facts["rows_by_kind"], **facts}
        for name in ("file", "blanked"):
            if sha256 := told.pop(f"{name}_sha256", ""):
                told[f"{name}_hash"] = SHA256 + sha256
        told["expectations"] = [ExpectationResult(**one) for one in facts["expectations"]]
        return cls(**told)

    @property
    def contents(self) -> set[str]:
        """Hashes of the contents that this batch is known by."""
        return {self.file_hash, self.blanked_hash} - {""}

    @property
    def blocked_because(self) -> str:
        """Why the file is blocked, for people; empty where it is not."""
        if not self.blocked:
            return ""
        said = self.lines - self.blanks - self.set_aside
        faulty = self.quarantined - self.set_aside
        share = f"{faulty} of {said} lines were quarantined, more than the limit"
        if self.why.startswith(UNREAD):
            return self.why
        return share if self.sure else f"{self.why}; {share}"

    def says_what(self, before: "BatchManifest") -> bool:
        """Whether the same became of the same file as `before`, under another number."""
        number, batch_id, landed_at = before.number, before.batch_id, before.landed_at
        return replace(self, number=number, batch_id=batch_id, landed_at=landed_at) == before

    def save(self, layout: Layout) -> None:
        """Commit the batch."""
        layout.batches.mkdir(parents=True, exist_ok=True)
        path = layout.batches / f"{self.batch_id}.json"
        draft = path.with_name(f".{uuid.uuid4().hex[:8]}.draft")
        try:
            draft.write_text(json.dumps(asdict(self), indent=1) + "\n")
            sync(draft)
            os.replace(draft, path)
            sync(path.parent)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise LakeError(f"cannot write {path}: {error}; free some space") from error


def read_batches(layout: Layout) -> list[BatchManifest]:
    """Every committed batch, in order of landing.

    Raises:
        LakeError: A manifest is torn or of another version.
    """
    found = []
    for path in sorted(layout.batches.glob("b*.json")):
        try:
            found.append(BatchManifest.of(json.loads(path.read_text())))
        except (ValueError, TypeError, KeyError) as error:
            raise LakeError(
                f"{path} is torn or of another version: {error}; remove it and land "
                f"the file of that batch again"
            ) from error
    return sorted(found, key=lambda one: one.number)


def older(batches: Iterable[BatchManifest]) -> dict[int, set[str]]:
    """What is known by its SHA-256 still, by size: a file that is blanked keeps its own."""
    found = defaultdict(set)
    for batch in batches:
        for content in batch.contents:
            if content.startswith(SHA256):
                found[batch.file_bytes].add(content)
    return found


def latest_batch_number(layout: Layout) -> int:
    """Number of the newest batch of which a row landed; 0 where nothing has."""
    landed = (one.number for one in read_batches(layout) if any(one.rows_by_kind.values()))
    return max(landed, default=0)


def landing_counts(layout: Layout) -> dict[str, int]:
    """Records landed so far, by kind, each once however often it was delivered."""
    counts = dict.fromkeys(KINDS, 0)
    for batch in read_batches(layout):
        for kind, count in batch.new_rows_by_kind.items():
            counts[kind] = counts.get(kind, 0) + count
    return counts


def standing_batches(layout: Layout) -> list[BatchManifest]:
    """The batches that still say something: all but blocked ones whose file is no longer there.

    A blocked file is no longer there when it was removed, or when another content of the same
    name was judged after it. Its manifest and its lines in quarantine stay, for who asks later
    what was once delivered; they are no longer counted and asked about.
    """
    batches = read_batches(layout)
    newest = {one.file: one.number for one in batches}  # in order of number: the last one stays
    return [
        one
        for one in batches
        if not one.blocked or (newest[one.file] == one.number and not _is_gone(one, layout))
    ]


def _is_gone(batch: BatchManifest, layout: Layout) -> bool:
    if "\ufffd" in batch.file:
        return False  # a name that is no text cannot be looked up by what is shown of it
    try:
        delivered_as(batch.file, layout).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass  # out of sight is not gone
    return False


def unaccounted(layout: Layout) -> list[str]:
    """Files whose lines do not add up, or of which the lake holds more or fewer rows than landed.

    The rows are those of the published Parquet, counted from its metadata; a file of the lake
    that is gone or torn holds none.
    """
    return [
        one.file
        for one in read_batches(layout)
        if one.lines != one.rows + one.quarantined + one.blanks + one.erased
        or _differs(one, layout)
    ]


def _differs(batch: BatchManifest, layout: Layout) -> bool:
    folders = {
        layout.raw(batch.source) if kind == "raw" else layout.landing(kind): count
        for kind, count in batch.rows_by_kind.items()
    } | {layout.quarantine: batch.quarantined}
    return any(_rows_in(folder, batch) != count for folder, count in folders.items())


def _rows_in(folder: Path, batch: BatchManifest) -> int:
    try:
        return int(pq.read_metadata(folder / f"{batch.batch_id}.parquet").num_rows)
    except (OSError, pa.ArrowException):
        return 0


def quarantine_reasons(layout: Layout) -> dict[str, int]:
    """Quarantined lines of `standing_batches` by kind of reason, most frequent first."""
    return _quarantine_counts(layout, "reason_kind")


def quarantine_kinds(layout: Layout) -> dict[str, int]:
    """The same lines by kind of record; `unknown` where none was read."""
    return _quarantine_counts(layout, "kind")


def _quarantine_counts(layout: Layout, column: str) -> dict[str, int]:
    if not layout.quarantine.exists():
        return {}
    lines = read_folder(layout.quarantine, ["batch_id", column])
    standing = pa.array([one.batch_id for one in standing_batches(layout)], pa.string())
    values = lines.filter(pc.is_in(lines["batch_id"], standing))[column].to_pylist()
    return dict(Counter(value or "unknown" for value in values).most_common())


@contextmanager
def alone(layout: Layout) -> Iterator[None]:
    """One landing at a time in a home; another waits for its turn."""
    with locked(layout.lake / ".landing.lock"):
        yield


@contextmanager
def only_committed(layout: Layout) -> Iterator[None]:
    """Hold landing off, with nothing in the lake but batches whose manifest is written.

    For who reads the lake's folders as a whole, as dbt does: rows of a landing under way, or of
    one that was killed, would be concluded from and then be gone.

    Raises:
        LakeError: A manifest is torn.
    """
    with alone(layout):
        remove_orphans(layout, {one.batch_id for one in read_batches(layout)})
        yield


def remove_orphans(layout: Layout, committed: set[str]) -> list[Path]:
    """Remove Parquet that a killed landing left behind without a manifest."""
    folders = [*(layout.landing(kind) for kind in KINDS), layout.quarantine]
    folders += [path for path in (layout.lake / "raw").glob("*") if path.is_dir()]
    orphans = [
        path
        for folder in folders
        for path in folder.glob("*.parquet")
        if not path.name.startswith("_") and path.stem not in committed
    ]
    originals = layout.restricted / "originals"
    orphans += [path for path in originals.glob("b*") if path.stem not in committed]
    drafts = [path for folder in (*folders, layout.batches) for path in folder.glob(".*.draft")]
    drafts += originals.glob(".*.draft")
    for path in (*orphans, *drafts):
        path.unlink(missing_ok=True)
    return orphans
