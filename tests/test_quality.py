"""The suites: every kind has one, and each rule names the rows that break it."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flywheel.ingest import land
from flywheel.lake import SCHEMAS
from flywheel.layout import Layout
from flywheel.quality import build_data_docs, expectations, judge

NOW = datetime.now(UTC).replace(tzinfo=None)
FINE: dict[str, dict[str, Any]] = {
    "demonstration": {"response_text": "r"},
    "comparison": {
        "response_a_text": "a",
        "response_b_text": "b",
        "response_a_key": "1",
        "response_b_key": "2",
    },
    "ranking": {"ranks": [2, 1], "response_texts": ["a", "b"]},
    "rating": {"response_text": "r"},
    "critique": {"response_text": "r", "critique": "too long"},
    "rubric_score": {"response_text": "r"},
    "trajectory": {"step_count": 1, "task_id": "t"},
    "step_rating": {"steps_text": "s"},
    "interaction": {"response_text": "r"},
    "evaluation_prompt": {"grader": "numeric_answer"},
}
CALL = '{"role":"assistant","tool_calls":[{"name":"f","arguments":{},"id":"1"}]}'
TOOL, SAID = '{"role":"tool","tool_call_id":"1"}', '{"role":"assistant","content":"5"}'
TOOLS, RUNS_BACK = '{"tools":[{"name":"g"}]}', '{"time_runs_back":true}'
BROKEN: list[tuple[str, str, dict[str, Any]]] = [
    *((kind, "prompt_says_something", {"prompt_text": " \n\t"}) for kind in FINE),
    ("rating", "seconds_within_a_day", {"seconds": 90_000.0}),
    ("rating", "cost_is_plausible", {"cost_usd": 1500.0}),
    ("rating", "not_from_the_future", {"occurred_at": NOW + timedelta(days=2)}),
    ("rating", "said_in_this_century", {"occurred_at": datetime(1970, 1, 1)}),
    ("rating", "response_says_something", {"response_text": "\u00a0\u2003"}),
    ("demonstration", "response_says_something", {"response_text": ""}),
    ("comparison", "response_b_says_something", {"response_b_text": ""}),
    ("comparison", "sides_differ", {"response_b_key": "1"}),
    ("ranking", "best_rank_is_one", {"ranks": [2, 3]}),
    ("ranking", "ranks_tell_something", {"ranks": [1, 1]}),
    ("ranking", "responses_say_something", {"response_texts": ["a", "\u2003"]}),
    ("critique", "critique_says_something", {"critique": " "}),
    ("critique", "corrected_response_says_something", {"corrected_response_text": ""}),
    ("rubric_score", "response_says_something", {"response_text": ""}),
    ("trajectory", "has_steps", {"step_count": 0}),
    ("trajectory", "task_is_named", {"task_id": None}),
    ("trajectory", "answers_name_a_call", {"steps": f"[{SAID},{TOOL},{SAID}]"}),
    ("trajectory", "calls_are_answered", {"steps": f"[{CALL},{SAID}]"}),
    ("trajectory", "ends_in_an_answer", {"steps": f"[{CALL},{TOOL}]"}),
    ("trajectory", "turns_say_something", {"steps": '[{"role":"user"},' + SAID + "]"}),
    (
        "trajectory",
        "tools_are_declared",
        {"steps": f"[{CALL},{TOOL},{SAID}]"} | {"metadata": TOOLS},
    ),
    ("trajectory", "time_does_not_run_back", {"steps": f"[{SAID}]"} | {"metadata": RUNS_BACK}),
    ("step_rating", "steps_say_something", {"steps_text": " "}),
    ("interaction", "response_says_something", {"response_text": ""}),
    ("interaction", "edited_response_says_something", {"edited_response_text": " "}),
    ("evaluation_prompt", "grader_is_named", {"grader": " "}),
]


def table(kind: str, *changes: dict[str, Any]) -> pa.Table:
    rows = [{"kind": kind, "prompt_text": "p", **FINE[kind], **change} for change in changes]
    return pa.Table.from_pylist(rows, schema=SCHEMAS[kind])


@pytest.mark.parametrize("kind", list(SCHEMAS))
def test_rows_in_order_pass_the_suite_of_their_kind(kind: str) -> None:
    some = {"seconds": 86_400.0, "cost_usd": 0.0, "occurred_at": NOW}
    outcomes = judge(kind, table(kind, {}, some, {"occurred_at": NOW + timedelta(hours=20)}))
    assert [one.check for one in outcomes if not one.passed] == []
    assert {one.check for one in outcomes} == {one.name for one in expectations(kind)}
    assert {one.checked for one in outcomes} == {3}
    assert judge(kind, table(kind)) == []


@pytest.mark.parametrize(("kind", "check", "change"), BROKEN)
def test_a_broken_rule_names_its_rows_and_only_them(
    kind: str, check: str, change: dict[str, Any]
) -> None:
    failed = {
        one.check: one.rows
        for one in judge(kind, table(kind, {}, change, {}, change))
        if not one.passed
    }
    assert failed == {check: (1, 3)}


def test_every_rule_is_broken_by_some_row_above() -> None:
    own = {(kind, one.name) for kind in SCHEMAS for one in expectations(kind)}
    common = {one.name for one in expectations("rating")} - {"response_says_something"}
    broken = {(kind, check) for kind, check, _ in BROKEN}
    missing = {(kind, name) for kind, name in own - broken if name not in common}
    assert missing <= {
        ("critique", "response_says_something"),
        ("comparison", "response_a_says_something"),
    }


def test_names_of_rules_are_unique_and_described() -> None:
    for kind in SCHEMAS:
        names = [one.name for one in expectations(kind)]
        assert len(set(names)) == len(names)
        assert all(one.description.endswith(".") for one in expectations(kind))


def test_pages_show_what_was_judged_without_anybodys_words(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.inbox.mkdir()
    words, moment = "ann@example.org", "1987-06-05"
    (layout.inbox / "x.jsonl").write_text(
        f'{{"kind":"demonstration","prompt":"{words}","response":" ",'
        f'"seconds":98765.4321,"occurred_at":"{moment}T04:03:02Z","annotator_id":"{words}"}}'
    )
    (batch,) = land([layout.inbox], layout, judge=judge, log=lambda _: None)
    assert batch.blocked
    index = build_data_docs(layout)
    pages = {path: path.read_text() for path in index.parent.rglob("*.html")}
    results = {path: path.read_text() for path in layout.docs.rglob("*.json")}
    assert results
    assert "demonstration" in pages[index] and len(pages) > len(SCHEMAS)
    told = " ".join([*pages.values(), *results.values()])
    assert "unexpected values found" in told and "98765" not in told
    assert words not in told and moment not in told
    before = index.stat().st_mtime_ns
    assert build_data_docs(layout) == index and index.stat().st_mtime_ns == before
    other = build_data_docs(Layout(tmp_path / "other"))
    assert other.exists() and index.stat().st_mtime_ns == before


def test_pages_of_earlier_landings_stay_when_another_process_lands(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from flywheel.ingest import land
from flywheel.layout import Layout
from flywheel.quality import build_data_docs, judge
home, prompt = Path(sys.argv[1]), sys.argv[2]
file = home / f"{prompt}.jsonl"
file.write_text('{"kind":"demonstration","prompt":"%s","response":"r"}' % prompt)
land([file], Layout(home), judge=judge, log=lambda _: None)
build_data_docs(Layout(home))
"""
    for prompt in ("one", "two"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path), prompt], check=True, timeout=120)
    docs = tmp_path / "docs" / "great_expectations"
    assert len(list(docs.glob("validations/**/*.html"))) == 2
    assert (docs / "index.html").read_text().count("validations/demonstration") >= 2


def test_pages_that_cannot_be_built_stop_nothing(tmp_path: Path) -> None:
    (tmp_path / "docs").write_text("in the way")
    assert build_data_docs(Layout(tmp_path)).as_uri().endswith("index.html")


def test_great_expectations_is_not_imported_before_it_is_needed() -> None:
    program = "import sys, flywheel.quality, flywheel.ingest; print(sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"'great_expectations'", "'torch'", "'pandas'"} & set(
        done.stdout.strip("[]\n").split(", ")
    )
