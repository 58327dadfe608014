"""Evaluation sets: frozen, numbered by content, and entered in a registry that is only added to.

A *set* is what landed evaluation prompts name. Its *version* is ours: 1 for what it held when it
was first frozen, and one more whenever it asks, expects or grades otherwise, the code of a grader
of the user's own included. What an entry says of a version never changes: a line of a chain (see
`lake.chain`), and a folder with a manifest. Registries of before had no head, by which a cut off
end is found out; such a one, or one whose head was removed, gets it with its next entry. Which
prompts nearly repeat each other (`CLUSTER_KEY`) is no content of a set; it is found anew as more
lands, and frozen beside it.

An evaluation names set, version and hash of what it asked (`sets.asked_of`). Numbers are comparable
where these three agree, and a decision rests on the newest version only (`check_newest`).
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.datasets.manifest import DatasetManifest, file_hash, read_split
from flywheel.errors import EvaluationError
from flywheel.evaluate.sets.rows import CONTENT, Row, by_set, code_hashes, content_hash_of
from flywheel.lake.chain import Chain, Link
from flywheel.lake.files import sync
from flywheel.layout import Layout

CLUSTER_KEY = "group_id"  # prompts that nearly repeat each other
LONGEST = 80  # letters of a name that a folder keeps


@dataclass(frozen=True, slots=True, kw_only=True)
class SetVersion(Link):
    """One version of one set, as the registry holds it.

    Attributes:
        content_hash: Of what is asked, expected and graded, in the order of prompt keys.
        graders: Prompts by who grades them.
        grader_code: Hash of the file of each grader that is a function of the user's own.
        sources: Prompts by where they were landed from.
        added: Prompts that the version before did not ask; all of them in the first.
        removed: Prompts that only the version before asked.
        changed: Prompts that both ask, and grade or expect otherwise.
        generation: From whose evaluation dataset it was frozen.
    """

    name: str
    version: int
    content_hash: str
    prompts: int
    graders: dict[str, int]
    grader_code: dict[str, str]
    licences: dict[str, int]
    sources: dict[str, int]
    cluster_key: str
    added: int
    removed: int
    changed: int
    generation: str

    @property
    def identity(self) -> dict[str, Any]:
        """What an evaluation names."""
        return {"name": self.name, "version": self.version, "content_hash": self.content_hash}


class Registry(Chain[SetVersion]):
    """The versions of all sets of one home."""

    called = "registry"
    error = EvaluationError
    had_no_head = True

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout.registry, "evaluation_sets", SetVersion)

    def hash_of(self, entry: SetVersion) -> str:
        """As entries were sealed before there was a chain."""
        facts = asdict(entry) | {"hash": ""}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def enter_sets(layout: Layout, rows: Sequence[Row], generation: str) -> list[SetVersion]:
    """Freeze and enter what is new; the version of every set among the rows, by name.

    Args:
        layout: Where the registry lies.
        rows: Of a frozen evaluation dataset.
        generation: Whose dataset it is.

    Raises:
        EvaluationError: The registry was edited, or a frozen set is not what was entered.
    """
    found = []
    with Registry(layout).appending() as (entries, append):
        _check_folders(layout, entries)
        for name, mine in sorted(by_set(rows).items()):
            content = content_hash_of(mine)
            known = [one for one in entries if one.name == name]
            last = known[-1] if known else None
            same = [one for one in known if one.content_hash == content]
            if last and same and last not in same and generation >= last.generation:
                same = []  # it is again what it was once: a version of its own, the newest
            if not same:
                before = rows_of(layout, last) if last else []
                _freeze(layout, name, len(known) + 1, content, mine, generation)
                facts = _described(name, len(known) + 1, content, mine, before, generation)
                same = [append(**facts)]
            rows_of(layout, same[-1])
            found.append(same[-1])
    return found


def read_registry(layout: Layout) -> list[SetVersion]:
    """Every version of every set, oldest first.

    Raises:
        EvaluationError: An entry was changed, added by hand or taken out, of the middle or the end.
    """
    entries = Registry(layout).entries()
    _check_folders(layout, entries)
    return entries


def newest(entries: Sequence[SetVersion]) -> dict[str, SetVersion]:
    """The last version of each set."""
    return {one.name: one for one in entries}


def rows_of(layout: Layout, entry: SetVersion) -> list[Row]:
    """What a version asks.

    Raises:
        EvaluationError: What is frozen is not what was entered.
        ManifestError: A file is gone or was changed.
    """
    folder = _folder(layout, entry.name, entry.version)
    if not folder.exists() and (draft := _draft(folder)).exists():
        with suppress(FileNotFoundError):  # another reader was faster
            os.rename(draft, folder)  # its entry is there
        sync(folder.parent)
    rows = read_split(folder, "test").to_pylist()
    if content_hash_of(rows, entry.grader_code) != entry.content_hash:
        raise EvaluationError(
            f"evaluation set {entry.name!r} version {entry.version} in {folder} is not what was "
            f"entered in {Registry(layout).path}; restore that folder from a copy"
        )
    return rows


def check_newest(layout: Layout, asked: Sequence[dict[str, Any]]) -> None:
    """Refuse to decide on sets that are not entered, or that have a newer version by now.

    Raises:
        EvaluationError: Of the first such set.
    """
    last = newest(read_registry(layout))
    for one in asked:
        found = last.get(one["name"])
        if found is None or found.identity != {name: one[name] for name in found.identity}:
            now = f"version {found.version} ({found.content_hash[:12]})" if found else "none"
            raise EvaluationError(
                f"the evaluation asked version {one['version']} ({one['content_hash'][:12]}) of "
                f"evaluation set {one['name']!r}, and the registry's last is {now}: numbers on two "
                f"versions do not compare; take a new turn, which asks the newest"
            )


def listed(layout: Layout) -> list[dict[str, Any]]:
    """Every version of every set, the newest first, as facts; the newest with its decontamination.

    That is of the last generation that asked the set: null where none has looked yet.
    """
    entries = read_registry(layout)
    last = newest(entries)
    looks: dict[str, dict[str, Any]] = {}
    for path in sorted((layout.runs / "evaluation_sets").glob("*/decontamination.json")):
        for name, told in json.loads(path.read_text()).items():
            looks[name] = told | {"generation": path.parent.name}
    return [
        asdict(one)
        | {"is_newest": one is last[one.name]}
        | {"decontamination": looks.get(one.name) if one is last[one.name] else None}
        for one in reversed(entries)
    ]


def folder_of(name: str) -> str:
    """A folder's name for a set's: no two alike, and none that leads elsewhere."""
    plain = quote(name, safe=" ").replace(".", "%2E", name.startswith("."))
    if len(plain) <= LONGEST:
        return plain
    return f"{plain[:LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def _freeze(
    layout: Layout, name: str, version: int, content: str, rows: list[Row], generation: str
) -> None:
    """Write what a version is to ask aside; `rows_of` puts it in place once it is entered.

    Raises:
        EvaluationError: Something else is frozen in its place.
        ManifestError: What is frozen in its place was changed.
    """
    folder = _folder(layout, name, version)
    if folder.exists():
        held = content_hash_of(read_split(folder, "test").to_pylist())
        if held == content:
            return
        raise EvaluationError(
            f"version {version} of evaluation set {name!r} is to have content {content[:12]}, but "
            f"{folder} holds {held[:12]}, which {Registry(layout).path} does not name, and what is "
            f"frozen is never replaced: if its entry was cut off, restore the registry from a "
            f"copy; if a kill kept it from its entry, move that folder away"
        )
    draft = _draft(folder)
    shutil.rmtree(draft, ignore_errors=True)  # no entry names it
    draft.mkdir(parents=True)
    file = draft / "test.parquet"
    pq.write_table(pa.Table.from_pylist(rows), file)
    DatasetManifest(
        name=name,
        generation=generation,
        table="marts.fct_evaluation_prompts",
        content_hash=content,
        rows_by_split={"test": len(rows)},
        files={file.name: file_hash(file)},
        record_count=len({uid for row in rows for uid in row.get("record_uids") or ()}),
        annotator_count=0,
        cost_usd=0.0,
        sources=_counted(rows, "source"),
        licences=_counted(rows, "licence"),
        trained_through_batch=0,
    ).save(draft)
    for path in (*draft.iterdir(), draft, draft.parent):
        sync(path)


def _described(
    name: str, version: int, content: str, rows: list[Row], before: list[Row], generation: str
) -> dict[str, Any]:
    now, then = (
        {row["prompt_key"]: [row.get(one) for one in CONTENT] for row in some}
        for some in (rows, before)
    )
    both = now.keys() & then.keys()
    return dict(
        name=name,
        version=version,
        content_hash=content,
        prompts=len(rows),
        graders=_counted(rows, "grader"),
        grader_code=code_hashes(rows),
        licences=_counted(rows, "licence"),
        sources=_counted(rows, "source"),
        cluster_key=CLUSTER_KEY,
        added=len(now.keys() - then.keys()),
        removed=len(then.keys() - now.keys()),
        changed=sum(now[key] != then[key] for key in both),
        generation=generation,
    )


def _check_folders(layout: Layout, entries: Sequence[SetVersion]) -> None:
    """Find out entries that are gone from a registry without a head by the folders they leave."""
    counts = Counter(folder_of(one.name) for one in entries)
    for folder in layout.evaluation_sets.glob("*/v*/manifest.json"):
        name, version = folder.parent.parent.name, int(folder.parent.name[1:])
        if version > counts[name] + 1:  # one more may be what a kill kept from its entry
            raise EvaluationError(
                f"{folder.parent} is frozen, but {Registry(layout).path} holds {counts[name]} "
                f"versions of the set: entries are gone; restore it from a copy"
            )


def _folder(layout: Layout, name: str, version: int) -> Path:
    return layout.evaluation_sets / folder_of(name) / f"v{version}"


def _draft(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.draft")


def _counted(rows: Sequence[Row], name: str) -> dict[str, int]:
    return dict(sorted(Counter(row.get(name) or "unknown" for row in rows).items()))
