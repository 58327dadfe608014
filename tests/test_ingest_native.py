"""Ordinary lines read in C: the same rows, refusals and counts as without it, to the last bit."""

import ctypes
import hashlib
import json
import math
import os
import shutil
import tempfile
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import msgspec.inspect as types
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from flywheel.ingest import blocks, intake, land, native
from flywheel.ingest.batch import BatchManifest
from flywheel.ingest.blocks import Lines
from flywheel.ingest.columns import pseudonyms
from flywheel.ingest.ordinary import FEW, OrdinaryLines
from flywheel.lake import SCHEMAS, read_folder
from flywheel.layout import Layout
from flywheel.privacy import Policy, Pseudonyms
from flywheel.quality import judge
from flywheel.records import KINDS
from tests.benchmarks.comparisons import SPOIL, comparison_lines
from tests.format_samples import SAMPLES
from tests.mutations import mutated
from tests.test_ingest_blocks import dirty_lines

FACTS = {"batch_id": "b000001-0", "file": "x", "source": "s", "landed_at": datetime(2026, 1, 2)}
pytestmark = pytest.mark.skipif(native.library() is None, reason=native.state())
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # a seed cannot be shrunk

SIGNS = 'ab  .\n\t\\"/é中가🙂ßяあ'  # ordinary
# fmt: off
ODD_SIGNS = [
    "\r\n", "\r", "\x00", "\x0b", "\f", "\b", "\x1f", "\x7f", "\x85", "\xa0", "e\u0301", "\u1161",
    "\u2028", "\ufeff", "\u212b", "\U000e0001", "\ud800", "\u0958",
]
ODD_VALUES: list[Any] = [
    None, "", "x" * 999, "@", "a@b.org", 0, 1, -1, -0.0, 0.5, 1.25e-4, 3.0, 5e-324, 1e15, True,
    123456789012345, 0.1234567890123, 10**16, 2**70, [], {}, [{}], {"a": None}, "2026-01-01",
    "2026-01-01T00:00:00.5Z", "0001-01-01T00:00:00", "2026-02-29T00:00:00Z",
    "2024-02-29T23:59:60Z", "2026-01-01T00:00:00.0000001Z", "2026-01-01T00:00:00+02:00",
    "2024-02-29T23:59:59.000120",
]
OBJECTS: list[Any] = [
    {}, {"b": 1, "a": "\u00e9\"", "aa": True, "é": False}, {"": -7, "\t": ""}, {"tools": []},
    {"a": 0.5}, {"a": [1]}, {"n": 10**15}, {"a": None},
]
# fmt: on
CHOICES = {"choice": ["a", "b", "tie"], "annotator_kind": ["person", "model"], "thumbs": ["up"]}
NUMBERS = ["seconds", "cost_usd", "rating", "rating_min", "rating_max", "score", "weight"]


def text(draw: Random) -> str:
    """A few words, or one of few."""
    if draw.random() < 0.3:
        return draw.choice(["p", "Is it?", "opening x", '{"a":1}'])
    signs = [draw.choice(SIGNS) for _ in range(draw.choice([1, 3, 9, 40]))]
    if draw.random() < 0.1:
        signs.insert(draw.randrange(len(signs)), draw.choice(ODD_SIGNS))
    return "".join(signs)


def value_of(name: str, draw: Random) -> Any:
    """A value that a field may have, and now and then one that it may not."""
    if draw.random() < 0.03:
        return draw.choice(ODD_VALUES)
    if name in CHOICES:
        return draw.choice(CHOICES[name])
    if name in NUMBERS:
        return draw.choice([0, 1, 0.5, 0.25, round(draw.random() * 10 ** draw.randrange(9), 3)])
    if name == "occurred_at":
        moment = datetime.fromtimestamp(draw.uniform(-5e10, 5e9), UTC).replace(tzinfo=None)
        moment = moment.replace(microsecond=draw.choice([0, 0, moment.microsecond]))
        return moment.isoformat() + draw.choice(["", "Z"])
    return draw.choice(OBJECTS) if name == "metadata" else text(draw)


def some_line(draw: Random) -> bytes:
    """A record of some kind, ordinary more often than not, in one of the ways to write it."""
    kind = draw.choice([*native.ordinary_kinds(), "ranking"])
    fields = KINDS[kind].__struct_fields__
    value: dict[str, Any] = {"kind": kind, "annotator_id": draw.choice(["p1", "p2"])}
    if kind == "rating":
        value |= {"rating_min": 0, "rating_max": 10**9}
    for one in types.type_info(KINDS[kind]).fields:  # type: ignore[attr-defined]
        if one.name not in value and (one.required or draw.random() < 0.2):
            value[one.name] = value_of(one.name, draw)
    if draw.random() < 0.05:
        value[draw.choice(["colour", *fields])] = value_of("prompt", draw)
    if draw.random() < 0.05:
        del value[draw.choice(list(value))]
    names = list(value)
    draw.shuffle(names)
    spaces = draw.choice([(",", ":"), (",", ":"), (", ", ": "), (" ,\t", "\r: ")])
    plain = draw.random() < 0.5
    line = json.dumps({name: value[name] for name in names}, ensure_ascii=plain, separators=spaces)
    return line.encode("utf-8", "surrogatepass") + draw.choice([b"", b"", b" ", b"\r"])


def landed(path: Path, home: Path, **options: Any) -> tuple[dict[str, Any], BatchManifest]:
    """Every table of a landing with its schema, without the moment at which it landed."""
    layout = Layout(home)
    told: Any = {"format": "flywheel", "quarantine_limit": 1.0, "log": lambda _: None} | options
    (batch,) = land([path], layout, source="s", **told)
    tables = {kind: read_folder(layout.landing(kind)) for kind in SCHEMAS}
    assert all(table.schema.equals(SCHEMAS[kind]) for kind, table in tables.items())
    kept = {kind: table.drop_columns(["landed_at"]) for kind, table in tables.items()}
    kept["quarantine"] = read_folder(layout.quarantine).drop_columns(["seen_at"])
    kept["quarantine"] = kept["quarantine"].sort_by("line_no")  # lies in blocks
    for table in kept.values():
        table.validate(full=True)  # Parquet holds any bytes, and texts must be UTF-8
    return kept, batch


def differences(one: pa.Table, other: pa.Table) -> list[Any]:
    """Rows that are not in both."""
    ours, theirs = one.to_pylist(), other.to_pylist()
    return [row for row in ours if row not in theirs] + [row for row in theirs if row not in ours]


def assert_lands_as_without_the_kernel(lines: bytes, **options: Any) -> None:
    """Land the lines both ways, in blocks of a few lines and as a whole."""
    with tempfile.TemporaryDirectory() as at, pytest.MonkeyPatch.context() as changed:
        folder = Path(at)
        path = folder / "x.jsonl"
        path.write_bytes(lines)
        os.utime(path, (0, 0))
        home = Layout(folder / "keys")  # what makes pseudonyms: the same in every home
        pseudonyms(home.root)
        Pseudonyms(home)
        for name in "bcd":
            shutil.copytree(home.root, folder / name)
        whole, batch = landed(path, folder / "b", **options)
        for place, size in (("c", blocks.BLOCK_BYTES), ("d", 4_000)):
            changed.setattr(blocks, "BLOCK_BYTES", size)
            changed.setattr(intake, "JUDGED_ROWS", 50_000 if size > 4_000 else 90)
            if place == "c":
                changed.setattr(intake, "library", lambda: None)
            else:
                changed.setattr(intake, "library", native.library)
            found, other = landed(path, folder / place, **options)
            for kind, table in whole.items():
                assert table.equals(found[kind]), (kind, differences(table, found[kind]))
            for fact in ("lines", "rows", "quarantined", "blanks", "rows_by_kind", "personal_data"):
                assert getattr(other, fact) == getattr(batch, fact)
            assert other.new_rows_by_kind == batch.new_rows_by_kind


@settings(max_examples=3, deadline=None, phases=PHASES)
@given(st.integers(0, 2**32))
def test_lines_of_every_kind_land_as_without_the_kernel(seed: int) -> None:
    draw = Random(seed)
    lines = [some_line(draw) for _ in range(150)]
    lines += draw.choices(lines, k=100)
    assert_lands_as_without_the_kernel(b"\n".join(lines))


def test_most_of_these_lines_are_ordinary_and_of_every_kind() -> None:
    draw, rows = Random(0), OrdinaryLines(FACTS)
    left = rows.take(Lines(1, 0, b"\n".join(some_line(draw) for _ in range(2_000))))
    assert 300 < len(left) < 1_400
    assert rows.taken().keys() == native.ordinary_kinds().keys()


@settings(max_examples=2, deadline=None, phases=PHASES)
@given(st.integers(0, 2**32))
def test_dirty_and_mutated_lines_land_as_without_the_kernel(seed: int) -> None:
    draw = Random(seed)
    lines = [mutated(draw, SAMPLES["flywheel"]) for _ in range(150)]
    lines += list(comparison_lines(60, seed=seed % 3, dirt=3))
    lines += dirty_lines(seed, 100).split(b"\n")
    draw.shuffle(lines)
    assert_lands_as_without_the_kernel(b"\n".join(lines))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_many_mutated_lines_land_as_without_the_kernel(seed: int) -> None:
    draw = Random(seed)
    clean = [json.loads(line) for line in comparison_lines(300, seed=seed, dirt=0)]
    rows = clean + SAMPLES["flywheel"] * 20
    assert_lands_as_without_the_kernel(b"\n".join(mutated(draw, rows) for _ in range(5_000)))


@pytest.mark.parametrize("policy", ["redact", "refuse"])
def test_judged_and_screened_lines_land_as_without_the_kernel(policy: str) -> None:
    lines = list(comparison_lines(90, dirt=10))
    said = lines[3].replace(b'"choice"', b'"reason":"write to jo@mail.desk","choice"')
    same = json.loads(lines[4])
    same["response_b"] = same["response_a"]
    lines += [said, json.dumps(same).encode()]
    assert_lands_as_without_the_kernel(
        b"\n".join(lines), judge=judge, personal=Policy(policy=policy)
    )


@pytest.mark.parametrize("spoil", range(len(SPOIL)))
def test_only_the_spoilt_line_of_the_benchmark_is_left(spoil: int) -> None:
    lines = list(comparison_lines(50, dirt=0))
    lines[7] = SPOIL[spoil](lines[7])
    rows = OrdinaryLines(FACTS)
    left = rows.take(Lines(1, 100, b"\n".join(lines)))
    assert left == [(8, 100 + sum(len(line) + 1 for line in lines[:7]), lines[7])]
    assert rows.count == 49 and len(rows.taken()["comparison"]) == 49


@pytest.mark.parametrize("count", [1, FEW, FEW + 1])
def test_rows_that_python_made_come_in_between_however_few(count: int) -> None:
    lines = list(comparison_lines(3 * FEW, dirt=0))
    addresses = [line.replace(b'"p', b'"p@', 1) for line in comparison_lines(count, seed=1, dirt=0)]
    draw = Random(count)
    for line in addresses[3:]:
        lines.insert(draw.randrange(len(lines)), line)
    whole = b"\n".join(
        [*addresses[:2], *lines, *addresses[2:3]]
    )  # two at the start, one at the end
    assert len(OrdinaryLines(FACTS).take(Lines(1, 0, whole))) == count
    assert_lands_as_without_the_kernel(whole)


def test_rows_that_nobody_judges_are_written_sooner_and_land_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join(comparison_lines(300, dirt=7)))
    os.utime(path, (0, 0))
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 20_000)
    monkeypatch.setattr(intake, "CACHED_ROWS", 50)
    monkeypatch.setattr(intake, "CACHED_BYTES", 2**15)
    groups, tables = [], []
    for name, judged in (("a", None), ("b", lambda kind, table: [])):
        found, batch = landed(path, tmp_path / name, judge=judged)
        file = Layout(tmp_path / name).landing("comparison") / f"{batch.batch_id}.parquet"
        groups.append(pq.ParquetFile(file).metadata.num_row_groups)
        tables.append(found)
    assert groups[0] >= 4 and groups[1] == 1
    assert all(table.equals(tables[1][kind]) for kind, table in tables[0].items())


def test_rows_stay_as_they_are_while_others_are_made() -> None:
    rows, (one, other) = OrdinaryLines(FACTS), (list(comparison_lines(60, seed=s)) for s in (1, 2))
    rows.take(Lines(1, 0, b"\n".join(one)))
    table = rows.taken()["comparison"]
    before = table.to_pylist()
    for _ in range(3):  # the memory of the first of these is used again for the next ones
        rows.take(Lines(1, 0, b"\n".join(other)))
        assert rows.taken()["comparison"]["prompt_text"].to_pylist() != []
    del rows
    assert table.to_pylist() == before


def test_texts_that_repeat_are_written_once_and_read_as_texts(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join(comparison_lines(300, dirt=0)))
    layout = Layout(tmp_path / "home")
    (batch,) = land([path], layout, log=lambda _: None)
    file = layout.landing("comparison") / f"{batch.batch_id}.parquet"
    assert pq.read_schema(file).equals(SCHEMAS["comparison"])
    group = pq.ParquetFile(file).metadata.row_group(0)
    sizes = {one.path_in_schema: one for one in map(group.column, range(group.num_columns))}
    assert sizes["content_sha256"].encodings == ("RLE", "DELTA_LENGTH_BYTE_ARRAY")
    assert sizes["line_no"].encodings == ("RLE", "DELTA_BINARY_PACKED")
    plain = sum(len(text) for text in pq.read_table(file)["prompt_text"].to_pylist())
    assert sizes["prompt_text"].total_uncompressed_size < plain / 2
    bounded = {name for name, one in sizes.items() if one.statistics and one.statistics.has_min_max}
    bounded.discard("annotator_id")  # so few lines have one each, which is written as it is
    assert bounded == {"batch_id", "line_no", "byte_offset", "seconds", "occurred_at", "landed_at"}


@pytest.mark.parametrize("size", [*range(300), 1000, 4096, 99_999])
def test_hashes_are_those_of_hashlib(size: int) -> None:
    loaded, data = native.library(), Random(size).randbytes(size)
    assert loaded
    for is_portable in (0, 1):
        found = ctypes.create_string_buffer(64)
        loaded.lines_sha256(data, size, is_portable, found)
        assert found.raw.decode() == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("is_portable", [0, 1])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 9, 500])
def test_many_keys_at_once_are_those_of_hashlib(count: int, is_portable: int) -> None:
    loaded, draw = native.library(), Random(count)
    assert loaded
    sizes = [0, 1, 127, 128, 129, 255, 256, 257, 1000, 40]
    texts = [draw.randbytes(draw.choice([*sizes, draw.randrange(600)])) for _ in range(count)]
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    found = ctypes.create_string_buffer(32 * count)
    loaded.lines_blake2b(b"".join(texts), ends.ctypes.data, count, is_portable, found)
    keys = [hashlib.blake2b(text, digest_size=16).hexdigest() for text in texts]
    assert found.raw.decode() == "".join(keys)


def test_signs_that_are_plain_are_left_as_they_are_by_nfc_beside_any_other() -> None:
    loaded = native.library()
    assert loaded
    points = [point for point in range(0x80, 0x110000) if loaded.lines_is_plain(point)]
    seconds = set()
    for point in range(0x110000):
        parts = unicodedata.decomposition(chr(point)).split()
        if parts and not parts[0].startswith("<"):
            seconds |= {int(part, 16) for part in parts[1:]}
    seconds |= set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))  # of Korean syllables
    assert seconds.isdisjoint(points) and len(points) > 40_000
    for point in points:
        sign = chr(point)
        assert unicodedata.is_normalized("NFC", sign) and not unicodedata.combining(sign)
        assert not sign.isspace() and not 0xD800 <= point < 0xE000


def test_every_field_of_an_ordinary_kind_has_a_column_or_makes_one() -> None:
    for kind, fields in native.ordinary_kinds().items():
        assert set(fields) - {"id", "group"} <= set(SCHEMAS[kind].names)
        assert all(
            math.isnan(told["usual"]) or told["how"] == native.NUMBER for told in fields.values()
        )
    assert {"comparison", "demonstration", "rating", "interaction"} <= set(native.ordinary_kinds())
    assert "ranking" not in native.ordinary_kinds()  # a list of responses


def test_a_kernel_of_another_version_is_not_used_and_the_reason_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flywheel.ingest.native.VERSION", 99)
    assert native._load.__wrapped__()[0] is None
    assert "not 99" in native._load.__wrapped__()[1]
    monkeypatch.setattr("flywheel.ingest.native.__file__", "/nowhere/native.py")
    assert "was not built" in native._load.__wrapped__()[1]
