"""Landing: every line accounted for, a file once, and nothing half done."""

import csv
import gzip
import json
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.errors import IngestError, LakeError, SettingsError
from flywheel.ingest import (
    BatchManifest,
    land,
    landing_counts,
    latest_batch_number,
    pending_files,
    quarantine_reasons,
    read_batches,
)
from flywheel.lake import read_folder
from flywheel.layout import Layout
from flywheel.quality import judge
from tests.older_home import make_older

GOOD = b'{"kind":"demonstration","prompt":"p","response":"r"}'


@pytest.fixture
def home(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "var")
    layout.inbox.mkdir(parents=True)
    return layout


def put(layout: Layout, name: str, content: bytes) -> Path:
    path = layout.inbox / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    age(path)
    return path


def age(path: Path, seconds: float = 120) -> None:
    """Make a file's last change so old that nobody can be writing it."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def land_all(layout: Layout, **options: Any) -> list[BatchManifest]:
    batches = land([layout.inbox], layout, **{"log": lambda _: None, **options})
    for one in batches:
        assert one.lines == one.rows + one.quarantined + one.blanks
    return batches


def one(layout: Layout, name: str, content: bytes, **options: Any) -> BatchManifest:
    put(layout, name, content)
    (batch,) = land_all(layout, **options)
    return batch


def counts(batch: BatchManifest) -> tuple[int, int, int, int]:
    return batch.lines, batch.rows, batch.quarantined, batch.blanks


def quarantined(layout: Layout) -> list[dict[str, Any]]:
    return list(read_folder(layout.quarantine).to_pylist())


# ---- lines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a/x.jsonl", "a/x.jsonl.gz"])
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"kind":"demonstration","prompt":"\xff\xfe","response":"r"}', "invalid_utf8"),
        (b'{"kind":"rating","prompt":"p","rating":NaN}', "invalid_json"),
        (b'{"a":1e999}', "invalid_json"),
        (b'{"a":' + b"1" * 5000 + b"}", "invalid_json"),
        (rb'{"kind":"demonstration","prompt":"\ud800","response":"r"}', "invalid_json"),
        (b'{"kind":"demonstration","prompt":"p","prompt":"q","response":"r"}', "duplicate_key"),
        (b'{"a":"\\":","b":{"c":1,"\\u0063":2}}', "duplicate_key"),
        (b'{"":1,"":2}', "duplicate_key"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"a":' * 3000 + b"1" + b"}" * 3000, None),
        (b"[1]", "not_an_object"),
        (b"null", "not_an_object"),
        (b'{"kind":"demonstration"', "invalid_json"),
        (GOOD + GOOD, "invalid_json"),
        (b'{"kind":"nothing","prompt":"p"}', "invalid_record"),
        (b'{"kind":"demonstration","prompt":"","response":"r"}', "invalid_record"),
        (b'{"kind":"demonstration","prompt":"p","response":"r","x":1}', "invalid_record"),
        (b'{"kind":"ranking","prompt":"p","responses":["a","b"],"ranks":[1]}', "invalid_record"),
        (
            b'{"kind":"ranking","prompt":"p","responses":["a","b"],"ranks":[1,99999999999]}',
            "invalid_record",
        ),
        (
            b'{"kind":"trajectory","prompt":"p","steps":[{"role":"user"}],"outcome":"passed",'
            b'"trial":' + b"9" * 30 + b"}",
            "invalid_record",
        ),
    ],
)
def test_a_bad_line_goes_to_quarantine_and_its_neighbours_land(
    home: Layout, name: str, line: bytes, reason: str | None
) -> None:
    batch = one(home, name, b"\n".join([GOOD] * 5 + [line] + [GOOD] * 4 + [b""]))
    assert counts(batch) == (10, 9, 1, 0) and not batch.blocked
    (found,) = quarantined(home)
    assert reason in (None, found["reason_kind"])
    assert (found["raw"], found["line_no"]) == (line, 6)
    assert found["byte_offset"] == 5 * (len(GOOD) + 1) and found["byte_length"] == len(line)
    lines = read_folder(home.landing("demonstration"))["line_no"].to_pylist()
    assert lines == [1, 2, 3, 4, 5, 7, 8, 9, 10]


def test_a_line_of_fifty_megabytes_is_kept_aside_whole(home: Layout) -> None:
    long = b'{"kind":"demonstration","prompt":"' + b"x" * 50_000_000 + b'","response":"r"}\n'
    batch = one(home, "x.jsonl", (GOOD + b"\n") * 3 + long + GOOD + b"\n" + b" \t\r\n")
    assert counts(batch) == (6, 4, 1, 1) and not batch.blocked
    (found,) = quarantined(home)
    assert found["reason_kind"] == "line_too_long" and found["byte_length"] == len(long)
    assert found["raw"] == long
    last = read_folder(home.landing("demonstration"))["byte_offset"].to_pylist()[-1]
    assert last == 3 * (len(GOOD) + 1) + len(long)


def test_marks_line_ends_and_blanks_are_no_content(home: Layout) -> None:
    batch = one(home, "x.jsonl", b"\xef\xbb\xbf" + GOOD + b"\r\n\r\n\n   \n" + GOOD)
    assert counts(batch) == (5, 2, 0, 3)


def test_an_array_and_an_object_over_many_lines_are_read(home: Layout) -> None:
    many = one(home, "a.json", b"\xef\xbb\xbf [\n" + GOOD + b",\n 5,\n" + GOOD + b"]\n")
    assert counts(many) == (3, 2, 1, 0) and many.blocked
    assert quarantined(home)[0]["raw"] == b"5"
    (home.inbox / "a.json").unlink()
    single = one(home, "b.json", json.dumps(json.loads(GOOD), indent=2).encode())
    assert counts(single) == (1, 1, 0, 0)
    torn = one(home, "c.json", b"[" + GOOD)
    assert counts(torn) == (1, 0, 1, 0) and torn.blocked


# ---- tables -----------------------------------------------------------------------------------


def test_csv_with_a_mark_quotes_and_bad_rows_is_counted_row_by_row(home: Layout) -> None:
    rows = [
        b"\xef\xbb\xbfkind,prompt,response\r\n",
        b'demonstration,"p\n1",r\r\n',
        b"demonstration,p\r\n",
        b"\r\n",
        b"demonstration,\xff,r\r\n",
        b'demonstration,p "x",r\r\n',
        b'demonstration,"p"x,r\r\n',
        b"demonstration,p,r",
    ]
    batch = one(home, "x.csv", b"".join(rows), quarantine_limit=0.5)
    assert counts(batch) == (7, 3, 3, 1)
    found = {one["reason_kind"]: one for one in quarantined(home)}
    assert set(found) == {"wrong_field_count", "invalid_utf8", "invalid_csv"}
    assert found["invalid_utf8"]["byte_offset"] == sum(map(len, rows[:4]))
    assert found["invalid_utf8"]["line_no"] == 6  # the first row took two lines
    table = read_folder(home.landing("demonstration"))
    assert table["prompt_text"].to_pylist() == ["p\n1", 'p "x"', "p"]


@pytest.mark.parametrize(
    "content",
    [
        b"a,a\n1,2\n",
        b"a,\xff\n1,2\n",
        b'a,"b\n1,2\n',
        b'a,"b"c\n1,2\n',
        b"w7abbfd759d,23,0,1\nw48e32eca48,24,1,0\n",  # shared/data/crowd_labels
        b"what is it?,2025-03-01T10:00Z\nwhy?,2025-03-02T10:00Z\n",
        b"refund,-1.5e3\norder,2\n",
        b",question,answer\n0,q,a\n",
        b"q," + b"long " * 50 + b"\nq2,a\n",
        b"\ndemonstration,how?,so\n\ndemonstration,why?,because\n",
    ],
)
def test_a_csv_whose_first_line_names_no_columns_is_blocked_and_says_what_to_do(
    home: Layout, content: bytes
) -> None:
    batch = one(home, "x.csv", content, quarantine_limit=1)
    assert counts(batch) == (1, 0, 1, 0) and batch.blocked
    (found,) = quarantined(home)
    assert found["reason_kind"] == "unreadable_file"
    assert "the first line must name the columns" in found["reason"]
    assert "write such a line" in batch.blocked_because


@pytest.mark.parametrize("name", ["rating 1-5", "Q3", "2nd answer", "e", "#", "prompt/text"])
def test_a_name_with_a_digit_or_a_sign_is_a_name(home: Layout, name: str) -> None:
    assert one(home, "x.csv", f"id,{name}\n1,2\n".encode()).rows == 1


def test_a_field_of_a_megabyte_and_a_tab_separated_file_land(home: Layout) -> None:
    batch = one(home, "s/x.tsv", b'id\ttext\n1\t"' + b"x" * 2**20 + b"\n")
    assert batch.rows_by_kind == {"raw": 1}
    record = json.loads(read_folder(home.raw("s"))["record"][0].as_py())
    assert record == {"id": "1", "text": '"' + "x" * 2**20}


def test_parquet_lands_row_by_row_and_a_number_that_is_none_is_refused(home: Layout) -> None:
    table = pa.table(
        {
            "item": ["a", "b", None],
            "x": [1.5, float("nan"), None],
            "when": pa.array([0, 1, 2], pa.timestamp("s")),
            "raw": [b"\xff", b"", None],
        }
    )
    pq.write_table(table, home.inbox / "x.parquet")
    (batch,) = land_all(home, quarantine_limit=0.5, source="t")
    assert counts(batch) == (3, 2, 1, 0)
    records = read_folder(home.raw("t"))["record"].to_pylist()
    assert [json.loads(record).get("x") for record in records] == [1.5, None]
    assert read_folder(home.raw("t"))["line_no"].to_pylist() == [1, 3]


# ---- files ------------------------------------------------------------------------------------


def torn_parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1]}), sink)
    return bytes(sink.getvalue().to_pybytes()[:-6])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl.gz", gzip.compress((GOOD + b"\n") * 5000, mtime=0)[:-30]),
        ("x.jsonl.gz", gzip.compress(GOOD, mtime=0)[:-8] + b"\0" * 8),
        ("x.jsonl.gz", GOOD),
        ("x.jsonl.gz", gzip.compress(GOOD, mtime=0)[:5]),
        ("x.parquet", torn_parquet()),
        ("x.parquet", b""),
        ("x.csv.gz", gzip.compress(b"a,b\n1,2\n" * 5000, mtime=0)[:-30]),
        ("x.json", b"[" + GOOD),
    ],
)
def test_a_torn_file_lands_nothing_and_says_so(home: Layout, name: str, content: bytes) -> None:
    (home.inbox / name).write_bytes(content)
    age(home.inbox / name)
    (batch,) = land_all(home, quarantine_limit=1)
    assert counts(batch) == (1, 0, 1, 0) and batch.blocked
    assert batch.blocked_because.startswith("it could not be read: ")
    assert quarantine_reasons(home) == {"unreadable_file": 1}
    assert landing_counts(home)["demonstration"] == 0
    assert land_all(home, quarantine_limit=1) == [batch]  # it is looked at again


def test_an_empty_file_is_a_batch_of_nothing(home: Layout) -> None:
    batch = one(home, "x.jsonl", b"")
    assert counts(batch) == (0, 0, 0, 0) and not batch.blocked
    assert counts(one(home, "y.csv", b"a,b\n")) == (0, 0, 0, 0)
    assert not land_all(home) and not pending_files(home)


def test_folders_drafts_loops_and_other_files_are_left_alone(home: Layout) -> None:
    put(home, "desk/deep/er/x.jsonl", GOOD)
    for name in (".hidden.jsonl", "x.jsonl.part", "y.tmp", "LICENSE", "desk/.git/y.jsonl"):
        put(home, name, GOOD + b" " * len(name))
    (home.inbox / "folder.jsonl").mkdir()
    (home.inbox / "desk" / "loop").symlink_to(home.inbox)
    (home.inbox / "self.jsonl").symlink_to("self.jsonl")
    (home.inbox / "gone.jsonl").symlink_to("nowhere")
    (home.inbox / "again.jsonl").symlink_to(home.inbox / "desk/deep/er/x.jsonl")
    os.mkfifo(home.inbox / "pipe.jsonl")
    told: list[str] = []
    (batch,) = land_all(home, log=told.append)
    assert batch.file in ("desk/deep/er/x.jsonl", "again.jsonl")
    assert any("LICENSE is left alone: its name does not end like data" in line for line in told)


def test_a_file_that_is_named_is_taken_whatever_its_name(home: Layout, tmp_path: Path) -> None:
    path = tmp_path / "exports" / "feedback.txt"
    path.parent.mkdir()
    path.write_bytes(GOOD)
    (batch,) = land([path], home, log=lambda _: None)
    assert (batch.source, batch.file) == ("exports", str(path))


def test_a_file_being_written_is_left_until_it_holds_still(home: Layout) -> None:
    path, stop = home.inbox / "x.jsonl", threading.Event()

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            while not stop.is_set():
                file.write(GOOD + b"\n")
                time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    told: list[str] = []
    try:
        while not path.exists():
            time.sleep(0.01)
        assert land_all(home, log=told.append) == [] and pending_files(home) == []
    finally:
        stop.set()
        writer.join()
    assert "still being written" in told[0]
    assert pending_files(home) == [path]
    (batch,) = land_all(home)
    assert batch.rows == path.read_bytes().count(b"\n")


@pytest.mark.parametrize(
    ("name", "half", "rest"),
    [
        ("x.jsonl", GOOD + b"\n" + GOOD[:30], GOOD[30:]),
        ("x.json", b"[" + GOOD + b"," + GOOD[:30], GOOD[30:] + b"]"),
        ("x.csv", b"kind,prompt,response\ndemonstration,p,r\ndemonstration,p,long ans", b"wer\n"),
    ],
)
def test_a_file_that_ends_inside_a_line_waits_for_its_writer_a_minute(
    home: Layout, name: str, half: bytes, rest: bytes
) -> None:
    path = put(home, name, half)
    age(path, 50)  # the writer pauses
    told: list[str] = []
    assert land_all(home, log=told.append) == [] and pending_files(home) == []
    assert "ends inside a line" in told[0]
    with path.open("ab") as file:
        file.write(rest)
    age(path, 50)
    (batch,) = land_all(home)
    assert (batch.rows, batch.quarantined) == (2, 0)


def test_a_line_that_is_never_ended_lands_in_quarantine_in_the_end(home: Layout) -> None:
    path = put(home, "x.jsonl", b"\n".join([GOOD] * 9 + [GOOD[:30]]))
    age(path, 50)
    assert land_all(home) == []
    age(path, 70)
    (batch,) = land_all(home)
    assert counts(batch) == (10, 9, 1, 0) and quarantined(home)[0]["line_no"] == 10


def test_what_happens_by_itself_waits_longer_and_a_file_that_is_named_does_not(
    home: Layout,
) -> None:
    path = put(home, "x.jsonl", GOOD + b"\n")
    age(path, 20)
    assert pending_files(home, quiet_seconds=30) == [] and pending_files(home) == [path]
    assert land_all(home, quiet_seconds=30) == []
    tomorrow = put(home, "y.jsonl", GOOD + b"\n\n")
    age(tomorrow, -90_000)  # a clock that is wrong holds no file up
    assert pending_files(home, quiet_seconds=30) == [tomorrow]
    path.write_bytes(b"\n".join([GOOD] * 9 + [GOOD[:30]]))
    (batch,) = land([path], home, quiet_seconds=30, log=lambda _: None)
    assert counts(batch) == (10, 9, 1, 0)


def test_a_file_that_grew_lands_anew_and_its_earlier_rows_are_the_same_events(
    home: Layout,
) -> None:
    path = put(home, "x.jsonl", (GOOD + b"\n") * 3)
    land_all(home)
    with path.open("ab") as file:
        file.write((GOOD + b"\n") * 2)
    age(path, 100)
    land_all(home)
    table = read_folder(home.landing("demonstration"))
    assert table.num_rows == 8 and len(set(table["content_sha256"].to_pylist())) == 5


def test_a_file_lands_once_under_any_name(home: Layout) -> None:
    path = put(home, "a/x.jsonl", GOOD)
    put(home, "b/copy.jsonl", GOOD)
    assert len(land_all(home)) == 1
    path.rename(home.inbox / "renamed.jsonl")
    assert land_all(home) == [] and pending_files(home) == []
    assert landing_counts(home)["demonstration"] == 1
    put(home, "renamed.jsonl", GOOD + b"\n" + GOOD)
    assert [batch.number for batch in land_all(home)] == [2]
    assert latest_batch_number(home) == 2


def test_a_file_is_known_by_the_blake3_of_what_it_holds(home: Layout) -> None:
    content = GOOD * 5_000  # more than is read at once
    batch = one(home, "x.jsonl", content)
    assert batch.file_hash == blake3(content).hexdigest() and batch.contents == {batch.file_hash}
    assert batch.batch_id == f"b000001-{batch.file_hash[-12:]}"


def test_what_an_older_release_landed_is_known_by_its_sha256(home: Layout) -> None:
    bad = GOOD + b"\nbroken\n"
    put(home, "bad.jsonl", bad)
    put(home, "x.jsonl", GOOD)
    land_all(home)
    make_older(home, GOOD, bad)
    put(home, "copy.jsonl", GOOD)
    assert pending_files(home) == [] and [one.number for one in land_all(home)] == [1]  # blocked
    assert {one.file_hash[:7] for one in read_batches(home)} == {"sha256:"}
    content = GOOD.replace(b'"p"', b'"q"')
    other = put(home, "other.jsonl", content)  # of the same size
    assert pending_files(home) == [other]
    passed, new = land_all(home, quarantine_limit=0.5)
    assert (passed.file, new.file_hash) == ("bad.jsonl", blake3(content).hexdigest())
    assert pending_files(home) == [] and land_all(home) == []


def test_a_file_name_that_is_no_text_and_a_relative_home_land(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    layout = Layout(Path("var"))
    folder = layout.inbox / os.fsdecode(b"de\xffsk")
    folder.mkdir(parents=True)
    (folder / os.fsdecode(b"\xfe.jsonl")).write_bytes(GOOD)
    (batch,) = land_all(layout)
    assert (batch.source, batch.file) == ("de\ufffdsk", "de\ufffdsk/\ufffd.jsonl")
    assert read_batches(layout) == [batch]


def test_wrong_arguments_are_told_before_anything_happens(home: Layout, tmp_path: Path) -> None:
    for source in ("../x", "", "a/b", ".", "_none"):
        with pytest.raises(SettingsError, match="source"):
            land_all(home, source=source)
    with pytest.raises(SettingsError, match="share"):
        land_all(home, quarantine_limit=20)
    with pytest.raises(SettingsError, match="no format"):
        land_all(home, format="jsonl")
    with pytest.raises(SettingsError, match="none, lz4, zstd, found 'gzip'"):
        land_all(home, compression="gzip")
    with pytest.raises(IngestError, match="is not there"):
        land([tmp_path / "misspelt"], home)
    assert not home.lake.exists()


def test_rows_are_written_as_small_as_is_asked_for(tmp_path: Path) -> None:
    rows = set()
    for name, codec in (("none", "UNCOMPRESSED"), ("lz4", "LZ4"), ("zstd", "ZSTD")):
        layout = Layout(tmp_path / name)
        put(layout, "x.jsonl", (GOOD + b"\n") * 3 + b"broken\n")
        (batch,) = land_all(layout, compression=name, quarantine_limit=1)
        path = layout.landing("demonstration") / f"{batch.batch_id}.parquet"
        column = pq.ParquetFile(path).metadata.row_group(0).column(0)
        assert column.compression == codec
        rows.add(repr(pq.read_table(path, columns=["prompt_text", "record_uid"]).to_pylist()))
    assert len(rows) == 1


# ---- blocked batches --------------------------------------------------------------------------


def test_a_blocked_file_lands_nothing_and_is_judged_until_it_is_repaired(home: Layout) -> None:
    bad = GOOD + b"\n" + b"broken\n" + GOOD
    first = one(home, "x.jsonl", bad)
    assert first.blocked and first.rows_by_kind == {} and latest_batch_number(home) == 0
    assert landing_counts(home)["demonstration"] == 0 and pending_files(home) == []
    put(home, "y.jsonl", GOOD)
    put(home, "z.jsonl", bad)  # a copy is not judged twice
    manifest = home.batches / f"{first.batch_id}.json"
    written = manifest.stat().st_ino
    again, other = land_all(home)
    assert again == first and other.number == 2 and manifest.stat().st_ino == written
    assert len(read_batches(home)) == 2 and len(quarantined(home)) == 1
    (passed,) = land_all(home, quarantine_limit=0.5)
    assert not passed.blocked and passed.number == 3  # newer than all that was trained on
    assert len(quarantined(home)) == 1 and passed.rows == 2
    assert landing_counts(home)["demonstration"] == 2  # one of the two is the event of y
    assert [one.number for one in read_batches(home)] == [2, 3] and land_all(home) == []


def test_a_judged_line_takes_all_its_records_to_quarantine(home: Layout) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}] * 2
    lines = [json.dumps({"messages": turns})] * 4
    lines.append(json.dumps({"messages": [*turns[:3], {"role": "assistant", "content": " "}]}))
    batch = one(home, "x.jsonl", "\n".join(lines).encode(), judge=judge)
    assert counts(batch) == (5, 4, 1, 0) and batch.rows_by_kind == {"demonstration": 8}
    (found,) = quarantined(home)
    assert (found["reason_kind"], found["line_no"]) == ("response_says_something", 5)
    assert found["raw"].decode() == lines[-1] and found["record_uid"]
    failed = {result.name: result.failed for result in batch.expectations if not result.passed}
    assert failed == {"response_says_something": 1}


# ---- who said it ------------------------------------------------------------------------------


def test_an_address_never_reaches_the_lake_and_its_name_differs_between_homes(
    tmp_path: Path,
) -> None:
    names = []
    for number in (1, 2):
        layout = Layout(tmp_path / str(number))
        rows = [
            {"kind": "demonstration", "prompt": "p", "response": f"r{n}", "annotator_id": who}
            for n, who in enumerate(["ann@example.org", " Ann@Example.org", "w17"])
        ]
        put(layout, "x.jsonl", "\n".join(map(json.dumps, rows)).encode())
        land_all(layout)
        first, second, third = read_folder(layout.landing("demonstration"))[
            "annotator_id"
        ].to_pylist()
        assert first == second != third == "w17"
        names.append(first)
        assert (layout.root / "annotators.salt").stat().st_mode & 0o077 == 0
        lake = b"".join(path.read_bytes() for path in layout.lake.rglob("*.parquet"))
        assert b"ann@example.org" not in lake.lower()
    assert names[0] != names[1]


# ---- the property -----------------------------------------------------------------------------

SEEDS = [
    GOOD,
    b'{"kind":"comparison","prompt":"p","response_a":"a","response_b":"b","choice":"a"}',
    b'{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a"}]}',
    b'{"prompt":"p","chosen":"a","rejected":"b"}',
    b'{"task_id":1,"reward":1.0,"info":{},"traj":[{"role":"user"},{"role":"assistant"}]}',
    b'"a","b"',
    b"",
]


@st.composite
def files(draw: st.DrawFn) -> bytes:
    lines = []
    for seed in draw(st.lists(st.sampled_from(SEEDS), max_size=8)):
        line = bytearray(seed)
        for _ in range(draw(st.integers(0, 2))):
            place = draw(st.integers(0, len(line)))
            line[place : place + draw(st.integers(0, 3))] = draw(
                st.sampled_from([b"", b'"', b"{", b"\n", b"\r", b",", b"\xff", b"\0", b"NaN", b"9"])
                | st.binary(max_size=3)
            )
        lines.append(bytes(line))
    return b"\n".join(lines)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=files(), name=st.sampled_from(["x.jsonl", "x.json", "x.csv", "x.jsonl.gz"]))
def test_whatever_a_file_holds_every_line_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    layout = Layout(tmp_path_factory.mktemp("home"))
    path = put(layout, name, content)
    os.utime(path, (0, 0))  # old, so that landing need not wait whether it holds still
    (batch,) = land_all(layout, quarantine_limit=1)
    is_mixed = "match equally well" in batch.why  # refused as a whole, by no fault of a line
    if name.startswith("x.jsonl") and not is_mixed:
        assert batch.lines == content.count(b"\n") + bool(content and content[-1:] != b"\n")
    kept = _rows(layout.lake.glob("landing/*/b*.parquet")) | _rows(layout.lake.glob("raw/*/b*"))
    refused = _rows(layout.quarantine.glob("b*.parquet"))
    assert len(kept) == batch.rows and len(refused) == batch.quarantined
    assert not kept & refused


def _rows(paths: Iterable[Path]) -> set[int]:
    return {number for path in paths for number in pq.read_table(path)["line_no"].to_pylist()}


def test_a_torn_manifest_is_told_with_the_remedy(home: Layout) -> None:
    batch = one(home, "x.jsonl", GOOD)
    (home.batches / f"{batch.batch_id}.json").write_text("{")
    with pytest.raises(LakeError, match="land the file of that batch again"):
        read_batches(home)
    (home.batches / f"{batch.batch_id}.json").unlink()
    assert [again.rows for again in land_all(home)] == [1]
    assert landing_counts(home)["demonstration"] == 1


def test_a_csv_of_the_standard_library_comes_back(home: Layout) -> None:
    rows = [["a", "b"], ['x"y', "1\r\n2"], ["", "z"]]
    with (home.inbox / "x.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    (batch,) = land_all(home, source="t")
    records = [json.loads(record) for record in read_folder(home.raw("t"))["record"].to_pylist()]
    assert batch.rows == 2 and records == [{"a": 'x"y', "b": "1\r\n2"}, {"a": None, "b": "z"}]
