"""Chats, pairs and tasks as trainers of models keep them, with the traps of each format."""

import copy
import functools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flywheel.errors import IngestError, RecordError
from flywheel.ingest import land
from flywheel.ingest.formats import FORMATS, named, recognise
from flywheel.ingest.intake import UNFIT
from flywheel.lake import read_folder
from flywheel.layout import Layout
from flywheel.records import (
    Comparison,
    Demonstration,
    EvaluationPrompt,
    Interaction,
    Record,
    StepRating,
)
from flywheel.records.message import load, text_of
from tests.test_ingest_nulls import ROWS

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
USER = [{"role": "user", "content": "The sky is"}]
GOOD = [{"role": "assistant", "content": "blue."}]
BAD = [{"role": "assistant", "content": "green."}]


def read(format: str, value: dict[str, Any]) -> Sequence[Record]:
    assert recognise([value])[0] == format
    return named(format).read(value)


def call(arguments: Any) -> dict[str, Any]:
    function = {"name": "add", "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": function}]}


# ---- OpenAI -----------------------------------------------------------------------------------


def test_arguments_as_text_are_openais_and_arguments_as_an_object_are_trls() -> None:
    said = []
    for format, arguments in (("openai", '{"a":2}'), ("trl", {"a": 2})):
        (found,) = read(format, {"messages": [*USER, call(arguments)]})
        said.append(found)
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("beside", "grader", "reference"),
    [
        ({"reference_answer": "1,042.50"}, "numeric_answer", "1,042.50"),
        ({"reference_answer": 42}, "numeric_answer", "42"),
        ({"solution": "blue"}, "exact", "blue"),
        ({"rules": [{"must": "be short"}]}, "reward_model", None),
    ],
)
def test_a_chat_that_waits_for_an_answer_beside_grader_data_is_a_task_and_is_held_out(
    beside: dict[str, Any], grader: str, reference: str | None
) -> None:
    (found,) = read("openai", {"messages": USER, "tools": [{"type": "function"}], **beside})
    assert isinstance(found, EvaluationPrompt)
    assert (found.grader, found.reference) == (grader, reference)
    assert found.evaluation_set == "openai_reinforcement"
    assert found.metadata["tools"] == [{"type": "function"}]
    assert ("rules" in found.metadata) == (reference is None)


def test_an_answered_chat_with_something_beside_it_is_not_taken_for_one_to_imitate() -> None:
    assert recognise([{"messages": USER + GOOD, "score": 0.1}])[0] == "raw"
    assert recognise([{"messages": USER + GOOD, "text": "The sky is blue."}])[0] == "raw"
    (found,) = named("openai").read({"messages": USER + GOOD, "id": 7})
    assert isinstance(found, Demonstration)  # where somebody says that it is
    assert found.metadata == {"id": 7}


def test_a_rejected_response_beside_a_chat_is_the_side_that_lost() -> None:
    for rejected in ("green.", BAD):
        (found,) = read("openai", {"messages": USER + GOOD, "rejected_response": rejected})
        assert isinstance(found, Comparison) and found.choice == "a"
        assert text_of(found.response_a) == "blue."  # type: ignore[arg-type]
        assert text_of(found.response_b) == "green."  # type: ignore[arg-type]
    with pytest.raises(RecordError, match="must be the preferred one"):
        named("openai").read({"messages": USER, "rejected_response": "green."})


def test_a_side_of_a_preference_may_use_tools() -> None:
    side = [call('{"a":2}'), {"role": "tool", "tool_call_id": "1", "content": "2"}, *GOOD]
    value = {"input": {"messages": USER}, "preferred_output": side, "non_preferred_output": BAD}
    (found,) = read("openai", value)
    assert isinstance(found, Comparison) and len(found.response_a) == 3


# ---- TRL --------------------------------------------------------------------------------------


def test_each_step_with_a_label_is_rated_with_all_before_it() -> None:
    first, second = read(
        "trl", {"prompt": "2+3*4?", "completions": ["3*4=12", "2+12=15"], "labels": [True, False]}
    )
    assert isinstance(first, StepRating) and isinstance(second, StepRating)
    assert [(one.rating, one.rating_min, one.rating_max) for one in (first, second)] == [
        (1, 0, 1),
        (0, 0, 1),
    ]
    assert second.steps[:1] == first.steps and second.steps[1].content == "2+12=15"
    assert first.annotator_id is None


@pytest.mark.parametrize("labels", [[True], [True, None], ["yes", "no"], None, []])
def test_steps_without_a_label_each_are_refused(labels: Any) -> None:
    steps = {"prompt": "q", "completions": ["a", "b"], "labels": labels}
    with pytest.raises(RecordError, match="labels must"):
        named("trl").read(steps)


def test_an_implicit_prompt_is_cut_in_whole_messages_and_never_in_characters() -> None:
    alike = [{"role": "assistant", "content": "blue and wide."}]
    (found,) = read("trl", {"chosen": USER + GOOD, "rejected": USER + alike})
    assert isinstance(found, Comparison) and text_of(found.conversation) == "The sky is"
    assert text_of(found.response_a) == "blue."  # type: ignore[arg-type]
    longer = USER + GOOD + USER + BAD
    (found,) = read("trl", {"chosen": longer, "rejected": USER + GOOD})
    assert isinstance(found, Comparison) and len(found.conversation) == 1
    assert [len(side) for side in (found.response_a, found.response_b)] == [3, 1]


def test_prompts_alone_are_tasks_in_messages_and_a_column_like_any_other_in_text() -> None:
    (found,) = read("trl", {"prompt": USER, "answer": "blue"})
    assert isinstance(found, EvaluationPrompt) and found.reference == "blue"
    assert recognise([{"prompt": "The sky is", "answer": "blue"}])[0] == "raw"
    (found,) = named("trl").read({"prompt": "The sky is", "answer": "blue"})
    assert isinstance(found, EvaluationPrompt) and found.evaluation_set == "trl_prompts"


def test_text_that_nothing_asks_for_is_refused() -> None:
    with pytest.raises(RecordError, match="there is no prompt"):
        named("trl").read({"text": "The sky is blue."})


def test_tools_may_be_json_text() -> None:
    for tools in ([{"name": "add"}], '[{"name":"add"}]'):
        (found,) = read("trl", {"messages": [*USER, call({"a": 2})], "tools": tools})
        assert found.metadata == {"tools": [{"name": "add"}]}
    with pytest.raises(RecordError, match="tools are not JSON"):
        named("trl").read({"messages": [*USER, call({"a": 2})], "tools": "[{"})


# ---- OpenRLHF ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        {"input": "The sky is", "output": "blue."},
        {"input": USER, "output": GOOD},
        {"input": USER + GOOD},
    ],
)
def test_input_and_output_are_a_demonstration_in_each_of_their_forms(value: dict[str, Any]) -> None:
    (found,) = read("openrlhf", value)
    assert isinstance(found, Demonstration)
    assert (text_of(found.conversation), text_of(found.response)) == ("The sky is", "blue.")  # type: ignore[arg-type]


def test_a_margin_and_a_source_are_kept_and_a_label_is_for_the_grader() -> None:
    pair = {"prompt": "The sky is", "chosen": "blue.", "rejected": "green.", "margin": 0.3}
    (found,) = read("openrlhf", pair)
    assert isinstance(found, Comparison) and found.metadata == {"margin": 0.3}
    (asked,) = read("openrlhf", {"input": "2+3?", "label": "5", "datasource": "sums"})
    assert isinstance(asked, EvaluationPrompt) and asked.reference == "5"
    assert asked.metadata == {"datasource": "sums"}


def test_whole_dialogues_must_be_alike_but_for_the_last_message() -> None:
    (found,) = read("openrlhf", {"chosen": USER + GOOD, "rejected": USER + BAD, "margin": 0.0})
    assert isinstance(found, Comparison) and text_of(found.conversation) == "The sky is"
    longer = {"chosen": USER + GOOD + USER + GOOD, "rejected": USER + BAD, "margin": 0.0}
    with pytest.raises(RecordError, match="land the file as trl"):
        read("openrlhf", longer)


def test_instructions_with_an_input_are_not_taken_for_openrlhf() -> None:
    assert recognise([{"instruction": "Add.", "input": "2+3", "output": "5"}])[0] == "raw"


# ---- ShareGPT ---------------------------------------------------------------------------------


def said(who: str, value: str) -> dict[str, Any]:
    return {"from": who, "value": value}


def test_calls_and_observations_of_sharegpt_are_turns_with_tools() -> None:
    turns = [
        said("human", "2+3?"),
        said("function_call", '{"name": "add", "arguments": {"a": 2, "b": 3}}'),
        said("observation", "5"),
        said("gpt", "It is 5."),
    ]
    called, told = read("sharegpt", {"conversations": turns, "tools": '[{"name":"add"}]'})
    assert isinstance(called, Demonstration) and isinstance(told, Demonstration)
    assert called.response[0].tool_calls[0].arguments == {"a": 2, "b": 3}  # type: ignore[union-attr]
    assert [turn.role for turn in told.conversation] == ["user", "assistant", "tool"]
    assert told.metadata == {"tools": [{"name": "add"}]}
    (bare, _) = read("sharegpt", {"conversations": turns, "tools": "[]"})
    assert bare.metadata == {}
    with pytest.raises(RecordError, match="function_call is not JSON"):
        read("sharegpt", {"conversations": [turns[0], said("function_call", "add(2, 3)")]})


def test_a_system_text_counts_beside_the_conversation_as_in_it() -> None:
    turns = [said("human", "q"), said("gpt", "a")]
    inside = read("sharegpt", {"conversations": [said("system", "Be brief."), *turns]})
    assert inside == read("sharegpt", {"conversations": turns, "system": "Be brief."})


def test_sides_of_sharegpt_are_single_turns_and_a_kto_tag_is_a_thumb() -> None:
    asked = {"conversations": [said("human", "q")]}
    (pair,) = read("sharegpt", asked | {"chosen": said("gpt", "a"), "rejected": said("gpt", "b")})
    assert isinstance(pair, Comparison) and pair.choice == "a" and pair.annotator_id is None
    whole = {"conversations": [said("human", "q"), said("gpt", "a")]}
    (thumb,) = read("sharegpt", whole | {"kto_tag": False})
    assert isinstance(thumb, Interaction) and thumb.thumbs == "down"
    for wrong in (whole | {"kto_tag": "no"}, asked | {"kto_tag": True}):
        with pytest.raises(RecordError, match="kto_tag"):
            read("sharegpt", wrong)


# ---- hh-rlhf ----------------------------------------------------------------------------------


def test_the_words_human_and_assistant_inside_a_paragraph_begin_no_turn() -> None:
    asked = "\n\nHuman: Say:\nHuman: hi\n\nAssistant: Human: hi\n\nHuman: More, Assistant: please"
    value = {"chosen": f"{asked}\n\nAssistant: sure", "rejected": f"{asked}\n\nAssistant: no"}
    (found,) = read("hh_rlhf", value)
    assert isinstance(found, Comparison)
    assert [(turn.role, turn.content) for turn in found.conversation] == [
        ("user", "Say:\nHuman: hi"),
        ("assistant", "Human: hi"),
        ("user", "More, Assistant: please"),
    ]
    assert text_of(found.response_a) == "sure"  # type: ignore[arg-type]


def test_dialogues_that_open_differently_have_no_prompt() -> None:
    value = {"chosen": "\n\nHuman: a\n\nAssistant: x", "rejected": "\n\nHuman: b\n\nAssistant: y"}
    with pytest.raises(RecordError, match="share no beginning"):
        read("hh_rlhf", value)
    with pytest.raises(RecordError, match="must begin with"):
        named("hh_rlhf").read(value | {"rejected": "Human: a"})


# ---- which format it is -----------------------------------------------------------------------


def test_the_evidence_says_which_keys_in_how_many_objects() -> None:
    rows: list[dict[str, Any]] = [{"chosen": USER + GOOD, "rejected": USER + BAD}] * 3
    format, sure, why = recognise([*rows, {"other": 1}])
    assert (format, sure) == ("trl", pytest.approx(0.75 * 0.95))
    assert why.endswith("in 3 of the first 4 objects, which have chosen, rejected")


def test_a_file_that_two_formats_match_equally_well_is_refused_until_one_is_named(
    tmp_path: Path,
) -> None:
    rows = [{"messages": USER + GOOD}, {"prompt": "p", "completion": "c"}] * 4
    with pytest.raises(IngestError, match=r"match equally well: openai .* and trl"):
        recognise(rows)
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    (batch,) = land([path], Layout(tmp_path / "home"), log=lambda _: None)
    assert batch.blocked and batch.rows_by_kind == {} and "--format" in batch.blocked_because
    layout = Layout(tmp_path / "home")
    (batch,) = land([path], layout, format="trl", log=lambda _: None)
    assert not batch.blocked and batch.rows_by_kind == {"demonstration": 8}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a JSON value, by the keys and numbers that lead to it."""
    inner = value if isinstance(value, dict) else {}
    if isinstance(value, list):
        inner = dict(enumerate(value))
    for key, item in inner.items():
        yield (*path, key)
        yield from places(item, (*path, key))


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_no_reader_and_no_sniffing_breaks_on_a_row_with_anything_anywhere(data: Any) -> None:
    format = data.draw(st.sampled_from(sorted(ROWS)))
    row = copy.deepcopy(data.draw(st.sampled_from(ROWS[format])))
    *path, last = data.draw(st.sampled_from(list(places(row))))
    functools.reduce(lambda value, key: value[key], path, row)[last] = data.draw(JSON)
    for one in FORMATS.values():
        assert 0 <= one.sniff(row) <= 1
    try:
        found = FORMATS[format].read(row)
    except (RecordError, msgspec.ValidationError, *UNFIT):
        return  # a reason for quarantine, as landing takes it
    assert all(isinstance(one, Record) for one in found)


# ---- real files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "format", "rows", "records"),
    [
        ("dpo_en_demo.json", "sharegpt", 299, {"comparison": 299}),
        ("kto_en_demo.json", "trl", 300, {"interaction": 300}),
        # 746 answers and 211 calls
        ("glaive_toolcall_en_demo.json", "sharegpt", 300, {"demonstration": 957}),
    ],
)
def test_the_real_samples_land_whole(
    name: str, format: str, rows: int, records: dict[str, int], tmp_path: Path
) -> None:
    path = DATA / "trl_samples" / name
    if not path.exists():
        pytest.skip(f"{path} is not there: the shared data lie beside a checkout of the project")
    (batch,) = land([path], Layout(tmp_path), log=lambda _: None)
    assert (batch.format, batch.rows, batch.quarantined) == (format, rows, 0)
    assert batch.rows_by_kind == records
    if "demonstration" in records:
        table = read_folder(Layout(tmp_path).landing("demonstration"), ["response"])
        turns = [turn for text in table["response"].to_pylist() for turn in load(text)]
        assert sum(len(turn.tool_calls) for turn in turns) == 211
    if "interaction" in records:
        thumbs = read_folder(Layout(tmp_path).landing("interaction"))["thumbs"].to_pylist()
        assert thumbs.count("up") == thumbs.count("down") == 150
