"""The endpoint: OpenAI's client, the log before the answer, feedback, kills, and who answers."""

import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn

from flywheel.ingest import land
from flywheel.layout import Layout
from flywheel.models.publish import publish
from flywheel.privacy import Policy
from flywheel.promotion import (
    Decision,
    Ledger,
    decide_and_record,
    rollback,
    standing,
    title_holder,
)
from flywheel.promotion.reigns import about, holder_of
from flywheel.promotion.title import settle
from flywheel.rollout import Policy as Model
from flywheel.serve.app import Endpoint, application
from flywheel.serve.asked import asked_of
from flywheel.serve.delivery import deliver
from flywheel.serve.feedback import find
from flywheel.serve.ids import Names
from flywheel.serve.log import Rows, ServedLog
from flywheel.serve.online import decide_stage, look
from flywheel.serve.settings import ServeSettings
from tests.models_for_tests import reward_of, tiny
from tests.test_server import Completions, Served

Call = dict[str, Any]
WEIGHTS = "model.safetensors"
SAY_RED = {"role": "user", "content": "say red"}
ASK: Call = {"model": "champion", "messages": [SAY_RED], "seed": 3}  # drawn: an answer may be empty
FAST: Call = {"poll_seconds": 0.1, "deliver_seconds": 3600.0, "most_tokens": 12}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two policies and a reward model, made once."""
    folder = tmp_path_factory.mktemp("models")
    for number in (1, 2):
        tiny(folder / f"g000{number}", seed=number)
    reward_of(folder / "g0001", folder / "reward")
    return folder


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def promote(layout: Layout, models: Path, generation: str, **options: Any) -> str:
    """A checkpoint put forward by the gate; its content hash."""
    manifests = {
        kind: publish(
            layout.checkpoint(kind, generation),
            lambda draft, name=name: shutil.copytree(models / name, draft, dirs_exist_ok=True),
            {},
        )
        for kind, name in (("policy", generation), ("reward_model", "reward"))
    }
    evidence = layout.evaluation(generation) / "result.json"
    evidence.parent.mkdir(parents=True)
    evidence.write_text('{"evaluation_sets": []}')
    now = title_holder(layout)
    decide_and_record(
        layout,
        generation,
        Decision(decision="PROMOTE", reasons=["better"]),
        content_hash=manifests["policy"]["content_hash"],
        compared_with=now.content_hash if now else "",
        **{"human_approval": False} | options,
    )
    return str(manifests["policy"]["content_hash"])


@contextlib.contextmanager
def serving(
    layout: Layout, policy: str = "redact", **settings: Any
) -> Iterator[tuple[int, openai.OpenAI]]:
    """The endpoint on a free port, in a thread of this process."""
    made = application(layout, ServeSettings(**FAST | settings), Policy(policy=policy))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(made, port=port, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield port, client(port)
    finally:
        server.should_exit = True
        thread.join()


def client(port: int) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)


def until(holds: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.05)


def call(
    port: int, method: str, path: str, body: Any = None, kind: str = "application/json"
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, data, {"content-type": kind})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


def rows(layout: Layout) -> list[dict[str, Any]]:
    return list(Rows(layout.served))


def judge(port: int, response_id: str, **said: Any) -> tuple[int, Any]:
    body = {"response_id": response_id, "author": "ada", "author_kind": "person"} | said
    return call(port, "POST", "/v1/feedback", body)


def test_openais_client_gets_answers_streams_models_and_errors(
    layout: Layout, models: Path
) -> None:
    content_hash = promote(layout, models, "g0001")
    with serving(layout) as (_, api):
        assert [one.id for one in api.models.list()] == ["champion", "g0001"]
        whole = api.chat.completions.create(**ASK, user="ada lovelace")
        assert whole.model == "g0001" and whole.system_fingerprint == content_hash[:12]
        assert whole.usage and whole.usage.completion_tokens <= 12
        streamed = list(
            api.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
        )
        text = "".join(one.choices[0].delta.content or "" for one in streamed if one.choices)
        assert text == whole.choices[0].message.content  # the same seed
        assert streamed[-2].choices[0].finish_reason == whole.choices[0].finish_reason
        assert streamed[-1].usage and streamed[-1].usage == whole.usage
        assert api.chat.completions.create(**ASK | {"model": "g0001"}).id != whole.id
        for wrong, error in (
            ({"model": "gpt-4"}, openai.NotFoundError),
            ({"top_p": 0.5}, openai.BadRequestError),
            ({"temperature": 9}, openai.BadRequestError),
            ({"messages": []}, openai.BadRequestError),
            ({"messages": [{"role": "assistant", "content": "x"}]}, openai.BadRequestError),
            ({"messages": [{"role": "user", "content": "red " * 99}]}, openai.BadRequestError),
        ):
            with pytest.raises(error):
                api.chat.completions.create(**ASK | wrong)
    kept = rows(layout)
    first = kept[0]
    assert first["response_id"] == whole.id
    assert (first["generation"], first["content_hash"]) == ("g0001", content_hash)
    assert (first["stage"], first["propensity"], first["checkpoint_kind"]) == (
        "champion",
        1.0,
        "policy",
    )
    assert len(first["token_ids"]) == len(first["logprobs"]) == first["response_tokens"]
    assert first["user"].startswith("u-") and "lovelace" not in json.dumps(kept)


def test_what_is_no_request_is_told_in_openais_shape(layout: Layout, models: Path) -> None:
    promote(layout, models, "g0001")
    path = "/v1/chat/completions"
    with serving(layout, most_body_bytes=1000) as (port, _):
        for status, found in (
            (400, call(port, "POST", path, b"{nope")),
            (400, call(port, "POST", path, b"[1]")),
            (400, call(port, "POST", path, b"[" * 900)),
            (400, call(port, "POST", path, b'{"messages":[{"role":"user","content":"\\ud800"}]}')),
            (400, call(port, "POST", path, {"messages": [{"role": "god", "content": "x"}]})),
            (400, call(port, "POST", path, {"messages": "x", "seed": 1})),
            (400, call(port, "POST", path, ASK | {"seed": 1e400})),
            (413, call(port, "POST", path, b" " * 1001)),
            (415, call(port, "POST", path, ASK, kind="text/plain")),
            (404, call(port, "GET", "/v1/nothing")),
            (405, call(port, "GET", path)),
        ):
            assert found[0] == status, found
            assert found[1]["error"].keys() == {"message", "type", "param", "code"}
    assert rows(layout) == []


def test_without_a_champion_the_answer_is_503_and_with_the_first_it_begins(
    layout: Layout, models: Path
) -> None:
    with serving(layout) as (port, api):
        status, told = call(port, "POST", "/v1/chat/completions", ASK)
        assert status == 503 and "there is no champion" in told["error"]["message"]
        assert call(port, "GET", "/health")[0] == 503
        assert list(api.models.list()) == []
        promote(layout, models, "g0001")
        until(lambda: call(port, "GET", "/health")[0] == 200)
        assert api.chat.completions.create(**ASK).model == "g0001"


def test_a_new_champion_and_a_rollback_are_followed_without_a_restart(
    layout: Layout, models: Path
) -> None:
    promote(layout, models, "g0001")
    with serving(layout) as (_, api):
        assert api.chat.completions.create(**ASK).model == "g0001"
        promote(layout, models, "g0002")
        until(lambda: api.chat.completions.create(**ASK).model == "g0002")
        rollback(layout, by="ada", reason="complaints")
        until(lambda: api.chat.completions.create(**ASK).model == "g0001", seconds=10)


def test_weights_that_are_not_the_champions_are_refused_and_the_old_ones_go_on(
    layout: Layout, models: Path
) -> None:
    promote(layout, models, "g0001")
    with serving(layout) as (port, api):
        promote(layout, models, "g0002", human_approval=True)
        (layout.checkpoint("policy", "g0002") / WEIGHTS).write_bytes(b"torn")
        with Ledger(layout).appending() as (entries, append):  # torn after `approve` has looked
            said = {"action": "APPROVE", "reasons": ["read"], "by": "ada", "champion": "g0002"}
            append(**said, **about(entries[-1]))
            settle(layout, holder_of(entries))
        until(lambda: call(port, "GET", "/health")[1]["fault"])
        told = call(port, "GET", "/health")[1]
        assert "is not what manifest.json says" in told["fault"] and told["champion"] == "g0001"
        assert who(api) == "g0001"
        assert "manifest.json says" in (layout.registry / "alerts.jsonl").read_text()
        shutil.copy(models / "g0002" / WEIGHTS, layout.checkpoint("policy", "g0002"))
        until(lambda: who(api) == "g0002")  # restored, and taken without a restart


def who(api: openai.OpenAI) -> str:
    return str(api.chat.completions.create(**ASK).model)


MAIL = {"messages": [{"role": "user", "content": "say red to ann.lee@mail.desk"}]}


@pytest.mark.parametrize("policy", ["redact", "exclude", "refuse", "allow"])
def test_personal_data_is_out_of_the_line_before_it_is_written(
    layout: Layout, models: Path, policy: str
) -> None:
    promote(layout, models, "g0001")
    with serving(layout, policy) as (port, api):
        asked = api.chat.completions.create(**ASK | MAIL)
        judge(port, asked.id, comment="write to bob.ray@mail.desk")
        plain = api.chat.completions.create(**ASK)
        judge(port, plain.id, comment="write to bob.ray@mail.desk")
        judge(port, plain.id, thumbs="up")
    written = b"".join(path.read_bytes() for path in layout.served.rglob("*.jsonl")).decode()
    row = rows(layout)[0]
    assert ("mail.desk" in written) == (policy == "allow")
    if policy == "allow":
        assert row["token_ids"] and row["personal_data"] == []
    else:
        assert row["personal_data"] == ["email"] and row["token_ids"] is row["logprobs"] is None
    if policy == "refuse":
        assert row["request"] is row["response"] is row["prompt_key"] is None
    said = list(Rows(layout.served / "feedback"))
    landed = [bool(one["record"]) for one in said]
    trains = policy in ("redact", "allow")
    assert landed == [trains, trains, True]
    assert len(said) == 3  # what is withheld from landing counts all the same


def test_nothing_is_kept_of_who_does_not_consent_but_numbers(layout: Layout, models: Path) -> None:
    promote(layout, models, "g0001")
    with serving(layout) as (port, api):
        asked = api.chat.completions.create(**ASK, user="ada", store=False)
        assert judge(port, asked.id, thumbs="up")[0] == 200
    (row,) = rows(layout)
    texts = ("user", "prompt_key", "request", "response", "token_ids", "logprobs")
    assert all(row[name] is None for name in texts) and row["response_tokens"] > 0
    (said,) = Rows(layout.served / "feedback")
    assert said["record"] is None and not said["is_own"]
    with serving(layout, store_by_default=False) as (_, api):
        api.chat.completions.create(**ASK, user="ada")
        api.chat.completions.create(**ASK, user="ada", store=True)
    assert [one["consent"] for one in rows(layout)] == [False, False, True]


def test_feedback_of_every_kind_comes_through_landing_as_records(
    layout: Layout, models: Path
) -> None:
    promote(layout, models, "g0001")
    with serving(layout) as (port, api):
        one, two = (api.chat.completions.create(**ASK | {"seed": n}, user="ada").id for n in (1, 5))
        for said in (
            {"thumbs": "up"},
            {"rating": 4, "rating_min": 1, "rating_max": 5},
            {"corrected_response": "red it is ."},
            {"comment": "too long"},
            {"comparison": {"other": two, "choice": "other"}},
        ):
            status, told = judge(port, one, **said)
            assert status == 200 and not told["duplicate"]
            assert judge(port, one, **said)[1] == told | {"duplicate": True}
    (layout.root / "served" / "feedback" / "delivered.json").unlink()
    assert deliver(layout) == 5  # as after a kill between the two writes
    batches = land([layout.inbox], layout, log=lambda line: None)
    counted: dict[str, int] = {}
    for batch in batches:
        for kind, count in batch.new_rows_by_kind.items():
            counted[kind] = counted.get(kind, 0) + count
    assert counted == {"interaction": 2, "rating": 1, "critique": 1, "comparison": 1}
    assert all(not batch.blocked for batch in batches)


def test_forged_ids_strangers_fields_and_floods_are_refused(layout: Layout, models: Path) -> None:
    promote(layout, models, "g0001")
    with serving(layout, feedback_per_day=3) as (port, api):
        mine = api.chat.completions.create(**ASK).id
        forged = mine[:-1] + ("0" if mine[-1] != "0" else "1")
        other = mine.replace("-20", "-21", 1)
        for wrong in (forged, other, "resp-1", "../../etc/passwd"):
            status, told = judge(port, wrong, thumbs="up")
            assert (status, told["error"]["code"]) == (404, "not_found")
        for wrong_field in (
            {"author_kind": None},
            {"author_kind": "god"},
            {"author": " "},
            {"thumbs": "sideways"},
            {"thumbs": "up", "comment": "x"},
            {"rating": 4},
            {"rating": float("nan"), "rating_min": 1, "rating_max": 5},
            {"stars": 5},
            {"comparison": {"other": mine, "choice": "this"}},
            {},
        ):
            said = {"thumbs": "up"} if "author" in str(wrong_field) else {}
            assert judge(port, mine, **said | wrong_field)[0] == 400, wrong_field
        assert judge(port, mine, thumbs="up", key="k")[0] == 200
        assert judge(port, mine, thumbs="down", key="k")[0] == 409
        for word in ("a", "b"):
            assert judge(port, mine, comment=word)[0] == 200
        status, told = judge(port, mine, comment="c")
        assert status == 429 and "feedback_per_day" in told["error"]["message"]
        assert judge(port, mine, author="bob", comment="c")[0] == 200


def test_the_lineage_of_an_answer_names_its_checkpoint_and_no_text(
    layout: Layout, models: Path
) -> None:
    content_hash = promote(layout, models, "g0001")
    with serving(layout) as (port, api):
        mine = api.chat.completions.create(**ASK, user="ada").id
        status, told = call(port, "GET", f"/v1/responses/{mine}/lineage")
        assert status == 200 and told["content_hash"] == content_hash
        assert told["from"]["name"] == "policy/g0001" and "say red" not in json.dumps(told)
        assert call(port, "GET", f"/v1/responses/{mine[:-1]}x/lineage")[0] == 404


def test_a_shadow_answers_for_the_log_alone_and_is_scored_beside_what_was_shown(
    layout: Layout, models: Path
) -> None:
    first = promote(layout, models, "g0001")
    second = promote(layout, models, "g0002", stages=["shadow"])
    with serving(layout, stages=["shadow"]) as (port, api):
        until(lambda: call(port, "GET", "/health")[1]["stage"] == "shadow")
        shown = [api.chat.completions.create(**ASK, user=f"user {n}") for n in range(3)]
        assert {one.model for one in shown} == {"g0001"}
        api.chat.completions.create(**ASK)  # of nobody: no shadow
        api.chat.completions.create(**ASK, user="ada", store=False)
        until(lambda: sum(one["stage"] == "shadow" for one in rows(layout)) == 3)
    shadows = [one for one in rows(layout) if one["stage"] == "shadow"]
    assert {one["content_hash"] for one in shadows} == {second}
    assert {one["shadow_of"] for one in shadows} == {one.id for one in shown}
    assert all(one["scores"].keys() == {"champion", "shadow"} for one in shadows)
    seen = look(layout, ServeSettings(stages=["shadow"]))
    assert seen and len(seen.outcomes) == 3 and seen.verdict == "WAIT"
    assert {one["content_hash"] for one in rows(layout)} == {first, second}


def test_shadows_that_fail_or_are_too_long_to_score_are_counted_and_told(
    layout: Layout, models: Path, tmp_path: Path
) -> None:
    other = tmp_path / "models"
    shutil.copytree(models, other)
    for name, positions in (("g0001", 4096), ("g0002", 64)):
        path = other / name / "config.json"
        facts = json.loads(path.read_text()) | {"max_position_embeddings": positions}
        path.write_text(json.dumps(facts))
    promote(layout, other, "g0001")
    promote(layout, other, "g0002", stages=["shadow"])
    wordy: Call = {"messages": [{"role": "user", "content": "red " * 99}]}
    with serving(layout, stages=["shadow"], most_tokens=1100) as (port, api):
        until(lambda: call(port, "GET", "/health")[1]["stage"] == "shadow")
        api.chat.completions.create(**ASK, user="ada", max_tokens=12)
        api.chat.completions.create(**ASK | wordy, user="bob", max_tokens=12)  # the shadow cannot
        api.chat.completions.create(**ASK, user="eve", temperature=0)  # one word for ever
        until(lambda: call(port, "GET", "/health")[1]["shadows_uncompared"] == 2, 20)
    seen = look(layout, ServeSettings(stages=["shadow"]))
    assert seen and seen.facts["unusable_lines"] == 1 and len(seen.outcomes) == 1


def test_a_canary_answers_its_share_of_users_the_same_ones_until_a_rollback(
    layout: Layout, models: Path
) -> None:
    promote(layout, models, "g0001")
    promote(layout, models, "g0002", stages=["canary"])
    with serving(layout, stages=["canary"], canary_share=0.3) as (port, api):
        until(lambda: call(port, "GET", "/health")[1]["stage"] == "canary")
        users = [f"user {n}" for n in range(60)]
        drawn = {u: str(api.chat.completions.create(**ASK, user=u).model) for u in users}
        again = {u: str(api.chat.completions.create(**ASK, user=u).model) for u in users[:20]}
        assert all(drawn[user] == model for user, model in again.items())
        share = sum(model == "g0002" for model in drawn.values()) / len(users)
        assert 0.1 < share < 0.5
        assert {who(api) for _ in range(5)} == {"g0001"}  # nobody is named: no draw
        chances = {(one["stage"], one["propensity"]) for one in rows(layout) if one["user"]}
        assert chances == {("canary", 0.3), ("champion", 0.7)}
        rollback(layout, by="ada", reason="complaints")
        until(lambda: call(port, "GET", "/health")[1]["stage"] is None, seconds=10)
        assert {str(api.chat.completions.create(**ASK, user=u).model) for u in users} == {"g0001"}
    assert standing(layout)[1] is None


def test_what_users_say_over_the_wire_gives_the_canary_the_title_whatever_a_ring_says(
    layout: Layout, models: Path
) -> None:
    promote(layout, models, "g0001")
    promote(layout, models, "g0002", stages=["canary"])
    settings: Call = {"stages": ["canary"], "canary_share": 0.5, "feedback_per_day": 10_000}
    with serving(layout, **settings) as (port, api):
        until(lambda: call(port, "GET", "/health")[1]["stage"] == "canary")
        for n in range(90):
            asked = api.chat.completions.create(**ASK | {"user": f"user {n}"}, max_tokens=1)
            thumbs = "up" if asked.model == "g0002" else "down"
            assert judge(port, asked.id, author=f"user {n}", thumbs=thumbs)[0] == 200
            if asked.model == "g0002":  # one who votes against all that he sees of the canary
                judge(port, asked.id, author="ring", thumbs="down")
        seen, entry = decide_stage(layout, ServeSettings(**settings))
        assert seen and seen.verdict == "ADVANCE" and entry and entry.champion == "g0002"
        assert set(seen.outcomes) == {1.0}
        until(lambda: who(api) == "g0002", seconds=10)


def test_who_hangs_up_leaves_a_line_that_says_so(layout: Layout, models: Path) -> None:
    promote(layout, models, "g0001")
    with serving(layout, most_tokens=40) as (port, api):

        def busy(number: int) -> None:  # no two of one temperature are sampled together
            api.chat.completions.create(**ASK, temperature=number / 100)

        threads = [threading.Thread(target=busy, args=(number,)) for number in range(40)]
        for one in threads:
            one.start()
        until(lambda: rows(layout))
        body = json.dumps(ASK).encode()
        for _ in range(8):
            with socket.create_connection(("127.0.0.1", port)) as hung:
                hung.sendall(
                    b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
                    + b"content-type: application/json\r\n"
                    + f"content-length: {len(body)}\r\n\r\n".encode()
                    + body
                )
        for one in threads:
            one.join()
        until(lambda: len(rows(layout)) == 48)
    reasons = [one["finish_reason"] for one in rows(layout)]
    assert 1 <= reasons.count("cancelled") <= 8
    assert len({one["response_id"] for one in rows(layout)}) == 48


async def shown_in_part(layout: Layout, models: Path) -> None:
    over = Endpoint(layout, ServeSettings(**FAST), Policy(policy="redact"))
    async with over.running(application(layout, ServeSettings(**FAST), Policy())):
        asked = asked_of(ASK, ServeSettings(**FAST))

        async def is_gone() -> bool:
            return False

        answer = await over.desk.answer(asked, is_gone)
        assert answer
        stream = over.stream(answer, asked)
        await anext(stream)
        await stream.aclose()


def test_a_stream_that_is_cut_off_is_written_again_and_the_last_line_counts(
    layout: Layout, models: Path
) -> None:
    promote(layout, models, "g0001")
    asyncio.run(shown_in_part(layout, models))
    first, last = rows(layout)
    assert first | {"finish_reason": "cancelled"} == last
    names = Names(layout)
    assert find(layout.served, names, last["response_id"])["finish_reason"] == "cancelled"


class Behind(Completions):
    """vLLM's interface, with the models that it says it has."""

    def do_GET(self) -> None:
        self.tell(200, {"data": [{"id": name} for name in self.server.names]})  # type: ignore[attr-defined]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.tell(200, {"choices": self.choices(body)})


def test_another_server_answers_where_it_has_the_champion_under_its_hash(
    layout: Layout, models: Path
) -> None:
    content_hash = promote(layout, models, "g0001")
    server = Served(Model.load(str(models / "g0001")))
    server.RequestHandlerClass = Behind
    server.names = ["another"]  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        with serving(layout, backend_url=url) as (port, _):
            told = call(port, "GET", "/health")[1]
            assert told["champion"] is None and "--served-model-name" in told["fault"]
        server.names = [content_hash]  # type: ignore[attr-defined]
        with serving(layout, backend_url=url) as (_, api):
            asked = api.chat.completions.create(**ASK, temperature=0)
        with serving(layout) as (_, api):
            here = api.chat.completions.create(**ASK, temperature=0)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert asked.choices[0].message.content == here.choices[0].message.content
    assert [one["model"] for one in server.asked] == [content_hash]
    one, other = rows(layout)
    assert one["token_ids"] == other["token_ids"]


def start(layout: Layout, port: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "flywheel.cli", "serve", "--port", str(port)],
        env=os.environ | {"FLYWHEEL_HOME": str(layout.root)},
        stderr=subprocess.DEVNULL,
    )


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.slow
def test_two_servers_killed_under_load_lose_no_row_that_was_acknowledged(
    layout: Layout, models: Path
) -> None:
    promote(layout, models, "g0001")
    ports = [free_port(), free_port()]
    servers = [start(layout, port) for port in ports]
    seen: list[str] = []
    said: list[str] = []

    def ask(port: int, number: int) -> None:
        api = client(port)
        with contextlib.suppress(openai.APIError, OSError, http.client.HTTPException):
            while True:
                mine = api.chat.completions.create(**ASK, user=f"user {number}")
                seen.append(mine.id)
                status, told = judge(port, mine.id, author=f"user {number}", thumbs="up")
                if status == 200:
                    said.append(told["feedback_id"])

    def up(port: int) -> bool:
        with contextlib.suppress(OSError):
            return call(port, "GET", "/health")[0] == 200
        return False

    try:
        for port in ports:
            until(lambda port=port: up(port))
        callers = [
            threading.Thread(target=ask, args=(ports[number % 2], number)) for number in range(8)
        ]
        for one in callers:
            one.start()
        until(lambda: len(seen) > 60)
    finally:
        for server in servers:
            server.send_signal(signal.SIGKILL)
            server.wait()
    for one in callers:
        one.join()
    kept = Rows(layout.served)
    assert set(seen) <= {one["response_id"] for one in kept}
    heard = {one["feedback_id"] for one in Rows(layout.served / "feedback")}
    assert set(said) <= heard and len(list(layout.served.glob("*.jsonl"))) >= 2
    assert deliver(layout) == len(heard)


def test_a_line_torn_by_a_kill_is_counted_and_the_next_stands_alone(tmp_path: Path) -> None:
    first = ServedLog(tmp_path)
    first.append({"response_id": "a"})
    (path,) = tmp_path.glob("*.jsonl")
    first.close()
    with path.open("a") as file:
        file.write('{"response_id": "b", "at": "20')
    second = ServedLog(tmp_path)  # the same process id, as in a container that is started again
    second.append({"response_id": "c"}, {"response_id": "d"})
    second.close()
    found = Rows(tmp_path)
    assert [one["response_id"] for one in found] == ["a", "c", "d"] and found.torn == 1


def test_lines_of_many_threads_do_not_mix(tmp_path: Path) -> None:
    log = ServedLog(tmp_path)
    threads = [
        threading.Thread(target=lambda n=n: log.append({"n": n, "text": "x" * 5000}))
        for n in range(40)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    log.close()
    found = Rows(tmp_path)
    assert sorted(one["n"] for one in found) == list(range(40)) and found.torn == 0
