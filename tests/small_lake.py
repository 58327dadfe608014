"""A small lake written by hand, and the dbt project built on it in a real process."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from flywheel.lake.schema import DERIVED, EVALUATION, LINEAGE, QUARANTINE, SCHEMAS
from flywheel.layout import Layout
from flywheel.records.message import Conversation, dump, prompt_of, response_of, text_of

PROJECT = Path(__file__).parent.parent / "dbt_project"
RAW = pa.schema(
    [
        *[pa.field(name, pa.string()) for name in ("source", "batch_id", "file")],
        *[pa.field(name, pa.int64()) for name in ("line_no", "byte_offset")],
        pa.field("record", pa.string()),
    ]
)
CONVERSATIONS = ("prompt", "response", "response_a", "response_b", "corrected_response")
CONVERSATIONS += ("edited_response", "steps")


def row(kind: str, uid: str, **values: Any) -> dict[str, Any]:
    """One landed row; texts are expanded to JSON, words and key, as landing does.

    `uid` names the event as well as the row: a copy of an event gives its `content_sha256`.
    """
    found: dict[str, Any] = {
        "record_id": uid,
        "record_uid": uid,
        "content_sha256": key(uid),
        "kind": kind,
        "source": "desk",
        "batch_id": "b000001-x",
        "annotator_kind": "person",
        **values,
    }
    for name in CONVERSATIONS:
        if isinstance(text := found.get(name), str):
            turns = (prompt_of if name == "prompt" else response_of)(text)
            found |= dict(zip((name, f"{name}_text", f"{name}_key"), _columns(turns), strict=True))
    if kind == "ranking":
        three = [_columns(response_of(text)) for text in found["responses"]]
        names = ("responses", "response_texts", "response_keys")
        found |= dict(zip(names, map(list, zip(*three, strict=True)), strict=True))
    return found


def key(text: str) -> str:
    """The key that `row` gives a text."""
    return hashlib.md5(text.encode()).hexdigest()


def _columns(turns: Conversation) -> tuple[str, str, str]:
    return dump(turns), text_of(turns), key(text_of(turns))


def write_lake(
    root: Path,
    rows: Sequence[Mapping[str, Any]],
    raw: Sequence[Mapping[str, Any]] = (),
    raw_source: str = "ukp_convarg1",
) -> Layout:
    """Write landing, quarantine, raw and (empty) derived files below `root`."""
    layout = Layout(root)
    for kind, schema in SCHEMAS.items():
        mine = [r | {"line_no": n} for n, r in enumerate(rows, 1) if r["kind"] == kind]
        _write(pa.Table.from_pylist(mine, schema), layout.landing(kind) / "b000001-x.parquet")
    _write(QUARANTINE.empty_table(), layout.quarantine / "_empty.parquet")
    records = [
        {
            "source": raw_source,
            "batch_id": "b000002-y",
            "line_no": n,
            "record": msgspec.json.encode(record).decode(),
        }
        for n, record in enumerate(raw, 1)
    ]
    _write(pa.Table.from_pylist(records, RAW), layout.raw(raw_source) / "b000002-y.parquet")
    for name, schema in EVALUATION.items():
        _write(schema.empty_table(), layout.evaluation("_none") / name / "_empty.parquet")
    for name, schema in DERIVED.items():
        if not layout.derived(name).exists():
            _write(schema.empty_table(), layout.derived(name))
    for name, schema in LINEAGE.items():
        _write(schema.empty_table(), layout.lineage(name) / "_empty.parquet")
    return layout


def _write(table: pa.Table, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def dbt(layout: Layout, *arguments: str, project: Path = PROJECT) -> str:
    """Run dbt on this lake; its output, or an AssertionError that holds it."""
    layout.warehouse.parent.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "FLYWHEEL_LAKE": str(layout.lake),
        "FLYWHEEL_WAREHOUSE": str(layout.warehouse),
        "DBT_TARGET_PATH": str(layout.root / "target"),
        "DBT_LOG_PATH": str(layout.root / "logs"),
    }
    program = [str(Path(sys.executable).with_name("dbt")), *arguments]
    done = subprocess.run(
        program, cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
