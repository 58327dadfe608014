"""Files of the lake: whole or not there at all."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.errors import LakeError
from flywheel.lake import DERIVED, QUARANTINE, RAW, SCHEMAS, ensure, read_folder, write_table
from flywheel.layout import Layout
from flywheel.records.message import dump, prompt_of, response_of

TABLE = pa.table({"n": [1, 2, 3]})


def test_a_table_comes_back_as_written_and_leaves_no_draft(tmp_path: Path) -> None:
    write_table(TABLE, tmp_path / "new" / "a.parquet")
    write_table(TABLE.slice(1), tmp_path / "new" / "a.parquet")
    assert os.listdir(tmp_path / "new") == ["a.parquet"]
    assert read_folder(tmp_path / "new").equals(TABLE.slice(1))


def test_a_folder_is_read_in_order_without_its_drafts(tmp_path: Path) -> None:
    write_table(TABLE, tmp_path / "b.parquet")
    write_table(pa.table({"n": [0]}), tmp_path / "a.parquet")
    (tmp_path / ".c.parquet-1234.draft").write_bytes(b"half")
    (tmp_path / ".d.parquet").write_bytes(b"half")
    assert read_folder(tmp_path, ["n"])["n"].to_pylist() == [0, 1, 2, 3]


def test_what_another_column_tells_is_filled_in_and_what_is_there_stays(tmp_path: Path) -> None:
    odd = 'say "é"\\\n\t\x01/'
    rows = [
        {
            "content_sha256": "ab" * 32,
            "prompt_key": "k",
            "prompt_text": odd,
            "response_text": "y",
        },
        {"content_sha256": "cd" * 32, "prompt_key": "l", "prompt_text": "x", "prompt": "[{}]"},
        {"content_sha256": "ef" * 32, "record_id": "r", "group_hint": "g"},
    ]
    write_table(pa.Table.from_pylist(rows, SCHEMAS["demonstration"]), tmp_path / "a.parquet")
    found = read_folder(tmp_path)
    assert found.schema.equals(SCHEMAS["demonstration"])
    assert found["record_id"].to_pylist() == ["ab" * 16, "cd" * 16, "r"]
    assert found["group_hint"].to_pylist() == ["opening k", "opening l", "g"]
    assert found["prompt"].to_pylist() == [dump(prompt_of(odd)), "[{}]", None]
    assert found["response"].to_pylist() == [dump(response_of("y")), None, None]
    some = read_folder(tmp_path, ["response", "line_no", "record_id"])
    assert some.equals(found.select(["response", "line_no", "record_id"]))


def test_a_torn_file_and_an_empty_folder_are_told_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="land some feedback first"):
        read_folder(tmp_path)
    write_table(TABLE, tmp_path / "a.parquet")
    torn = (tmp_path / "a.parquet").read_bytes()[:-9]
    (tmp_path / "a.parquet").write_bytes(torn)
    with pytest.raises(LakeError, match=r"a\.parquet is torn.*land its file again"):
        read_folder(tmp_path)


def test_every_folder_of_a_fresh_home_has_its_columns(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    ensure(layout)
    for kind, schema in SCHEMAS.items():
        assert read_folder(layout.landing(kind)).schema.equals(schema)
    for name, schema in DERIVED.items():
        assert pq.read_schema(layout.derived(name)).equals(schema)
    assert read_folder(layout.quarantine).schema.equals(QUARANTINE)
    assert [pq.read_schema(one) for one in (layout.lake / "raw").glob("*/*.parquet")] == [RAW]


def test_ensure_leaves_what_is_there(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    marks = pa.table({"prompt_key": ["k"], "group_id": ["g"]})
    write_table(marks, layout.derived("prompt_groups"))
    ensure(layout)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    ensure(layout)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == before
    assert pq.read_table(layout.derived("prompt_groups")).equals(marks)


def test_a_full_disk_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    """The limit on the size of files stands for a full disk: both fail in the middle of a write."""
    path = tmp_path / "a.parquet"
    write_table(TABLE, path)
    program = f"""
import resource, os, pyarrow as pa
from pathlib import Path
from flywheel.lake import write_table
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, {resource.RLIM_INFINITY}))
write_table(pa.table({{"x": [os.urandom(100_000)]}}), Path({str(path)!r}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "LakeError" in done.stderr and "free some space" in done.stderr
    assert os.listdir(tmp_path) == ["a.parquet"]
    assert read_folder(tmp_path).equals(TABLE)
