"""The suites: every kind has one, and each rule names the rows that break it."""

import json
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from assets.plots import failures
from flywheel.errors import SettingsError
from flywheel.ingest import land, read_batches
from flywheel.lake import SCHEMAS
from flywheel.layout import Layout
from flywheel.quality import Thresholds, build_data_docs, expectations, judge

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
    "rating": {"response_text": "r", "rating_min": 1.0, "rating_max": 5.0},
    "critique": {"response_text": "r", "critique": "too long"},
    "rubric_score": {"response_text": "r", "criterion": "brief"},
    "trajectory": {"step_count": 1, "task_id": "t"},
    "step_rating": {"steps_text": "s", "rating_min": 0.0, "rating_max": 1.0},
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
    ("evaluation_prompt", "reference_says_something", {"reference": "\n"}),
    ("rating", "scale_has_width", {"rating_max": 1.0}),
    ("step_rating", "scale_has_width", {"rating_min": 1.0}),
    ("rubric_score", "criterion_says_something", {"criterion": " "}),
    ("interaction", "edit_changes_something", {"response_key": "1", "edited_response_key": "1"}),
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


def test_an_answer_of_a_tool_names_an_open_call_or_none() -> None:
    unnamed = '{"role":"tool","content":"there"}'
    fine = f"[{CALL},{TOOL},{SAID},{CALL},{unnamed},{SAID}]"
    assert all(one.passed for one in judge("trajectory", table("trajectory", {"steps": fine})))


def test_what_is_plausible_is_a_setting() -> None:
    strict = Thresholds(most_seconds=60.0, most_usd=2.0)
    rows = table("rating", {"seconds": 61.0}, {"cost_usd": 3.0}, {"seconds": 60.0})
    failed = {one.check: one.rows for one in judge("rating", rows, strict) if not one.passed}
    assert failed == {"seconds_within_a_day": (0,), "cost_is_plausible": (1,)}
    assert all(one.passed for one in judge("rating", rows))


def test_shares_that_are_borne_are_settings() -> None:
    made = Thresholds.of_settings({"tolerated": 0.1, "tolerated_by_rule": {"task_is_named": 1.0}})
    assert (made.share_of("task_is_named"), made.share_of("has_steps")) == (1.0, 0.1)
    for wrong in ({"tolerated": 2.0}, {"tolerated_by_rule": {"task_is_nmaed": 0.1}}):
        with pytest.raises(SettingsError, match="quality"):
            Thresholds.of_settings(wrong)


def test_a_new_rule_is_the_one_line_of_the_document_and_quarantines(tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    (line,) = re.findall(
        r"```text\n(.*?)```", (root / "docs" / "editing_the_warehouse.md").read_text(), re.S
    )
    assert line.count("\n") == 1
    shutil.copytree(root / "flywheel", tmp_path / "flywheel")
    suites = tmp_path / "flywheel" / "quality" / "suites.py"
    before = '    "comparison": (\n'
    assert before in suites.read_text()
    suites.write_text(suites.read_text().replace(before, before + line))
    sides = '"prompt":"p","response_a":"a","response_b":"b","choice":"a"'
    said = [f'{{"kind":"comparison",{sides},"reason":"{"x" * size}"}}' for size in (500, 501)]
    (tmp_path / "x.jsonl").write_text("\n".join(said))
    program = """
import json
from pathlib import Path
from flywheel.ingest import land, quarantine_reasons
from flywheel.layout import Layout
from flywheel.quality import judge
home = Layout(Path("home"))
(batch,) = land([Path("x.jsonl")], home, judge=judge, quarantine_limit=1.0, log=lambda _: None)
ran = [one.name for one in batch.expectations]
print(json.dumps([batch.rows, quarantine_reasons(home), "reason_is_brief" in ran]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [1, {"reason_is_brief": 1}, True]


def test_the_share_of_failures_is_drawn_batch_by_batch(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.inbox.mkdir()
    assert failures("demonstration", []).value == "no failures were measured"
    for number, response in enumerate(("r", " ", "s")):
        said = f'{{"kind":"demonstration","prompt":"p{number}","response":"{response}"}}'
        (layout.inbox / f"{number}.jsonl").write_text(said)
    land([layout.inbox], layout, judge=judge, quarantine_limit=1.0, log=lambda _: None)
    drawn = str(failures("demonstration", read_batches(layout)).value)
    assert drawn.startswith("![response_says_something](data:image/svg+xml;base64,")


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
from assets.plots import failures
from flywheel.ingest import land, read_batches
from flywheel.errors import SettingsError
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
