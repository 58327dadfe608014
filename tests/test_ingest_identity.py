"""What is the same prompt, the same group, the same event, whatever file or form it came in."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flywheel.ingest import land
from flywheel.ingest.columns import Said, columns_of, table_of, with_ids
from flywheel.ingest.keys import SAID, WHO, prompt_key
from flywheel.lake import SCHEMAS, read_folder, whole
from flywheel.layout import Layout
from flywheel.records import KINDS, Record
from flywheel.records.kinds import Demonstration
from flywheel.records.message import prompt_of

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "2+3?"},
    {"role": "assistant", "content": "6"},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "No: 5"},
]
BLUE, GREEN = ([{"role": "assistant", "content": content}] for content in ("blue", "green"))


def test_the_turns_of_one_conversation_share_a_group_and_another_opening_has_its_own(
    tmp_path: Path,
) -> None:
    other = [{"role": "user", "content": "Other?"}, {"role": "assistant", "content": "yes"}]
    lines = [json.dumps({"messages": turns}) for turns in (CHAT, other)]
    pair = {"prompt": CHAT[:2], "chosen": BLUE, "rejected": GREEN}
    (tmp_path / "chats.jsonl").write_text("\n".join(lines))
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair))
    layout = Layout(tmp_path / "home")
    land([tmp_path / "chats.jsonl", tmp_path / "pairs.jsonl"], layout, log=lambda _: None)
    table = read_folder(layout.landing("demonstration"))
    first, later, apart = table["group_hint"].to_pylist()
    assert first == later != apart and len(set(table["prompt_key"].to_pylist())) == 3
    assert read_folder(layout.landing("comparison"))["group_hint"].to_pylist() == [first]


def test_the_tools_of_a_row_are_part_of_its_prompt(tmp_path: Path) -> None:
    one, other = ({"type": "function", "function": {"name": name}} for name in "fg")
    turned = {"function": {"name": "f"}, "type": "function"}
    rows = [{"prompt": "p", "completion": "c", "tools": t} for t in ([one], [other], [], [turned])]
    rows += [{"prompt": "p", "completion": "c", "tools": json.dumps([one])}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)))
    layout = Layout(tmp_path / "home")
    land([tmp_path / "x.jsonl"], layout, log=lambda _: None)
    table = read_folder(layout.landing("demonstration"))
    f, g, none, again, text = table["prompt_key"].to_pylist()
    assert f == again == text and len({f, g, none}) == 3
    assert none == prompt_key(prompt_of("p")) and len(set(table["group_hint"].to_pylist())) == 1


def test_a_file_of_the_lake_holds_nothing_that_another_column_tells(tmp_path: Path) -> None:
    bare = {"kind": "demonstration", "prompt": "why?", "response": "so", "annotator_id": "p1"}
    given = bare | {"id": "d", "group": "g", "prompt": CHAT[:4], "response": CHAT[4:]}
    lines = [bare, given, bare | {"metadata": {"tools": [{"name": "t"}]}}]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, lines)))
    layout = Layout(tmp_path / "home")
    (batch,) = land([tmp_path / "x.jsonl"], layout, log=lambda _: None)
    folder = layout.landing("demonstration")
    written = pq.read_table(folder / f"{batch.batch_id}.parquet")
    assert written["record_id"].to_pylist() == [None, "d", None]
    opening = f"opening {prompt_key(prompt_of('why?'))}"
    assert written["group_hint"].to_pylist() == [None, "g", opening]  # its key tells of the tools
    for name, left in (("prompt", 1), ("response", 2)):
        assert written[name].null_count == left
        assert None not in read_folder(folder, [name])[name].to_pylist()
    whole = read_folder(folder)
    assert whole["record_id"][0].as_py() == whole["content_sha256"][0].as_py()[:32]
    assert whole["group_hint"].to_pylist() == [opening, "g", opening]


@pytest.mark.parametrize("none", ["", 0, False, None])
def test_an_id_that_says_nothing_is_none(none: Any) -> None:
    said = Said("demonstration")
    said.add(Demonstration(prompt="p", response="r", id=none), 1, 0, 0)
    columns = columns_of(said, {"batch_id": "b", "source": "s"}, str)
    table = with_ids(said, columns, table_of("demonstration", columns), Counter())
    assert whole(table)["record_id"][0].as_py() == table["content_sha256"][0].as_py()[:32]


@pytest.mark.parametrize("given", ["d1", True, 5])
def test_an_id_that_is_no_text_refuses_its_line_alone(given: Any) -> None:
    said = Said("demonstration")
    said.add(Demonstration(prompt="p", response="r", id=given), 1, 0, 0)
    columns = columns_of(said, {"batch_id": "b", "source": "s"}, str)
    if given == "d1":
        assert table_of("demonstration", columns)["record_id"].to_pylist() == ["d1"]
    else:
        with pytest.raises(TypeError):  # as `Intake` tells the lines of a block apart
            table_of("demonstration", columns)


# ---- events -----------------------------------------------------------------------------------


def hashes(home: Path, *files: list[dict[str, Any]]) -> list[list[str]]:
    """The events of each file, landed one after the other from a folder of its own."""
    found = []
    for number, rows in enumerate(files):
        path = home / f"source{number}" / "x.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(map(json.dumps, rows)))
        layout = Layout(home / f"home{number}")
        (batch,) = land([path], layout, log=lambda _: None)
        (kind,) = batch.rows_by_kind
        found.append(read_folder(layout.landing(kind))["content_sha256"].to_pylist())
    return found


VOTE = {"kind": "comparison", "prompt": "q", "response_a": "a", "response_b": "b", "choice": "a"}


def test_one_event_is_the_same_in_strings_messages_other_formats_and_from_another_source(
    tmp_path: Path,
) -> None:
    asked = [{"role": "user", "content": "q"}]
    a, b = ([{"role": "assistant", "content": content}] for content in "ab")
    told = VOTE | {"source": "desk 7", "seconds": 3.5, "model_a": "m", "metadata": {"x": 1}}
    in_messages = VOTE | {"prompt": asked, "response_a": a, "response_b": b}
    trl = {"prompt": "q", "chosen": "a", "rejected": "b"}
    openai = {"input": {"messages": asked}, "preferred_output": a, "non_preferred_output": b}
    found = hashes(tmp_path, [VOTE], [told], [in_messages], [trl], [openai])
    assert len({one for (one,) in found}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"id": "1"},
        {"annotator_id": "w2"},
        {"occurred_at": "2026-01-02T03:04:05Z"},
        {"guideline_version": "2"},
        {"choice": "b"},
        {"reason": "shorter"},
        {"prompt": "Q"},
        {"response_b": "c"},
        {"metadata": {"tools": [{"name": "f"}]}},
    ],
)
def test_whatever_else_was_said_or_by_whom_is_another_event(
    change: dict[str, Any], tmp_path: Path
) -> None:
    (one,), (other,) = hashes(tmp_path, [VOTE], [VOTE | change])
    assert one != other


def test_anonymous_twins_of_one_file_are_two_and_come_back_as_the_same_two(tmp_path: Path) -> None:
    other = VOTE | {"choice": "b"}
    first, again, grown = hashes(
        tmp_path, [VOTE, other, VOTE], [other, VOTE, VOTE], [VOTE, other, VOTE, VOTE]
    )
    assert len(set(first)) == 3 and set(again) == set(first)
    assert grown[:3] == first and grown[3] not in first


@pytest.mark.parametrize(
    "name", [{"id": "1"}, {"annotator_id": "w"}, {"occurred_at": "2026-01-02T03:04:05Z"}]
)
def test_a_named_event_that_stands_twice_in_a_file_is_one(
    name: dict[str, Any], tmp_path: Path
) -> None:
    ((one, again),) = hashes(tmp_path, [VOTE | name, VOTE | name])
    assert one == again


def test_a_moment_is_the_same_in_any_zone(tmp_path: Path) -> None:
    moments = ("2026-01-02T03:04:05Z", "2026-01-02T05:04:05+02:00")
    (one,), (other,) = hashes(tmp_path, *([VOTE | {"occurred_at": at}] for at in moments))
    assert one == other


def test_every_field_of_a_kind_enters_its_event_but_for_the_models() -> None:
    for kind, record in KINDS.items():
        own = set(record.__struct_fields__) - set(Record.__struct_fields__)
        entered = {name.removesuffix("_keys").removesuffix("_key") for name in SAID[kind]}
        entered |= {"responses"} if "response_keys" in SAID[kind] else set()
        assert own - entered <= {"model", "models", "model_a", "model_b"}
        assert {*WHO, *SAID[kind]} <= set(SCHEMAS[kind].names)
