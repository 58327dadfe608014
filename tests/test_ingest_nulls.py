"""A null says the same in JSONL, Parquet and CSV, and never becomes a label."""

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.ingest import BatchManifest, land
from flywheel.ingest.columns import SALT_FILE
from flywheel.ingest.formats import FORMATS
from flywheel.lake import read_folder
from flywheel.layout import Layout
from tests.format_samples import SAMPLES

ASKED = [{"role": "user", "content": "q"}]
CALL = {"id": "1", "function": {"name": "f", "arguments": '{"a":null}'}}


def turn(content: str | None, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "weight": None, "tool_calls": None} | more


def run(reward: float | None, reward_info: Any, **more: Any) -> dict[str, Any]:
    info = {"source": "s", "reward_info": reward_info}
    traj = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    return {"task_id": 1, "trial": None, "reward": reward, "info": info, "traj": traj} | more


def said(who: str, value: str) -> dict[str, Any]:
    return {"from": who, "value": value}


def labelled(region: dict[str, Any]) -> dict[str, Any]:
    value = {"selected": None, "text": None} | region["value"]
    annotation = {"id": 1, "completed_by": 7, "was_cancelled": None, "last_action": None}
    annotation |= {"result": [region | {"value": value}], "lead_time": None}
    data = {"prompt": "q", "left": "x", "right": "y"}
    return {"id": 1, "data": data, "annotations": [annotation], "drafts": [], "predictions": None}


def assessed(**told: Any) -> dict[str, Any]:
    source = {"source_type": "HUMAN", "source_id": "u"}
    names = {"assessment_name": "helpful", "source": source, "rationale": None, "metadata": None}
    return {"request": "q", "response": "a", "assessment_id": "1"} | names | told


def reply(role: str, text: str, ranks: list[int | None]) -> dict[str, Any]:
    below = [
        {"message_id": f"{text}{n}", "role": "assistant", "text": f"a{n}", "rank": rank}
        | {"deleted": None, "synthetic": None, "review_result": None}
        for n, rank in enumerate(ranks)
    ]
    return {"message_id": text, "role": role, "text": text, "replies": below, "rank": None}


ASKS = "\n\nHuman: q\n\nAssistant: "
ROWS: dict[str, list[dict[str, Any]]] = {
    "flywheel": [
        {"kind": "demonstration", "prompt": "p", "response": "r", "choice": None, "group": None},
        {"kind": "comparison", "prompt": "p", "response_a": "a", "response_b": "b"}
        | {"choice": "a", "annotator_kind": None, "metadata": None},
        {"kind": "comparison", "prompt": "p", "response_a": "a", "response_b": "b", "choice": None},
    ],
    "tau_bench": [
        run(0.0, None),
        run(0.0, {"reward": 0.0}),
        run(1.0, {"reward": 1.0}),
        run(1.0, {"reward": 1.0}, task_id=None),
        run(None, {"reward": 1.0}),
    ],
    "openai": [
        {"messages": [*ASKED, turn("a")], "tools": None},
        {"messages": [*ASKED, turn("context", weight=0), *ASKED, turn("a", weight=1)]},
        {"messages": [*ASKED, turn(None, tool_calls=[CALL])], "tools": [{"type": "function"}]},
        {"messages": None, "tools": None},
    ],
    "trl": [
        {"prompt": "p", "completion": "yes", "label": True},
        {"prompt": "p", "completion": "no", "label": False},
        {"prompt": "p", "completion": "who knows", "label": None},
        {"prompt": "p", "chosen": "a", "rejected": "b", "completion": None, "note": None},
        {"prompt": None, "completion": "c", "label": True},
    ],
    "openrlhf": [
        {"input": "q", "output": "a", "label": None, "datasource": None},
        {"input": "q", "output": None, "label": "5", "datasource": "sums"},
        {"input": None, "output": "a", "label": None, "datasource": None},
    ],
    "sharegpt": [
        {"conversations": [said("human", "q"), said("gpt", "a")], "chosen": None, "system": None},
        {"conversations": [said("human", "q")], "chosen": said("gpt", "a")}
        | {"rejected": said("gpt", "b"), "kto_tag": None, "system": "s"},
        {"conversations": [said("human", "q")], "chosen": None, "rejected": None},
    ],
    "label_studio": [
        labelled({"from_name": "cmp", "type": "pairwise", "value": {"selected": "left"}}),
        labelled({"from_name": "why", "type": "textarea", "value": {"text": ["because"]}}),
        labelled({"from_name": "cmp", "type": "pairwise", "value": {"selected": None}}),
    ],
    "argilla": [
        {"prompt": "q", "a": "x", "b": "y", "better.responses": ["a"], "better.suggestion": None}
        | {"better.responses.users": ["u"], "better.responses.status": ["submitted"]},
        {"prompt": "q", "a": "x", "b": "y", "better.responses": None, "better.suggestion": "a"},
        {"prompt": None, "a": "x", "b": "y", "better.responses": ["a"]}
        | {"better.responses.users": ["u"], "better.responses.status": ["submitted"]},
    ],
    "mlflow": [
        assessed(feedback={"value": True, "error": None}, expectation=None),
        assessed(feedback=None, expectation={"value": "better"}),
        assessed(feedback={"value": None, "error": "timeout"}),
        assessed(feedback=None, expectation=None),
    ],
    "oasst": [
        {
            "message_tree_id": "t",
            "tree_state": None,
            "prompt": reply("prompter", "q", [0, 1, None]),
        },
        {"message_tree_id": "u", "tree_state": None, "prompt": reply("prompter", "q", [])},
    ],
    "hh_rlhf": [
        {"chosen": f"{ASKS}yes", "rejected": f"{ASKS}no", "note": None},
        {"chosen": f"{ASKS}yes", "rejected": None, "note": None},
    ],
    "question_answer": [
        {"question": "q", "answer": "a #### 4", "hint": None},
        {"question": "q", "answer": None, "hint": "h"},
    ],
}
TAKEN = {
    "flywheel": (2, 1),
    "tau_bench": (3, 2),
    "openai": (3, 1),
    "trl": (3, 2),
    "openrlhf": (2, 1),
    "sharegpt": (2, 1),
    "label_studio": (1, 2),
    "argilla": (1, 2),
    "mlflow": (2, 2),
    "oasst": (1, 1),
    "hh_rlhf": (1, 1),
    "question_answer": (1, 1),
}
AGENTS = ("atif", "art", "nvidia", "swe_agent", "langfuse", "otel", "tensorzero")
ROWS |= {name: SAMPLES[name] for name in AGENTS}
# what one column of Arrow can hold
ROWS |= {"atif": SAMPLES["atif"][1:], "swe_agent": SAMPLES["swe_agent"][:1]}
ROWS["tensorzero"] = [row | {"snapshot_hash": None} for row in SAMPLES["tensorzero"][:2]]
TAKEN |= {name: (len(ROWS[name]), 0) for name in AGENTS}
OUTSIDE = {"batch_id", "file", "record_uid", "byte_offset", "landed_at", "seen_at", "raw"}


def filled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the keys of all of them, as a table has them."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [dict.fromkeys(names) | row for row in rows]


def landed(home: Path, path: Path) -> tuple[BatchManifest, list[dict[str, Any]]]:
    layout = Layout(home)
    home.mkdir(parents=True, exist_ok=True)
    (home / SALT_FILE).write_text("one salt for every home")  # so that pseudonyms are alike
    (batch,) = land([path], layout, quarantine_limit=0.9, source="s", log=lambda _: None)
    folders = [layout.landing(kind) for kind in batch.rows_by_kind if kind != "raw"]
    tables = [*map(read_folder, folders), read_folder(layout.quarantine)]
    dropped = OUTSIDE | {"byte_length"}
    return batch, [
        {name: item for name, item in row.items() if name not in dropped}
        for table in tables
        for row in table.to_pylist()
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_rows_land_alike_from_jsonl_and_from_parquet(format: str, tmp_path: Path) -> None:
    rows = filled(ROWS[format])
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    lines, table = (
        landed(tmp_path / name, tmp_path / f"x.{name}") for name in ("jsonl", "parquet")
    )
    assert lines[0].format == table[0].format == format
    counts = [(one.rows, one.quarantined) for one in (lines[0], table[0])]
    assert counts == [TAKEN[format]] * 2
    assert lines[1] == table[1]


def test_a_label_that_is_null_or_empty_is_refused_and_no_demonstration(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "completion": f"c{n}", "label": None if n else True} for n in range(2)]
    chats = [{"messages": [*ASKED, turn("a")], "label": None if n else False} for n in range(2)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    pq.write_table(pa.Table.from_pylist(chats), tmp_path / "chats.parquet")
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([list(rows[0]), *(list(row.values()) for row in rows)])
    for path in sorted(tmp_path.glob("*.*")):
        batch, found = landed(tmp_path / f"home_{path.name}", path)
        assert batch.rows_by_kind == {"interaction": 1}, path.name
        assert "label must be true or false, found None" in found[-1]["reason"]


def test_a_labelled_row_among_chats_to_imitate_is_refused(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"messages": [*ASKED, turn("a")]}] * 60
    rows.append({"messages": [*ASKED, turn("bad")], "label": False})
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    batch, found = landed(tmp_path / "home", tmp_path / "x.jsonl")
    assert batch.rows_by_kind == {"demonstration": 60} and batch.quarantined == 1
    assert "judged" in found[-1]["reason"]


def test_a_run_cut_off_at_the_step_limit_is_truncated_in_parquet_too(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS["tau_bench"][:3]), tmp_path / "x.parquet")
    _, found = landed(tmp_path / "home", tmp_path / "x.parquet")
    assert [row["outcome"] for row in found] == ["truncated", "failed", "passed"]


def test_arguments_that_arrow_filled_with_nulls_are_those_that_were_given(tmp_path: Path) -> None:
    calls = [{"name": "f", "arguments": {"a": 1}}, {"name": "f", "arguments": {"b": 2}}]
    rows = [{"messages": [*ASKED, turn(None, tool_calls=[call])]} for call in calls]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    (_, lines), (_, table) = (
        landed(tmp_path / name, tmp_path / f"x.{name}") for name in ("jsonl", "parquet")
    )
    assert lines == table and '{"b":2}' in table[1]["response"]


def test_quarantine_keeps_the_nulls_of_a_row_as_they_came(tmp_path: Path) -> None:
    rows = [{"question": "q", "answer": "a"}, {"question": "q", "answer": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    layout = Layout(tmp_path / "home")
    land([tmp_path / "x.parquet"], layout, quarantine_limit=0.9, log=lambda _: None)
    (raw,) = read_folder(layout.quarantine, ["raw"])["raw"].to_pylist()
    assert json.loads(raw) == rows[1]
