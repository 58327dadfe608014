"""Random defects in every format: whatever a line holds, it is a row, quarantined or blank."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flywheel.errors import IngestError
from flywheel.ingest import land
from flywheel.ingest.formats import FORMATS, recognise
from flywheel.ingest.unit import BLANK, BOM
from flywheel.lake import read_folder
from flywheel.layout import Layout
from flywheel.quality import judge
from flywheel.records import KINDS
from flywheel.records.message import load
from tests.format_samples import SAMPLES
from tests.mutations import mutated

FEW = 300  # lines of each format in a normal run
MANY = 1_000_000  # over all formats together
A_FILE = 10_000  # lines of one file among the many
PLACE = ("line_no", "byte_offset", "metadata")
CONVERSATIONS = ("prompt", "response", "response_a", "response_b", "steps")
CONVERSATIONS += ("corrected_response", "edited_response")
STRANGERS = 0.05  # of lines are of another format


def lines_of(format: str, count: int, seed: int) -> list[bytes]:
    """Mutated lines of a format; a few of any other."""
    rng = random.Random(f"{format} {seed}")
    others = [rows for name, rows in SAMPLES.items() if name != format]
    return [
        mutated(rng, rng.choice(others) if rng.random() < STRANGERS else SAMPLES[format])
        for _ in range(count)
    ]


def check_landing(home: Path, format: str, lines: list[bytes], judged: bool) -> Counter[str]:
    """Land the lines as one file and hold it to every promise; returns reasons and rows."""
    layout = Layout(home)
    path = home.with_suffix(".jsonl")
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    options: Any = {"quarantine_limit": 1.0, "log": lambda _: None, "source": "fuzz"}
    options |= {"judge": judge if judged else None}
    (batch,) = land([path], layout, format=format, **options)
    assert not batch.blocked, batch.why
    assert batch.lines == len(lines) == batch.rows + batch.quarantined + batch.blanks
    blank = {
        number
        for number, line in enumerate(lines, start=1)
        if not (line.removeprefix(BOM) if number == 1 else line).strip(BLANK)
    }
    assert batch.blanks == len(blank)

    content = path.read_bytes()
    refused = read_folder(layout.quarantine).to_pylist()
    assert len(refused) == batch.quarantined
    for row in refused:
        place = slice(row["byte_offset"], row["byte_offset"] + row["byte_length"])
        assert row["raw"] == content[place] == lines[row["line_no"] - 1]
        assert row["reason"] and row["reason_kind"]
    out = {row["line_no"] for row in refused}
    assert len(out) == len(refused) and not out & blank
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    landed: set[int] = set()
    for kind in batch.rows_by_kind:
        table = read_folder(layout.landing(kind))
        assert table.num_rows == batch.rows_by_kind[kind] and kind in KINDS
        columns = [name for name in (*CONVERSATIONS, *PLACE) if name in table.column_names]
        for row in table.select(columns).to_pylist():
            assert row["byte_offset"] == starts[row["line_no"] - 1]
            assert isinstance(json.loads(row["metadata"]), dict)
            assert all(
                row[name] is None or load(row[name]) for name in columns if name not in PLACE
            )
            landed.add(row["line_no"])
    assert not landed & (out | blank)
    if FORMATS[format].gather is None:  # else a line may be a part of a record of another
        assert landed | out | blank == set(range(1, len(lines) + 1))
    assert land([path], layout, format=format, **options) == []
    return Counter(row["reason_kind"] for row in refused) + Counter({"rows": batch.rows})


def check_recognition(lines: list[bytes]) -> None:
    """No reader is upset by an object of another format."""
    for line in lines:
        try:
            value = msgspec.json.decode(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            try:
                recognise([value])
            except IngestError as error:
                assert "equally well" in str(error)


def test_every_format_has_samples_and_all_of_them_are_read(tmp_path: Path) -> None:
    assert SAMPLES.keys() == FORMATS.keys()
    for name, rows in SAMPLES.items():
        lines = [json.dumps(row).encode() for row in rows]
        found = check_landing(tmp_path / name, name, lines, judged=True)
        assert found == {"rows": len(rows)}, name


@pytest.mark.parametrize("format", FORMATS)
def test_a_mutated_line_is_a_row_or_quarantined_or_blank(format: str, tmp_path: Path) -> None:
    lines = lines_of(format, FEW, seed=0)
    found = check_landing(tmp_path / "home", format, lines, judged=False)
    assert found["rows"] > FEW / 20 and found["invalid_json"] > FEW / 20
    assert found["invalid_record"] + found["unresolved"] > FEW / 20
    check_recognition(lines)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_a_million_mutated_lines_over_all_formats(format: str, tmp_path: Path) -> None:
    left, seed = -(-MANY // len(FORMATS)), 1
    while left > 0:
        lines = lines_of(format, min(A_FILE, left), seed)
        check_landing(tmp_path / f"{seed}", format, lines, judged=True)
        check_recognition(lines[::10])
        left, seed = left - len(lines), seed + 1
