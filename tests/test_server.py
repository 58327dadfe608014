"""A policy behind a server: the same answers, patience where it helps, a clear word where not."""

import json
import math
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from flywheel.errors import RolloutError, SettingsError
from flywheel.records.message import prompt_of
from flywheel.rollout import Policy, Response, ServerPolicy, sample, sample_ids
from tests.models_for_tests import COLOURS, tiny

PROMPTS = [prompt_of(f"say {one}") for one in COLOURS]
KEY = "a-secret"


class Served(ThreadingHTTPServer):
    """The tiny policy behind the part of vLLM's interface that is used.

    Attributes:
        faults: What to do instead of answering, one a request, before all goes well.
        dress: What becomes of an answer before it is sent.
        asked: Bodies received.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__(("127.0.0.1", 0), Completions)
        self.policy, self.lock = policy, threading.Lock()
        self.faults: list[Callable[[Completions], None]] = []
        self.dress: Callable[[dict[str, Any]], Any] = lambda choice: choice
        self.scales_logprobs = True
        self.asked: list[dict[str, Any]] = []


class Completions(BaseHTTPRequestHandler):
    server: Served

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.asked.append(body)
            fault = self.server.faults.pop(0) if self.server.faults else None
        if fault:
            fault(self)
        elif self.headers["Authorization"] != f"Bearer {KEY}":
            self.tell(401, {"error": "Unauthorized"})
        elif body["model"] != "tiny":
            self.tell(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
        else:
            with self.server.lock:  # one model, many threads
                self.tell(200, {"choices": [self.server.dress(one) for one in self.choices(body)]})

    def choices(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        (answers,) = sample_ids(
            self.server.policy,
            [body["prompt"]],
            samples=body["n"],
            temperature=body["temperature"],
            max_new_tokens=body["max_tokens"],
            seed=body.get("seed", 0),
        )
        return [self.choice(body, one) for one in answers]

    def choice(self, body: dict[str, Any], one: Response) -> dict[str, Any]:
        heat = (self.server.scales_logprobs and body["temperature"]) or 1.0
        odds = {"token_id:5": -1.0 / heat, "token_id:6": -3.0 / heat}
        logprobs = {
            "tokens": [f"token_id:{token}" for token in one.token_ids],
            "token_logprobs": one.logprobs,
            "top_logprobs": [odds] * one.token_count,
        }
        reason = "stop" if one.ended else "length"
        return {"text": f" {one.text}", "finish_reason": reason, "logprobs": logprobs}

    def tell(self, status: int, answer: Any) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return Policy.load(tiny(tmp_path_factory.mktemp("served")))


@pytest.fixture
def served(policy: Policy) -> Iterator[Served]:
    with Served(policy) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def client(served: Served, **changes: Any) -> ServerPolicy:
    chosen = {
        "base_url": f"http://127.0.0.1:{served.server_port}/v1/",
        "model": "tiny",
        "tokenizer": served.policy.tokenizer,
        "stop_ids": served.policy.stop_ids,
        "api_key": KEY,
        "wait_seconds": 0.01,
        "tries": 3,
    }
    return ServerPolicy(**{**chosen, **changes})


def test_greedy_through_a_server_is_greedy_in_process(served: Served, policy: Policy) -> None:
    there = sample(client(served), PROMPTS, samples=2, temperature=0, max_new_tokens=8)
    here = sample(policy, PROMPTS, samples=2, temperature=0, max_new_tokens=8)
    for far, near in zip(there, here, strict=True):
        assert [(one.text, one.token_ids, one.ended) for one in far] == [
            (one.text, one.token_ids, one.ended) for one in near
        ]
        for one, other in zip(far, near, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
    # vLLM refuses n > 1 at temperature 0, and its own defaults must not cut the distribution
    assert all(body["n"] == 1 and body["top_p"] == 1 for body in served.asked)
    assert all(body["top_k"] == -1 and body["min_p"] == 0 for body in served.asked)


def test_samples_of_a_server_carry_ids_and_log_probabilities_and_follow_the_seed(
    served: Served,
) -> None:
    def drawn(seed: int) -> list[list[Response]]:
        return sample(client(served), PROMPTS, samples=3, max_new_tokens=6, seed=seed)

    one, again, other = drawn(1), drawn(1), drawn(2)
    assert one == again != other
    assert [len(row) for row in one] == [3] * len(PROMPTS)
    for answer in one[0]:
        assert len(answer.token_ids) == len(answer.logprobs) == answer.token_count > 0
        assert answer.logprob == pytest.approx(sum(answer.logprobs))
    prompts = sorted(body["prompt"] for body in served.asked[: len(PROMPTS)])
    assert len({body["seed"] for body in served.asked[: len(PROMPTS)]}) == len(PROMPTS)
    assert all(isinstance(token, int) for prompt in prompts for token in prompt)


def cut(request: Completions) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    request.wfile.write(b'{"choices": [')


def test_a_request_turned_away_or_cut_off_is_made_again(served: Served) -> None:
    served.faults = [lambda request: request.tell(429, {"error": "busy"}), cut]
    (row,) = sample(client(served), PROMPTS[:1], max_new_tokens=4)
    assert row[0].token_ids and len(served.asked) == 3
    assert served.asked[0] == served.asked[2]


def test_a_server_that_stays_away_is_named_with_its_last_words(served: Served) -> None:
    served.faults = [lambda request: request.tell(503, {"error": "loading"})] * 3
    with pytest.raises(
        RolloutError, match=r"127\.0\.0\.1:\d+/v1/ did not answer in 3 tries .*load"
    ):
        sample(client(served), PROMPTS[:1], max_new_tokens=4)
    gone = client(served, base_url="http://127.0.0.1:9/v1")
    with pytest.raises(RolloutError, match=r"127.0.0.1:9/v1 did not answer in 3 tries"):
        sample(gone, PROMPTS[:1], max_new_tokens=4)


def test_an_answer_that_never_comes_is_given_up(served: Served) -> None:
    late = threading.Event()
    served.faults = [lambda request: late.wait(10) and None] * 2
    with pytest.raises(RolloutError, match=r"did not answer in 2 tries .*timed out"):
        sample(client(served, timeout_seconds=0.2, tries=2), PROMPTS[:1], max_new_tokens=4)
    late.set()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "other"}, r"refused with status 404: .*`other` does not exist.*check base_url"),
        ({"api_key": "wrong"}, r"refused with status 401.*and the key"),
    ],
)
def test_a_wrong_model_or_key_is_told_at_once(
    served: Served, changes: dict[str, str], said: str
) -> None:
    with pytest.raises(RolloutError, match=said) as caught:
        sample(client(served, **changes), PROMPTS[:1], max_new_tokens=4)
    assert len(served.asked) == 1
    assert KEY not in str(caught.value) + repr(client(served))


@pytest.mark.parametrize(
    "logprobs", [None, {"tokens": ["red", " it"], "token_logprobs": [-1.0, -1.0]}]
)
def test_a_server_without_token_ids_serves_evaluation_only(
    served: Served, policy: Policy, logprobs: Any
) -> None:
    served.dress = lambda choice: choice | {"logprobs": logprobs}
    with pytest.raises(RolloutError, match=r"tells no token ids .* set text_only to evaluate"):
        sample(client(served), PROMPTS[:1], max_new_tokens=4)
    (row,) = sample(client(served, text_only=True), PROMPTS[:1], max_new_tokens=8, temperature=0)
    (near,) = sample(policy, PROMPTS[:1], max_new_tokens=8, temperature=0)
    assert (row[0].text, row[0].ended) == (near[0].text, near[0].ended)
    assert row[0].token_ids == () and math.isnan(row[0].logprob)


def test_log_probabilities_at_another_temperature_than_the_sampling_are_refused(
    served: Served,
) -> None:
    (row,) = sample(client(served), PROMPTS[:1], max_new_tokens=4, temperature=0.6)
    assert row[0].logprobs and math.isnan(row[0].logprob)
    served.scales_logprobs = False
    with pytest.raises(RolloutError, match="logprobs-mode processed_logprobs"):
        sample(client(served), PROMPTS[:1], max_new_tokens=4, temperature=0.6)
    assert sample(client(served), PROMPTS[:1], max_new_tokens=4)[0][0].logprobs


def test_a_turn_that_ends_in_an_unknown_token_is_refused(served: Served) -> None:
    served.dress = lambda choice: choice | {"finish_reason": "stop"}
    with pytest.raises(RolloutError, match=r"ended a turn with token \d+, which is none of \[1\]"):
        sample(client(served, stop_ids=[1]), PROMPTS[:1], max_new_tokens=2)


def test_an_address_that_is_none_is_refused(served: Served) -> None:
    with pytest.raises(SettingsError, match="base_url must be like http"):
        client(served, base_url="localhost:8000")
