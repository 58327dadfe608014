"""A model is told of the tools that its rows had, or it is counted that it was not."""

import json
from pathlib import Path
from typing import Any

import pytest

from flywheel.datasets.render import render, render_all
from flywheel.datasets.tools import render_with_tools
from flywheel.records.message import dump, prompt_of, response_of
from flywheel.records.tools import load_tools
from flywheel.train.data import Reader
from flywheel.train.ratings import RatingReader
from tests.chat_templates import FAMILIES, stops_of, tokenizer_of
from tests.models_for_tests import freeze

BARE = {"name": "look_up", "parameters": {"type": "object"}}
TOOLS = json.dumps([BARE])
SAID = [("say red", TOOLS), ("say red", None), ("say blue", "not JSON"), ("say blue", "[]")]
ROWS: list[dict[str, Any]] = [
    {"prompt": dump(prompt_of(asked)), "tools": tools, "response": dump(response_of("it is"))}
    | {"response_a": dump(response_of("a")), "response_b": dump(response_of("b"))}
    | {"probability_a": 0.9, "response_a_key": "a", "response_b_key": "b", "record_uids": ["u"]}
    | {"prompt_key": f"{place}", "steps": dump(response_of("s")), "score_frac": 1.0}
    | {"criterion": "rating", "outcome": "passed"}
    for place, (asked, tools) in enumerate(SAID)
]


@pytest.mark.parametrize("family", ["qwen 2.5", "llama 3"])
def test_every_way_to_train_tells_of_tools_where_the_template_writes_them(
    family: str, tmp_path: Path
) -> None:
    tokenizer = tokenizer_of(FAMILIES[family])
    stops = stops_of(FAMILIES[family], tokenizer)
    folder = freeze(tmp_path / "d", train=ROWS)
    writes = family == "qwen 2.5"

    def texts(named: str, kind: type[Reader] = Reader, **options: Any) -> list[Any]:
        reader = kind(folder, tokenizer, stops, 4096)
        found = getattr(reader, named)("train", **options)
        assert reader.counts()["tools_untold_count"] == (1 if writes else 2)
        return [one.texts[0] if hasattr(one, "texts") else one.text for one in found]

    for said, found in (
        ("it is", texts("demonstrations")),
        ("a", texts("groups", max_responses=4)),
        ("a", texts("pairs", min_margin=0.1)),
        ("s", texts("step_ratings")),
        ("s", texts("outcomes", weight=1.0)),
        ("it is", texts("ratings", RatingReader, criterion="rating", threshold=0.5, seed=0)),
    ):
        for at, ((asked, _), text) in enumerate(zip(SAID, found, strict=True)):
            plain = render(
                tokenizer,
                prompt_of(asked),
                response_of(said),
                max_tokens=4096,
                stop_ids=stops,
            )
            assert plain
            told = tokenizer.decode(text.ids[: text.start])
            assert ("look_up" in told) == (text != plain) == (writes and at == 0)
            assert text.ids[text.start :] == plain.ids[plain.start :]


def test_an_evaluation_reads_what_training_read(tmp_path: Path) -> None:
    tokenizer = tokenizer_of(FAMILIES["qwen 2.5"])
    options: dict[str, Any] = {
        "max_tokens": 4096,
        "stop_ids": stops_of(FAMILIES["qwen 2.5"], tokenizer),
    }
    reader = Reader(freeze(tmp_path / "d", train=ROWS), tokenizer, options["stop_ids"], 4096)
    trained = [one.text for one in reader.demonstrations("train")]
    prompts, responses = [prompt_of(asked) for asked, _ in SAID], [response_of("it is")] * 4
    tools = [given for _, given in SAID]
    assert render_with_tools(tokenizer, prompts, responses, tools, **options) == trained
    plain = render_all(tokenizer, prompts, responses, **options)
    assert render_with_tools(tokenizer, prompts, responses, **options) == plain != trained


def test_definitions_are_put_in_the_shape_that_templates_take() -> None:
    whole = {"type": "function", "function": BARE}
    assert load_tools(TOOLS) == load_tools(json.dumps([{"type": "function", **BARE}])) == [whole]
    assert load_tools(json.dumps([whole, {"type": "custom", "name": "x"}])) == [
        whole,
        {"type": "custom", "name": "x"},
    ]
    assert load_tools(None) == load_tools("[]") == load_tools("null") == []
    assert load_tools("{") is load_tools('{"name":"f"}') is load_tools('["f"]') is None
