"""Landing in real processes that are killed, run out of disk, or run at the same time."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flywheel.errors import LakeError
from flywheel.ingest import (
    land,
    landing_counts,
    only_committed,
    pending_files,
    read_batches,
)
from flywheel.lake import read_folder
from flywheel.layout import Layout

ROOT = Path(__file__).parent.parent
LINES = [
    b'{"kind":"demonstration","prompt":"p","response":"r"}',
    b'{"kind":"comparison","prompt":"p","response_a":"a","response_b":"b","choice":"a"}',
    b"broken",
    *[b'{"kind":"demonstration","prompt":"q","response":"r"}'] * 4,
]
LAND = """
from pathlib import Path
from flywheel.ingest import land
from flywheel.layout import Layout
layout = Layout(Path(sys.argv[1]))
print(sum(1 for _ in land([layout.inbox], layout, log=lambda _: None)))
"""


@pytest.fixture
def home(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "var")
    layout.inbox.mkdir(parents=True)
    return layout


def start(program: str, layout: Layout) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "import os, sys\n" + program, str(layout.root)]
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def put(layout: Layout, name: str, content: bytes) -> None:
    path = layout.inbox / name
    path.write_bytes(content)
    os.utime(path, (0, 0))  # old: nobody is writing it


def leftovers(layout: Layout) -> list[str]:
    return [path.name for path in layout.lake.rglob("*") if path.name.endswith(".draft")]


@pytest.mark.parametrize("place", [1, 2, 3, 4])
def test_a_landing_killed_at_any_of_its_four_writes_lands_once_in_the_end(
    home: Layout, place: int
) -> None:
    land([home.inbox], home)  # the empty tables are there
    put(home, "x.jsonl", b"\n".join(LINES))
    kill = f"""
import signal
seen = []
def hook(event, arguments):
    if event == "os.rename" and "b000001" in str(arguments[1]):
        seen.append(event)
        if len(seen) == {place}:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
"""
    killed = start(kill + LAND, home)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert read_batches(home) == [] and len(pending_files(home)) == 1 and leftovers(home)
    told: list[str] = []
    (batch,) = land([home.inbox], home, log=told.append)
    assert sum("cut off" in line for line in told) == place - 1
    assert (batch.number, batch.rows_by_kind) == (1, {"demonstration": 5, "comparison": 1})
    assert read_folder(home.landing("demonstration")).num_rows == 5
    assert read_folder(home.landing("comparison")).num_rows == 1
    assert read_folder(home.quarantine).num_rows == 1 and leftovers(home) == []


def test_a_killed_landing_leaves_no_rows_of_a_file_that_was_taken_away(home: Layout) -> None:
    orphan = home.raw("desk") / "b000009-0123456789ab.parquet"
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"")
    (home.raw("desk") / "_empty.parquet").write_bytes(b"")
    assert land([home.inbox], home, log=lambda _: None) == []
    assert os.listdir(home.raw("desk")) == ["_empty.parquet"]


def test_who_reads_the_whole_lake_sees_no_row_of_a_killed_landing_or_of_one_under_way(
    home: Layout,
) -> None:
    put(home, "a.jsonl", LINES[0])
    land([home.inbox], home, log=lambda _: None)
    put(home, "b.jsonl", b"\n".join(LINES))
    kill = """
import signal
def hook(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith(".json"):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
"""
    start(kill + LAND, home).communicate()
    assert read_folder(home.landing("demonstration")).num_rows == 6
    with only_committed(home):
        other = start(LAND, home)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=3)
        assert read_folder(home.landing("demonstration")).num_rows == 1
        assert read_folder(home.landing("comparison")).num_rows == 0
        assert read_folder(home.quarantine).num_rows == 0
    assert other.communicate()[0].strip() == "1"
    assert read_folder(home.landing("demonstration")).num_rows == 6


def test_two_landings_at_once_land_every_file_once(home: Layout) -> None:
    for number in range(12):
        put(home, f"{number}.jsonl", LINES[0] + b"\n" * number)
    both = [start(LAND, home) for _ in range(2)]
    assert sum(int(process.communicate()[0]) for process in both) == 12
    assert [batch.number for batch in read_batches(home)] == list(range(1, 13))
    assert sum(batch.rows for batch in read_batches(home)) == 12
    assert landing_counts(home)["demonstration"] == 1  # one event, in twelve files
    assert read_folder(home.landing("demonstration")).num_rows == 12


def test_a_full_disk_stops_landing_with_nothing_of_the_file_and_the_next_one_goes_on(
    home: Layout,
) -> None:
    """The limit on the size of files stands for a full disk: both fail in the middle of a write."""
    land([home.inbox], home)
    put(home, "a.jsonl", LINES[0])
    rows = (
        f'{{"kind":"comparison","prompt":"{os.urandom(40).hex()}","response_a":"a",'
        f'"response_b":"b","choice":"a"}}\n'
        for _ in range(3000)
    )
    put(home, "b.jsonl", "".join(rows).encode() + b"\n".join(LINES))
    limit = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, {resource.RLIM_INFINITY}))
"""
    full = start(limit + LAND, home)
    told = full.communicate()[1]
    assert "LakeError" in told and "free some space" in told
    assert [batch.file for batch in read_batches(home)] == ["a.jsonl"] and leftovers(home) == []
    assert read_folder(home.landing("demonstration")).num_rows == 1
    assert read_folder(home.quarantine).num_rows == 0
    (batch,) = land([home.inbox], home, log=lambda _: None)
    assert batch.rows_by_kind == {"comparison": 3001, "demonstration": 5}


def test_a_home_that_is_a_file_is_told_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("")
    process = start(LAND, Layout(tmp_path / "var"))
    assert "IngestError" in (told := process.communicate()[1]) and "land again" in told


def test_a_disk_that_fails_right_after_the_manifest_is_in_place_loses_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, delivered = Layout(tmp_path / "home"), tmp_path / "a.jsonl"
    delivered.write_text('{"kind": "demonstration", "prompt": "p", "response": "r"}\n')

    def fails_on_the_folder(path: Path) -> None:
        if path == layout.batches:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("flywheel.ingest.batch.sync", fails_on_the_folder)
    with pytest.raises(LakeError):
        land([delivered], layout, log=lambda line: None)
    assert read_batches(layout) == []

    monkeypatch.undo()
    (batch,) = land([delivered], layout, log=lambda line: None)
    assert batch.rows == 1 and landing_counts(layout)["demonstration"] == 1
    assert read_folder(layout.landing("demonstration")).num_rows == 1
