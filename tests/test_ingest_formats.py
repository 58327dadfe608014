"""What each reader makes of its format, on rows written by hand and on real files."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flywheel.errors import RecordError, SettingsError
from flywheel.ingest import BatchManifest, land
from flywheel.ingest.formats import FORMATS, named, recognise
from flywheel.ingest.keys import normalised, prompt_key, response_key
from flywheel.lake import read_folder
from flywheel.layout import Layout
from flywheel.records import (
    Comparison,
    Demonstration,
    Interaction,
    Message,
    Record,
    ToolCall,
    Trajectory,
)
from flywheel.records.message import load, prompt_of, response_of

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":2,"b":3}'}}
    ],
}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "2+3?"}]},
    CALL,
    {"role": "tool", "tool_call_id": "c1", "content": "5"},
    {"role": "assistant", "content": "six", "weight": 0},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "No: 5", "weight": 1},
]


def read(format: str, value: dict[str, Any]) -> list[Record]:
    return list(named(format).read(value))


def words(conversation: Any) -> list[str]:
    return [message.content for message in conversation]


def test_every_unmasked_assistant_turn_of_a_chat_is_a_demonstration() -> None:
    call, last = read("openai", {"messages": CHAT, "tools": [{"type": "function"}]})
    assert isinstance(call, Demonstration) and isinstance(last, Demonstration)
    assert words(call.prompt) == ["Be brief.", "2+3?"]
    assert call.response[0].tool_calls[0].arguments == {"a": 2, "b": 3}  # type: ignore[union-attr]
    assert words(last.prompt)[-2:] == ["six", "Sure?"] and words(last.response) == ["No: 5"]
    assert last.metadata == {"tools": [{"type": "function"}]}


def test_tool_arguments_may_be_objects_and_what_is_left_out_is_named() -> None:
    turn = {"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"x": 1}}], "mood": "x"}
    (found,) = read("openai", {"messages": [{"role": "user", "content": "q"}, turn]})
    assert found.response[0].tool_calls[0].arguments == {"x": 1}  # type: ignore[attr-defined]
    assert found.metadata == {"message_keys_left_out": ["mood"]}


def test_the_function_call_of_old_files_is_a_tool_call_and_its_answer_a_tool_turn() -> None:
    call = {"name": "add", "arguments": '{"a":2}'}
    turns = [
        {"role": "user", "content": "2+0?"},
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "add", "content": "2"},
        {"role": "assistant", "content": "2", "function_call": None},
    ]
    called, said = read("openai", {"messages": turns, "functions": [{"name": "add"}]})
    assert isinstance(called, Demonstration) and isinstance(said, Demonstration)
    assert called.response == (
        Message(role="assistant", tool_calls=(ToolCall(name="add", arguments={"a": 2}),)),
    )
    assert [turn.role for turn in said.conversation] == ["user", "assistant", "tool"]
    assert said.metadata == {"tools": [{"name": "add"}]}
    for wrong in ("auto", {"name": "add"} | {"arguments": "{a"}):
        with pytest.raises(RecordError, match="tool call"):
            read("openai", {"messages": [turns[0], {"role": "assistant", "function_call": wrong}]})
    both = {**turns[1], "tool_calls": [call]}
    with pytest.raises(RecordError, match="not by both"):
        read("openai", {"messages": [turns[0], both]})


def test_an_openai_preference_is_a_comparison_by_nobody() -> None:
    (found,) = read(
        "openai",
        {
            "input": {"messages": [{"role": "user", "content": "Cold?"}], "tools": []},
            "preferred_output": [{"role": "assistant", "content": "yes"}],
            "non_preferred_output": [{"role": "assistant", "content": "no"}],
        },
    )
    assert isinstance(found, Comparison) and found.choice == "a" and found.annotator_id is None
    assert words(found.response_a) == ["yes"] and words(found.response_b) == ["no"]


USER, GOOD, BAD = (
    [{"role": "user", "content": "The sky is"}],
    [{"role": "assistant", "content": "blue."}],
    [{"role": "assistant", "content": "green."}],
)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"prompt": "The sky is", "completion": " blue."}, Demonstration),
        ({"prompt": USER, "completion": GOOD}, Demonstration),
        ({"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}, Comparison),
        ({"prompt": USER, "chosen": GOOD, "rejected": BAD}, Comparison),
        ({"chosen": USER + GOOD, "rejected": USER + BAD}, Comparison),
        ({"prompt": "The sky is", "completion": " blue.", "label": True}, Interaction),
        ({"prompt": "The sky is", "completion": " blue.", "label": "False"}, Interaction),
        ({"messages": USER + GOOD, "label": False}, Interaction),
    ],
)
def test_each_type_of_trl_becomes_its_kind_of_record(value: dict[str, Any], kind: type) -> None:
    assert recognise([value])[0] == "trl"
    (found,) = read("trl", value)
    assert isinstance(found, kind) and words(found.conversation) == ["The sky is"]
    if isinstance(found, Interaction):
        assert found.thumbs == ("up" if value["label"] is True else "down")
    if isinstance(found, Comparison):
        assert words(found.response_a)[0].strip() == "blue." and found.choice == "a"
        assert words(found.response_b)[0].strip() == "green."


def test_spaces_that_lead_a_completion_are_kept() -> None:
    (found,) = read("trl", {"prompt": "The sky is", "completion": " blue."})
    assert isinstance(found, Demonstration) and words(found.response) == [" blue."]


@pytest.mark.parametrize(
    ("format", "value", "reason"),
    [
        ("openai", {"messages": []}, "list of messages"),
        ("openai", {"messages": USER}, "no assistant turn"),
        ("openai", {"messages": [{"content": "x"}]}, "needs a role"),
        ("trl", {"chosen": GOOD, "rejected": BAD}, "share no beginning"),
        ("trl", {"chosen": "a", "rejected": "b"}, "no border where it ends"),
        ("trl", {"prompt": "p", "completion": "c", "label": 1}, "true or false"),
        ("tau_bench", {"task_id": 1, "reward": True, "info": {}, "traj": USER + GOOD}, "number"),
        ("tau_bench", {"task_id": 1, "reward": 1, "info": {}, "traj": GOOD}, "the user's turn"),
        ("question_answer", {"question": "q", "answer": 5}, "must both be text"),
    ],
)
def test_what_is_wrong_with_a_row_is_said(format: str, value: dict[str, Any], reason: str) -> None:
    with pytest.raises(RecordError, match=reason):
        read(format, value)


TURNS = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]


@pytest.mark.parametrize(
    ("format", "value"),
    [
        ("question_answer", {"question": "q", "answer": "a", "thumbs": "down"}),
        ("question_answer", {"question": "q", "answer": "a", "Rating": 1}),
        ("trl", {"prompt": "q", "completion": "a", "score": 0.1}),
        ("openrlhf", {"input": "q", "output": "a", "label": False}),
        ("sharegpt", {"conversations": TURNS, "stars": 1}),
    ],
)
def test_a_row_that_was_judged_is_no_response_to_imitate(
    format: str, value: dict[str, Any], tmp_path: Path
) -> None:
    assert recognise([value])[0] == format
    with pytest.raises(RecordError, match=r"is judged.*land the file as raw"):
        named(format).read(value)
    *_, judged = value
    for nothing in ({judged: None}, {judged: ""}, {judged: None, "source": "s"}):
        assert isinstance(named(format).read(value | nothing)[0], Demonstration)
    (tmp_path / "x.jsonl").write_text(json.dumps(value) + "\n")
    (blocked,) = land([tmp_path / "x.jsonl"], Layout(tmp_path / "home"), log=lambda _: None)
    assert blocked.blocked and not blocked.rows_by_kind
    options: Any = {"format": "raw", "source": "judged", "log": lambda _: None}
    (raw,) = land([tmp_path / "x.jsonl"], Layout(tmp_path / "home"), **options)
    assert raw.rows_by_kind == {"raw": 1}


def test_tool_arguments_that_are_not_json_and_pictures_are_refused() -> None:
    for turn in (
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{a"}}]},
        {"role": "assistant", "content": [{"type": "image_url", "image_url": "x"}]},
    ):
        with pytest.raises(RecordError):
            read("openai", {"messages": [*USER, turn]})


def test_a_run_cut_off_at_the_step_limit_is_truncated_and_its_answer_does_not_leak() -> None:
    run = {"task_id": 3, "reward": 0.0, "trial": 2, "traj": USER + GOOD}
    secret = {"task": {"actions": ["THE ANSWER"]}}
    (cut,) = read("tau_bench", run | {"info": secret | {"reward_info": None}})
    (lost,) = read("tau_bench", run | {"info": secret | {"reward_info": {"reward": 0}}})
    (won,) = read("tau_bench", run | {"info": {}, "reward": 1})
    assert [one.outcome for one in (cut, lost, won) if isinstance(one, Trajectory)] == [
        "truncated",
        "failed",
        "passed",
    ]
    assert b"THE ANSWER" not in msgspec.json.encode(cut)


def test_a_misspelt_field_of_our_own_format_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="respones"):
        read("flywheel", {"kind": "demonstration", "prompt": "p", "respones": "r"})
    with pytest.raises(msgspec.ValidationError, match="seconds"):
        read("flywheel", {"kind": "rating", "prompt": "p", "seconds": "12", "rating": 1})


@pytest.mark.parametrize(
    "value",
    [
        {"prompt": "p"},
        {"text": "t"},
        {"conversations": []},
        {"transcript": "\n\nHuman: x", "rating": 4.0, "red_team_member_id": 7},
        {},
    ],
)
def test_an_unknown_shape_is_a_raw_source(value: dict[str, Any]) -> None:
    assert recognise([value])[0] == "raw"


def test_a_file_that_is_half_of_a_format_is_read_as_it() -> None:
    half: list[dict[str, Any]] = [{"question": "q", "answer": "a"}, {"other": 1}]
    assert recognise(half)[:2] == ("question_answer", 0.45)


def test_every_format_tells_how_it_is_known_and_a_wrong_name_is_refused() -> None:
    assert all(one.told_by for one in FORMATS.values())
    with pytest.raises(SettingsError, match=r"auto, flywheel.*raw"):
        named("csv")


# ---- keys -------------------------------------------------------------------------------------


def test_texts_that_look_the_same_have_one_key_and_case_matters() -> None:
    one = prompt_key(prompt_of("Caf\u00e9 \r\nopen\t\n"))
    assert one == prompt_key(prompt_of("Cafe\u0301\nopen"))
    assert one != prompt_key(prompt_of("caf\u00e9\nopen"))
    assert one != response_key(response_of("Caf\u00e9\nopen")) and len(one) == 32
    assert normalised("  a \r\n\r\n b\u00a0\n\n") == "  a\n\n b"
    assert normalised("x\x0c\ny") == normalised("x\ny")  # fast and slow path agree


def test_moving_a_border_between_fields_changes_the_key() -> None:
    def key(*texts: str) -> str:
        return prompt_key(tuple(Message(role="user", content=text) for text in texts))

    assert len({key("ab", "c"), key("a", "bc"), key("abc"), key("abc", "")}) == 4


def test_the_id_of_a_call_and_the_order_of_its_arguments_do_not_matter() -> None:
    def key(id: str, arguments: str) -> str:
        call = {"id": id, "function": {"name": "f", "arguments": arguments}}
        turn = {"role": "assistant", "tool_calls": [call]}
        (found,) = read("openai", {"messages": [*USER, turn]})
        return response_key(found.response)  # type: ignore[attr-defined]

    assert key("1", '{"a":1,"b":2}') == key("2", '{"b":2,"a":1}') != key("1", '{"a":1,"b":3}')


# ---- real files -------------------------------------------------------------------------------


def landed(name: str, home: Path) -> tuple[BatchManifest, Layout]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there: the shared data lie beside a checkout of the project")
    layout = Layout(home)
    (batch,) = land([path], layout, log=lambda _: None)
    assert batch.lines == batch.rows + batch.quarantined + batch.blanks
    return batch, layout


def test_all_runs_of_tau_bench_land_as_trajectories(tmp_path: Path) -> None:
    batch, layout = landed("tau_bench/gpt-4o-airline.json", tmp_path)
    assert (batch.format, batch.rows_by_kind, batch.quarantined) == (
        "tau_bench",
        {"trajectory": 200},
        0,
    )
    table = read_folder(layout.landing("trajectory"))
    assert Counter(table["outcome"].to_pylist())["truncated"] == 5
    assert len(set(table["task_id"].to_pylist())) == 50
    steps = load(table["steps"][0].as_py())
    assert len(steps) == table["step_count"][0].as_py() and steps[0].role == "assistant"


def test_gsm8k_lands_as_demonstrations_with_its_numbers(tmp_path: Path) -> None:
    batch, layout = landed("gsm8k/train.jsonl", tmp_path)
    assert (batch.format, batch.rows_by_kind) == ("question_answer", {"demonstration": 7473})
    table = read_folder(layout.landing("demonstration"), ["metadata", "source"])
    assert json.loads(table["metadata"][0].as_py())["final_answer"] == "72"
    assert set(table["source"].to_pylist()) == {"gsm8k"}


@pytest.mark.parametrize(
    ("name", "format", "kind"),
    [
        ("ukp_convarg1/pairs.jsonl.gz", "raw", "raw"),
        ("mbpp/mbpp.jsonl", "raw", "raw"),
        ("pandalm/testset-v1.json", "raw", "raw"),
        ("trl_samples/kto_en_demo.json", "trl", "interaction"),
        ("trl_samples/dpo_en_demo.json", "sharegpt", "comparison"),
        ("trl_samples/glaive_toolcall_en_demo.json", "sharegpt", "demonstration"),
    ],
)
def test_real_files_are_recognised_by_their_keys(
    tmp_path: Path, name: str, format: str, kind: str
) -> None:
    batch, _ = landed(name, tmp_path)
    assert (batch.format, set(batch.rows_by_kind)) == (format, {kind})
    assert batch.rows > 0 and batch.quarantined == 0


def test_our_records_land_from_csv_and_parquet_as_from_json(tmp_path: Path) -> None:
    rows = [
        {"kind": "rating", "prompt": "p,1", "response": 'say "x"\nand y', "rating": 4.0}
        | {"rating_min": 1.0, "rating_max": 5.0, "seconds": 2.5 if n else None}
        for n in range(2)
    ]
    header = list(rows[0])
    (tmp_path / "a.csv").write_text(
        ",".join(header)
        + "\r\n"
        + "".join(
            ",".join('"' + str(v).replace('"', '""') + '"' if v is not None else "" for v in r)
            + "\r\n"
            for r in ([row[name] for name in header] for row in rows)
        )
    )
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    seen = []
    for suffix in ("csv", "parquet", "jsonl"):
        layout = Layout(tmp_path / suffix)
        (batch,) = land([tmp_path / f"a.{suffix}"], layout, log=lambda _: None)
        assert (batch.rows, batch.quarantined, batch.format) == (2, 0, "flywheel")
        table = read_folder(layout.landing("rating"))
        seen.append(table.select(["prompt_key", "response_text", "rating", "seconds"]).to_pylist())
    assert seen[0] == seen[1] == seen[2]
    assert seen[0][0]["response_text"] == 'say "x"\nand y'
