"""Files that hold what nobody expects: each is told apart, and none keeps the others out."""

import gzip
import io
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.ingest import (
    BatchManifest,
    blocks,
    intake,
    land,
    quarantine_reasons,
    unaccounted,
)
from flywheel.ingest.drafts import drafts_of
from flywheel.lake import read_folder
from flywheel.layout import Layout
from flywheel.privacy import Tombstones
from flywheel.quality import judge

GOOD = {"kind": "demonstration", "prompt": "p", "response": "r"}
SILENT = [{"role": "assistant", "content": ""}]


def landed(folder: Path, **options: Any) -> tuple[list[BatchManifest], Layout]:
    layout = Layout(folder / "home")
    paths = sorted(path for path in folder.iterdir() if path.is_file())  # named: no waiting
    return land(paths, layout, **{"log": lambda _: None, **options}), layout


def write(path: Path, *rows: Any) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


# ---- nothing said -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "q", "answer": ""}, "response_says_something"),
        ({"prompt": "p", "completion": ""}, "response_says_something"),
        ({"prompt": "p", "completion": "", "label": True}, "response_says_something"),
        ({"prompt": "p", "chosen": "", "rejected": "b"}, "response_a_says_something"),
        ({"prompt": "p", "chosen": "a", "rejected": ""}, "response_b_says_something"),
        ({**GOOD, "response": ""}, "invalid_record"),
        ({**GOOD, "response": SILENT}, "response_says_something"),
        (
            {**GOOD, "kind": "critique", "critique": "c", "corrected_response": SILENT},
            "corrected_response_says_something",
        ),
        (
            {**GOOD, "kind": "interaction", "edited_response": SILENT},
            "edited_response_says_something",
        ),
        (
            {"kind": "ranking", "prompt": "p", "responses": ["a", SILENT], "ranks": [1, 2]},
            "responses_say_something",
        ),
    ],
)
def test_an_empty_response_of_any_kind_is_quarantined_and_never_a_null(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    write(tmp_path / "x.jsonl", row)
    (batch,), layout = landed(tmp_path, judge=judge, quarantine_limit=1)
    assert (batch.rows, batch.quarantined) == (0, 1)
    assert quarantine_reasons(layout) == {reason: 1}
    for kind in ("demonstration", "comparison", "ranking", "critique", "interaction"):
        assert read_folder(layout.landing(kind)).num_rows == 0


# ---- files that break a reader ----------------------------------------------------------------


def too_late() -> pa.Array:
    return pa.array([0, 2**40], pa.timestamp("s"))


def no_such_day() -> pa.Array:
    return pa.array([0, 2**30], pa.int32()).cast(pa.date32())


def too_long() -> pa.Array:
    return pa.array([0, 2**62], pa.duration("s"))


def twice_named() -> pa.Array:
    ones = pa.array([1, 2])
    return pa.StructArray.from_arrays([ones, ones], names=["a", "a"])


@pytest.mark.parametrize("column", [too_late, no_such_day, too_long, twice_named])
def test_a_parquet_file_of_values_that_python_cannot_hold_is_blocked_and_the_others_land(
    tmp_path: Path, column: Callable[[], pa.Array]
) -> None:
    pq.write_table(pa.table({"x": column()}), tmp_path / "a.parquet")
    write(tmp_path / "b.jsonl", GOOD)
    (bad, good), layout = landed(tmp_path)
    assert bad.blocked and "Error" in bad.blocked_because and "first 0 lines" in bad.why
    assert quarantine_reasons(layout) == {"unreadable_file": 1}
    assert good.rows_by_kind == {"demonstration": 1}


FEW = json.dumps(GOOD | {"response": "r" * 150}).encode()


@pytest.mark.parametrize("reader", ["flywheel", "raw"])
@pytest.mark.parametrize("line", [b"bad " * 40, b"", b"[1]", FEW])
def test_what_is_held_of_a_file_has_a_bound_whether_or_not_it_yields_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: bytes, reader: str
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(intake, "HELD_BYTES", 2**19)
    facts = {"batch_id": "b", "file": "f", "source": "s", "landed_at": datetime(2026, 1, 1)}
    layout = Layout(tmp_path)
    with drafts_of(layout, "s", "b", Tombstones(layout), "none") as drafts:
        taken = intake.Intake(facts, str, None, drafts, None, reader)
        most = 0
        for block in blocks.lines_of(io.BytesIO((line + b"\n") * 20_000)):
            taken.take(block)
            most = max(most, taken.held)
        assert most < 2**19
        taken.flush()
        assert taken.held == 0
        assert taken.lines == taken.rows + taken.quarantined + taken.blanks == 20_000
        assert sum(drafts.rows.values()) == taken.rows == (20_000 if line is FEW else 0)
        drafts.discard()
        assert drafts.rows == {}


@pytest.mark.parametrize("kind", [["rating"], {"a": 1}, 7, None])
def test_a_kind_that_is_no_word_is_the_trouble_of_its_own_file(tmp_path: Path, kind: Any) -> None:
    write(tmp_path / "a.jsonl", {"kind": kind, "prompt": "p"})
    write(tmp_path / "b.jsonl", GOOD, GOOD, GOOD, GOOD, GOOD, {**GOOD, "kind": kind})
    (raw, most), _ = landed(tmp_path)
    assert raw.rows_by_kind == {"raw": 1}
    assert (most.rows, most.quarantined, most.blocked) == (5, 1, False)


@pytest.mark.parametrize("raw", [False, True])
def test_a_file_that_is_torn_after_rows_of_it_were_written_is_blocked_and_the_others_land(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bool
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 4096)
    monkeypatch.setattr(intake, "JUDGED_ROWS", 50)
    row = {"a": "x" * 400} if raw else GOOD | {"response": "x" * 400}  # a MiB is unpacked at a time
    whole = b"".join(
        b"bad\n" + json.dumps(row | {"id": str(n)}).encode() + b"\n" for n in range(5000)
    )
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(whole)[:-1000])
    write(tmp_path / "z.jsonl", GOOD)
    (torn, good), layout = landed(tmp_path, quarantine_limit=1)
    assert (torn.blocked, torn.lines, torn.rows, torn.quarantined) == (True, 1, 0, 1)
    assert torn.rows_by_kind == torn.new_rows_by_kind == {}
    assert (good.blocked, good.rows_by_kind) == (False, {"demonstration": 1})
    assert quarantine_reasons(layout) == {"unreadable_file": 1}
    assert unaccounted(layout) == []
    assert not list(layout.lake.rglob(".*.draft"))


def test_an_error_of_the_judge_blocks_its_file_and_one_of_memory_stops_the_landing(
    tmp_path: Path,
) -> None:
    write(tmp_path / "a.jsonl", {**GOOD, "prompt": "odd"})
    write(tmp_path / "b.jsonl", GOOD)

    def odd(kind: str, table: pa.Table) -> list[Any]:
        if table["prompt_text"][0].as_py() == "odd":
            raise IndexError("no such row")
        return []

    def exhausted(kind: str, table: pa.Table) -> list[Any]:
        raise MemoryError

    with pytest.raises(MemoryError):
        landed(tmp_path, judge=exhausted)
    (bad, good), _ = landed(tmp_path, judge=odd)
    assert bad.blocked and "IndexError: no such row; behind the first 1 lines" in bad.why
    assert good.rows == 1


@pytest.mark.parametrize("end", [b"", b'z,6" wide\n', b'z,"end"\n'])
def test_a_stray_quote_in_a_csv_blocks_it_and_names_the_line(tmp_path: Path, end: bytes) -> None:
    rows = [b"question,answer\n", *[b"q,a\n"] * 10, b'q,"oops\n', *[b"q,a\n"] * 500, end]
    (tmp_path / "x.csv").write_bytes(b"".join(rows))
    (batch,), _ = landed(tmp_path)
    assert batch.blocked and "in line 12 opens" in batch.blocked_because
    assert f"the {500 + bool(end)} lines below it" in batch.blocked_because


def test_a_row_of_csv_that_is_broken_in_itself_is_quarantined_alone(tmp_path: Path) -> None:
    rows = [b"question,answer\n", *[b"q,a\n"] * 10, b'q,"oo"ps\n', *[b'q,"a\n1"\n'] * 5]
    (tmp_path / "x.csv").write_bytes(b"".join(rows))
    (batch,), _ = landed(tmp_path)
    assert (batch.rows, batch.quarantined, batch.blocked) == (15, 1, False)


# ---- values and names -------------------------------------------------------------------------


def test_only_csv_may_write_a_number_as_text_and_it_must_be_finite(tmp_path: Path) -> None:
    names = ["kind", "prompt", "response", "criterion", "score", "weight"]
    rows = [["rubric_score", "p", "r", "c", "1", weight] for weight in ("2", "inf", "nan", "1e999")]
    write(tmp_path / "a.jsonl", *(dict(zip(names, row, strict=True)) for row in rows))
    (tmp_path / "b.csv").write_text("".join(",".join(row) + "\n" for row in [names, *rows]))
    (strict, lenient), layout = landed(tmp_path, quarantine_limit=1)
    assert (strict.rows, lenient.rows) == (0, 1)
    assert read_folder(layout.landing("rubric_score"))["weight"].to_pylist() == [2.0]
    assert quarantine_reasons(layout) == {"invalid_record": 7}


@pytest.mark.parametrize(("folder", "source"), [(".hid", "hid"), ("_x_", "x_"), ("__", "unnamed")])
def test_a_folder_cannot_hide_its_rows_in_the_lake(
    tmp_path: Path, folder: str, source: str
) -> None:
    (tmp_path / folder).mkdir()
    write(tmp_path / folder / "x.jsonl", {"a": 1})
    layout = Layout(tmp_path / "home")
    (batch,) = land([tmp_path / folder / "x.jsonl"], layout, log=lambda _: None)
    assert batch.source == source and read_folder(layout.raw(source)).num_rows == 1
