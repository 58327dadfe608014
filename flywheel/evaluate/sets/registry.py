"""Evaluation sets: frozen, numbered by content, and entered in a registry that is only added to.

A *set* is what landed evaluation prompts name. Its *version* is ours: 1 for what it held when it
was first frozen, and one more whenever it asks, expects or grades otherwise, the code of a grader
of the user's own included. What an entry says of a version never changes: a line sealed with the
hash of the one before, and a folder with a manifest. Which prompts nearly repeat each other
(`CLUSTER_KEY`) is no content of a set; it is found anew as more lands, and frozen beside it.

An evaluation names set, version and hash of what it asked (`sets.asked_of`). Numbers are comparable
where these three agree, and a decision rests on the newest version only (`check_newest`).
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.datasets.manifest import DatasetManifest, file_hash, read_split
from flywheel.errors import EvaluationError
from flywheel.evaluate.sets.rows import CONTENT, Row, by_set, code_hashes, content_hash_of
from flywheel.lake import locked
from flywheel.layout import Layout

CLUSTER_KEY = "group_id"  # prompts that nearly repeat each other
FIRST = "0" * 64
LONGEST = 80  # letters of a name that a folder keeps


class SetVersion(msgspec.Struct, frozen=True, kw_only=True):
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
        before: Hash of the entry before this one.
        hash: Of this entry.
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
    at: str
    before: str = ""
    hash: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """What an evaluation names."""
        return {"name": self.name, "version": self.version, "content_hash": self.content_hash}


def enter_sets(layout: Layout, rows: Sequence[Row], generation: str) -> list[SetVersion]:
    """Freeze and enter what is new; the version of every set among the rows, by name.

    Args:
        layout: Where the registry lies.
        rows: Of a frozen evaluation dataset.
        generation: Whose dataset it is.

    Raises:
        EvaluationError: The registry was edited, or a frozen set is not what was entered.
    """
    path = _registry(layout)
    found = []
    with locked(path.parent / ".evaluation_sets.lock"):
        entries = read_registry(layout)
        for name, mine in sorted(by_set(rows).items()):
            content = content_hash_of(mine)
            known = [one for one in entries if one.name == name]
            last = known[-1] if known else None
            same = [one for one in known if one.content_hash == content]
            if last and same and last not in same and generation >= last.generation:
                same = []  # it is again what it was once: a version of its own, the newest
            if not same:
                _freeze(layout, name, len(known) + 1, content, mine, generation)
                before = rows_of(layout, last) if last else []
                entry = _described(name, len(known) + 1, content, mine, before, generation)
                entries.append(_append(path, entries, entry))
                same = entries[-1:]
            rows_of(layout, same[-1])
            found.append(same[-1])
    return found


def read_registry(layout: Layout) -> list[SetVersion]:
    """Every version of every set, oldest first.

    Raises:
        EvaluationError: An entry was changed or taken out.
    """
    path = _registry(layout)
    data = path.read_bytes() if path.exists() else b""
    whole = data.rfind(b"\n") + 1  # what a kill tore off was never an entry
    entries: list[SetVersion] = []
    for place, line in enumerate(data[:whole].splitlines(), start=1):
        try:
            entry = msgspec.json.decode(line, type=SetVersion)
        except msgspec.MsgspecError as error:
            raise EvaluationError(
                f"line {place} of {path} is no evaluation set: {error}; restore it from a copy"
            ) from error
        if entry.before != (entries[-1].hash if entries else FIRST) or entry.hash != _seal(entry):
            raise EvaluationError(
                f"line {place} of {path} does not follow from the lines before it: the registry "
                f"was edited; restore it from a copy"
            )
        entries.append(entry)
    counts = Counter(folder_of(one.name) for one in entries)
    for folder in layout.evaluation_sets.glob("*/v*/manifest.json"):
        name, version = folder.parent.parent.name, int(folder.parent.name[1:])
        if version > counts[name] + 1:  # one more is a freeze that a kill kept from its entry
            raise EvaluationError(
                f"{folder.parent} is frozen, but {path} holds {counts[name]} versions of the set: "
                f"entries are gone; restore it from a copy"
            )
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
    rows = read_split(folder, "test").to_pylist()
    if content_hash_of(rows, entry.grader_code) != entry.content_hash:
        raise EvaluationError(
            f"evaluation set {entry.name!r} version {entry.version} in {folder} is not what was "
            f"entered in {_registry(layout)}; restore that folder from a copy"
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
        msgspec.to_builtins(one)
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
    """Put a version's folder in place in one rename; one that a killed freeze left is redone."""
    folder = _folder(layout, name, version)
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
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
    shutil.rmtree(folder, ignore_errors=True)  # no entry names it
    os.rename(draft, folder)


def _described(
    name: str, version: int, content: str, rows: list[Row], before: list[Row], generation: str
) -> SetVersion:
    now, then = (
        {row["prompt_key"]: [row.get(one) for one in CONTENT] for row in some}
        for some in (rows, before)
    )
    both = now.keys() & then.keys()
    return SetVersion(
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
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _append(path: Path, entries: list[SetVersion], entry: SetVersion) -> SetVersion:
    entry = msgspec.structs.replace(entry, before=entries[-1].hash if entries else FIRST)
    entry = msgspec.structs.replace(entry, hash=_seal(entry))
    with path.open("ab") as file:
        whole = path.read_bytes().rfind(b"\n") + 1
        os.truncate(file.fileno(), whole)
        file.write(msgspec.json.encode(entry) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return entry


def _seal(entry: SetVersion) -> str:
    facts = msgspec.structs.asdict(entry) | {"hash": ""}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _registry(layout: Layout) -> Path:
    return layout.registry / "evaluation_sets.jsonl"


def _folder(layout: Layout, name: str, version: int) -> Path:
    return layout.evaluation_sets / folder_of(name) / f"v{version}"


def _counted(rows: Sequence[Row], name: str) -> dict[str, int]:
    return dict(sorted(Counter(row.get(name) or "unknown" for row in rows).items()))
