"""What is read and made by the block is what a look at each line alone would make of it."""

import json
import os
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flywheel.ingest import blocks, intake, land
from flywheel.ingest.columns import pseudonyms
from flywheel.ingest.formats.own_lines import FEW, read_lines
from flywheel.ingest.keys import key_of_text, prompt_key, response_key
from flywheel.ingest.unit import json_unit
from flywheel.lake import SCHEMAS, read_folder
from flywheel.layout import Layout
from flywheel.records import Message
from flywheel.records.message import prompt_of
from tests.benchmarks.comparisons import comparison_lines
from tests.landed_line_by_line import as_table, land_line_by_line

TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "caf\u0065\u0301 \r\n"},
]
CALL = {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"a": None, "b": [1]}}]}
RECORDS: list[dict[str, Any]] = [
    {"kind": "demonstration", "prompt": "p", "response": "r \n\n s\t"},
    {"kind": "demonstration", "prompt": "p", "response": "r \n\n s\t"},  # a twin without a name
    {"kind": "demonstration", "prompt": TURNS, "response": [{"role": "assistant"}], "id": "7"},
    {"kind": "comparison", "prompt": "p", "response_a": "a", "response_b": "b", "choice": "tie"},
    {"kind": "comparison", "prompt": "p", "response_a": "a", "response_b": "b", "choice": "a",
     "reason": None, "annotator_id": "A@b.org", "annotator_kind": "unknown", "seconds": 1},
    {"kind": "comparison", "prompt": "p", "response_a": "a", "response_b": "b", "choice": "b",
     "occurred_at": "2026-01-02T03:04:05+02:00", "metadata": {"tools": [{"z": 1, "a": None}]}},
    {"kind": "ranking", "prompt": "p", "responses": ["a", TURNS[1:]], "ranks": [1, 2],
     "models": ["m", "n"]},
    {"kind": "rating", "prompt": "p", "response": "r", "rating": 3, "rating_min": 1.0,
     "rating_max": 5, "cost_usd": 0.1},
    {"kind": "critique", "prompt": "p", "response": "r", "critique": "c",
     "corrected_response": "x"},
    {"kind": "critique", "prompt": "p", "response": "r", "critique": "no better one"},
    {"kind": "rubric_score", "prompt": "p", "response": "r", "criterion": "c", "score": 1},
    {"kind": "trajectory", "prompt": "p", "steps": [CALL, {"role": "tool", "content": "o"}],
     "outcome": "passed", "trial": 1, "group": "g"},
    {"kind": "step_rating", "prompt": "p", "steps": [CALL], "rating": 0, "rating_min": -1,
     "rating_max": 1},
    {"kind": "interaction", "prompt": "p", "response": "r", "thumbs": "up", "source": "chat"},
    {"kind": "evaluation_prompt", "prompt": "p", "evaluation_set": "e", "grader": "g"},
]  # fmt: skip
MOMENTS = [b"0", b'"2026-01-01"', b'""', b'"2026-01-02T03:04:05"', b'"2026-01-02T03:04:05Z"']
NUMBERS = [b"2.0", b"99999999999", b"true", b"-0", b"1E2", b'"1"', b"9007199254740993"]
DAMAGE: list[Any] = [
    lambda line, draw: line[: draw.randrange(len(line))],
    lambda line, draw: line[:-1] + b',"kind":"demonstration"}',
    lambda line, draw: line[:-1] + b',"prompt" :"again"}',
    lambda line, draw: line[:-1] + b',"seconds":NaN}',
    lambda line, draw: line[:-1] + b',"seconds":' + b"9" * draw.choice([3, 19, 20, 30, 400]) + b"}",
    lambda line, draw: line[:-1] + b',"seconds":1e999}',
    lambda line, draw: line[:-1] + b',"metadata":{"n":' + b"9" * draw.choice([19, 20, 400]) + b"}}",
    lambda line, draw: line[:-1] + b',"metadata":{"a":null,"b":{"c":null}}}',
    lambda line, draw: line[:-1] + b',"metadata":{"a":1,"a":2}}',
    lambda line, draw: line[:-1] + b',"metadata":null,"domain":null,"source":null}',
    lambda line, draw: line[:-1] + b',"occurred_at":' + draw.choice(MOMENTS) + b"}",
    lambda line, draw: line[:-1] + b',"trial":' + draw.choice(NUMBERS) + b"}",
    lambda line, draw: line[:-1] + b',"cost_usd":' + draw.choice(NUMBERS) + b"}",
    lambda line, draw: line[:-1] + b',"colour":1}',
    lambda line, draw: line[:-1] + b",}",
    lambda line, draw: line + line,
    lambda line, draw: line + b" ",
    lambda line, draw: line + b"\r",
    lambda line, draw: b"\xef\xbb\xbf" + line,
    lambda line, draw: line.replace(b'":', b'" : '),
    lambda line, draw: line.replace(b'"p"', b'"\\"p\\": \\ud800"'),
    lambda line, draw: line.replace(b'"p"', b'"said \\":\\" "'),
    lambda line, draw: line.replace(b'"p"', b'"\xff"'),
    lambda line, draw: line.replace(b'"p"', b'"\\u0000\xe2\x80\xa8"'),
    lambda line, draw: line.replace(b'"p"', b"null"),
    lambda line, draw: line.replace(b'"name":"f"', b'"name":"f","name":"g"'),
    lambda line, draw: line.replace(b'"kind":', b'"\\u006bind":'),
    lambda line, draw: b"",
    lambda line, draw: b" \t\r",
    lambda line, draw: b"[" + line + b"]",
    lambda line, draw: b'{"a":' * 2000,
    lambda line, draw: bytes(draw.randrange(256) for _ in range(9)).replace(b"\n", b"") + line,
    lambda line, draw: line.replace(line[(at := draw.randrange(len(line))) : at + 1], b"\x07", 1),
]  # fmt: skip


def dirty_lines(seed: int, count: int) -> bytes:
    """Lines of every kind, a third of them spoilt, some twice."""
    draw, lines = Random(seed), []
    for _ in range(count):
        record = dict(draw.choice(RECORDS))
        if draw.random() < 0.3:
            record["metadata"] = {"n": draw.random(), "deep": [{"k": draw.choice(["v", None])}]}
        items = list(record.items())
        draw.shuffle(items)
        line = json.dumps(dict(items), ensure_ascii=draw.random() < 0.5).encode()
        if draw.random() < 0.5:
            line = line.replace(b'": ', b'":')
        for _ in range(draw.choice([0, 0, 1, 1, 2])):
            line = draw.choice(DAMAGE)(line, draw) if line else line
        lines.append(line.replace(b"\n", b""))
    return b"\n".join(lines) + draw.choice([b"", b"\n"])


def assert_lands_as_line_by_line(path: Path, home: Path, reader: str) -> None:
    layout = Layout(home)
    (batch,) = land([path], layout, format=reader, quarantine_limit=1, log=lambda _: None)
    assert not batch.blocked, batch.why
    rows, refused, blanks = land_line_by_line(path, batch, pseudonyms(layout.root))
    assert batch.blanks == blanks
    assert batch.rows_by_kind == {kind: len(found) for kind, found in rows.items()}
    for kind in SCHEMAS:
        found = read_folder(layout.landing(kind))
        wanted = as_table(kind, rows.get(kind, []))
        for name in set(found.column_names) - {"landed_at"}:
            assert found[name].to_pylist() == wanted[name].to_pylist(), (kind, name)
    names = ("line_no", "byte_offset", "raw", "reason_kind", "reason", "kind", "record_uid")
    told = read_folder(layout.quarantine).select(names).to_pylist()
    told_in_order = sorted(tuple(one.values()) for one in told)
    assert told_in_order == sorted((*one[:4], one[4][:1000], *one[5:]) for one in refused)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), size=st.sampled_from([97, 1_000, 2**23]))
def test_a_dirty_file_lands_as_it_would_line_by_line(
    seed: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as folder, monkeypatch.context() as changed:
        changed.setattr(blocks, "BLOCK_BYTES", size)  # rows, twins and refusals across blocks
        changed.setattr(intake, "JUDGED_ROWS", 7 if size < 2**20 else 50_000)
        path = Path(folder, "x.jsonl")
        path.write_bytes(dirty_lines(seed, 150))
        os.utime(path, (0, 0))
        assert_lands_as_line_by_line(path, Path(folder, "home"), "flywheel")


def test_a_file_of_another_format_lands_as_it_would_line_by_line(tmp_path: Path) -> None:
    draw = Random(3)
    sides = ["yes", "no", "", [{"role": "assistant", "content": "x"}], None, 7]
    rows = [
        {"prompt": draw.choice(["p", "q", ""]), "chosen": draw.choice(sides),
         "rejected": draw.choice(sides), "score": draw.choice([None, 1])}
        for _ in range(400)
    ]  # fmt: skip
    path = tmp_path / "x.jsonl"
    path.write_bytes("\n".join(map(json.dumps, rows)).encode())
    os.utime(path, (0, 0))
    assert_lands_as_line_by_line(path, tmp_path / "home", "trl")


def test_the_lines_of_the_benchmark_are_read_at_once_but_for_the_spoilt_ones() -> None:
    lines = list(comparison_lines(2_000, dirt=50))
    records = read_lines(lines)
    strict = [json_unit(at, 0, line) for at, line in enumerate(lines, start=1)]
    assert sum(one is not None for one in records) == 2_000 - 40 + 4  # a big integer is kept whole
    faults = {unit.fault[0] for unit in strict if unit.fault}
    assert faults == {"invalid_json", "duplicate_key"}


@pytest.mark.parametrize(
    "change",
    [
        (b'"choice":"a"', b'"choice":"a","choice":"b"'),
        (b'"choice":"a"', b'"choice":"a","choice" :"b"'),
        (b'"choice":"a"', b'"choice":"a","annotator_kind":"person","annotator_kind":"unknown"'),
        (b'"choice":"a"', b'"choice":"a","metadata":{"a":1,"a":2}'),
        (b'"choice":"a"', b'"choice":"a","metadata":{"a":[{"b":null}]}'),
        (b'"arguments":{}', b'"name":"g","arguments":{}'),
        (b'"arguments":{}', b'"arguments":{"a":null}'),
    ],
)
def test_a_line_that_may_say_one_key_twice_or_a_deep_null_is_looked_at_strictly(
    change: tuple[bytes, bytes],
) -> None:
    line = (
        b'{"kind":"comparison","prompt":[{"role":"user","content":"p","tool_calls":'
        b'[{"name":"f","arguments":{}}]}],"response_a":"a","response_b":"b","choice":"a"}'
    )
    changed = line.replace(*change)
    *_, first, second = read_lines([line] * FEW + [changed])
    assert first is not None and second is None


@settings(deadline=None)
@given(st.text(max_size=60))
def test_the_key_of_a_text_is_that_of_its_message(text: str) -> None:
    try:
        wanted = (
            prompt_key(prompt_of(text)),
            response_key((Message(role="assistant", content=text),)),
        )
    except UnicodeEncodeError:
        return
    assert (
        key_of_text("prompt", "user")(text),
        key_of_text("response", "assistant")(text),
    ) == wanted
