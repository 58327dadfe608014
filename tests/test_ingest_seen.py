"""What of a file is new, told by digests in sorted runs, and drafts that leave nothing behind."""

import hashlib
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.errors import LakeError
from flywheel.ingest import land, read_batches, seen
from flywheel.ingest.runs import Runs
from flywheel.ingest.seen import _events_in as events_in
from flywheel.ingest.seen import digests_of
from flywheel.lake import Draft, write_table
from flywheel.layout import Layout

GOOD = b'{"kind":"demonstration","prompt":"p","response":"r","id":"%d"}\n'


def hashes(names: list[int]) -> pa.ChunkedArray:
    digests = [hashlib.sha256(str(name).encode()).hexdigest() for name in names]
    return pa.chunked_array([digests], pa.string())


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 200), max_size=60), max_size=12))
def test_runs_hold_what_a_set_would(parts: list[list[int]]) -> None:
    runs, known = Runs(), set[int]()
    asked = list(range(220))
    for part in parts:
        runs.add(digests_of(hashes(part)))
        known |= set(part)
        assert runs.holds(digests_of(hashes(asked))).tolist() == [one in known for one in asked]
    sizes = [run.digests.shape[1] for run in runs.runs]
    assert all(size >= 2 * after for size, after in pairwise(sizes))


def test_two_events_whose_digests_begin_alike_are_two() -> None:
    runs = Runs()
    runs.add(np.array([[7, 1], [9, 1]], np.uint64))
    asked = np.array([[7, 1], [7, 2], [8, 1], [10, 1]], np.uint64)
    assert runs.holds(asked).tolist() == [True, False, False, False]


def test_digests_are_the_first_half_of_the_hashes_also_of_a_slice_and_of_chunks() -> None:
    whole = hashes(list(range(9)))
    wanted = [bytes.fromhex(one[:32]) for one in whole.to_pylist()]
    chunked = pa.chunked_array([whole.slice(0, 4).chunk(0), whole.slice(4).chunk(0)])
    for found in (digests_of(whole), digests_of(chunked)):
        assert [row.tobytes() for row in found] == wanted
    assert [row.tobytes() for row in digests_of(whole.slice(3, 2))] == wanted[3:5]
    assert len(digests_of(pa.chunked_array([], pa.string()))) == 0
    with pytest.raises(LakeError, match="64 digits"):
        digests_of(pa.chunked_array([["ab"]], pa.string()))


def test_what_a_batch_brings_is_counted_against_all_batches_before(tmp_path: Path) -> None:
    layout, found = Layout(tmp_path / "var"), []
    for number, ids in enumerate([range(5), range(3, 9), range(9), range(20)]):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(b"".join(GOOD % one for one in ids))
        os.utime(path, (0, 0))
        if number != 2:  # the last two in one landing
            paths = [path] if number < 2 else [tmp_path / "2.jsonl", path]
            found += land(paths, layout, log=lambda _: None)
    assert [one.new_rows_by_kind["demonstration"] for one in found] == [5, 4, 0, 11]


def test_a_landing_reads_the_hashes_of_what_came_since_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, read = Layout(tmp_path / "var"), list[int]()
    monkeypatch.setattr(seen, "_events_in", lambda path: read.append(1) or events_in(path))
    folder = layout.seen_events("demonstration")

    def night(number: int) -> tuple[int, int]:
        """Rows of a night that are new, and files whose hashes it read: half of it came before."""
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(b"".join(GOOD % one for one in range(4 * number, 4 * number + 8)))
        os.utime(path, (0, 0))
        read.clear()
        (batch,) = land([path], layout, log=lambda _: None)
        return batch.new_rows_by_kind["demonstration"], len(read)

    assert [night(number) for number in range(6)] == [(8, 0), *[(4, 1)] * 5]
    assert len(list(folder.iterdir())) < 6, "runs were merged, and old ones are gone"
    landed = sorted(layout.landing("demonstration").glob("b*.parquet"))
    write_table(pq.read_table(landed[0]), landed[0])  # as an erasure does
    new, files = night(6)
    assert new == 4 and 1 < files < 7, "what was made of the file is read again"
    for run in folder.glob("*.npy"):
        run.write_bytes(run.read_bytes()[:-8])
    assert night(7) == (4, 7)
    (folder / "runs.json").write_text('[{"name": 3}]')
    assert night(8) == (4, 8)
    (folder / "runs.json").write_text("[")
    assert night(9) == (4, 9)
    monkeypatch.setattr(seen, "remember", lambda *_: os.stat(tmp_path / "gone"))  # a full disk
    assert night(10) == (4, 1) and night(11) == (4, 2)
    told = [one.new_rows_by_kind["demonstration"] for one in read_batches(layout)]
    assert sum(told) == 12 * 4 + 4


def test_a_file_that_is_blocked_at_its_end_leaves_no_rows_and_no_draft(tmp_path: Path) -> None:
    layout, path = Layout(tmp_path / "var"), tmp_path / "x.jsonl"
    path.write_bytes(b"".join(GOOD % one for one in range(50)) + b"broken\n" * 50)
    os.utime(path, (0, 0))
    (batch,) = land([path], layout, log=lambda _: None)
    assert batch.blocked and batch.rows_by_kind == {} and batch.quarantined == 50
    assert os.listdir(layout.landing("demonstration")) == ["_empty.parquet"]
    assert sorted(os.listdir(layout.quarantine)) == ["_empty.parquet", f"{batch.batch_id}.parquet"]


def test_a_draft_is_seen_whole_or_not_at_all(tmp_path: Path) -> None:
    table = pa.table({"a": [1, 2]})
    draft = Draft(tmp_path / "x.parquet", table.schema)
    draft.add(table)
    draft.add(table)
    assert draft.rows == 4 and not (tmp_path / "x.parquet").exists()
    draft.publish()
    assert os.listdir(tmp_path) == ["x.parquet"]
    other = Draft(tmp_path / "y.parquet", table.schema)
    other.add(table)
    other.discard()
    assert os.listdir(tmp_path) == ["x.parquet"]
