"""Feedback at its door: what is acknowledged is one thing, lands, and blocks nobody else's."""

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from flywheel.ingest import land
from flywheel.layout import Layout
from flywheel.privacy import Policy
from flywheel.serve.asked import Refused, asked_of, parsed
from flywheel.serve.delivery import deliver
from flywheel.serve.feedback import FOLDER, Feedback
from flywheel.serve.ids import Names
from flywheel.serve.log import Rows, ServedLog
from flywheel.serve.screening import Screen
from flywheel.serve.settings import ServeSettings


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def answered(layout: Layout) -> str:
    """The id of an answer that stands in the log."""
    names = Names(layout)
    row = {
        "response_id": names.response_id(),
        "at": "2026-11-26T22:00:00.000+00:00",
        "generation": "g0001",
        "checkpoint_kind": "policy",
        "content_hash": "h",
        "stage": "champion",
        "propensity": 0.9,
        "user": names.user("bob"),
        "prompt_key": "k",
        "request": {"messages": [{"role": "user", "content": "say red"}]},
        "response": "red .",
        "consent": True,
        "personal_data": [],
        "trains": True,
    }
    log = ServedLog(layout.served)
    log.append(row)
    log.close()
    return str(row["response_id"])


def desk(layout: Layout) -> Feedback:
    screen = Screen(layout, Policy(policy="redact"))
    return Feedback(layout, ServeSettings(), Names(layout), screen)


def by_bob(response_id: str, **said: Any) -> dict[str, Any]:
    return {"response_id": response_id, "author": "bob", "author_kind": "person", **said}


@pytest.mark.parametrize(
    "wrong",
    [
        '"rating": 0, "rating_min": -Infinity, "rating_max": Infinity',
        '"rating": NaN, "rating_min": 0, "rating_max": 1',
        '"rating": 0, "rating_min": 0, "rating_max": 1e400',
        r'"comment": "half \ud800"',
        r'"comment": "fine", "author": "\udfff"',
        r'"comment": "fine", "key": "\ud800"',
    ],
)
def test_what_landing_cannot_read_is_no_json_at_the_door_either(wrong: str) -> None:
    with pytest.raises(Refused, match="is no JSON"):
        parsed(f"{{{wrong}}}".encode())
    assert parsed(rb'{"comment": "whole \ud83d\ude00"}') == {"comment": "whole \U0001f600"}


@pytest.mark.parametrize("arguments", ['{"a": Infinity}', r'{"a": "\ud800"}', "[" * 100_000])
def test_arguments_of_a_tool_are_read_as_landing_reads_them(arguments: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    turns = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "y", "tool_call_id": "1"},
    ]
    with pytest.raises(Refused, match="cannot be read"):
        asked_of({"messages": turns}, ServeSettings())


def test_a_record_that_landing_cannot_read_is_refused_and_not_acknowledged(
    layout: Layout,
) -> None:
    mine = answered(layout)
    with pytest.raises(Refused, match="cannot be landed"):
        desk(layout).take(by_bob(mine, comment="half \ud800"))
    assert list(Rows(layout.served / FOLDER)) == []


@pytest.mark.parametrize(
    ("low", "value", "high"),
    [(-1e308, 1e308, 1e308), (0, 10**400, 10**401), (2**53, 2**53, 2**53 + 1), (True, 1, 2)],
    ids=["width of no number", "beyond floats", "of no width", "no number"],
)
def test_a_rating_needs_a_scale_whose_width_is_a_number(
    layout: Layout, low: float, value: float, high: float
) -> None:
    said = {"rating": value, "rating_min": low, "rating_max": high}
    with pytest.raises(Refused, match="all finite"):
        desk(layout).take(by_bob("resp", **said))


def test_lines_that_an_older_server_let_through_block_nobodys_feedback(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = answered(layout)
    desk(layout).take(by_bob(mine, thumbs="up"))
    (path,) = (layout.served / FOLDER).glob("[0-9]*.jsonl")
    row = json.loads(path.read_text())
    for place, critique in enumerate(("half \ud800", float("inf"))):
        record = {**row["record"], "kind": "critique", "critique": critique}
        with path.open("a") as file:
            file.write(json.dumps(row | {"feedback_id": f"fb-{place}", "record": record}) + "\n")
    assert deliver(layout) == 1
    assert capsys.readouterr().err.count("landing cannot read it") == 2
    (batch,) = land([layout.inbox], layout, log=lambda line: None)
    assert not batch.blocked and sum(batch.new_rows_by_kind.values()) == 1


def say(home: Path, response_id: str, thumbs: str, start: Any, answers: Any) -> None:
    """Another server: all of its keys at once with the other's."""
    server = desk(Layout(home))
    start.wait()
    for key in range(100):
        try:
            told = server.take(by_bob(response_id, thumbs=thumbs, key=str(key)))
            answers.put((told["feedback_id"], thumbs))
        except Refused as error:
            answers.put((error.status, thumbs))
    server.close()


def test_two_servers_take_one_feedback_under_one_key(layout: Layout) -> None:
    mine = answered(layout)
    spawn = multiprocessing.get_context("spawn")
    start, answers = spawn.Barrier(2), spawn.Queue()
    servers = [
        spawn.Process(target=say, args=(layout.root, mine, thumbs, start, answers))
        for thumbs in ("up", "down")
    ]
    for one in servers:
        one.start()
    told = [answers.get(timeout=60) for _ in range(200)]
    for one in servers:
        one.join()
    written = [(one["feedback_id"], one["value"]) for one in Rows(layout.served / FOLDER)]
    assert sorted(written) == sorted(one for one in told if one[0] != 409)
    assert len({feedback_id for feedback_id, _ in written}) == len(written) == 100
    assert deliver(layout) == 100
