"""A policy behind an OpenAI-compatible completions server, such as vLLM's.

Token ids go out and token ids come back: a text tokenised again is not always what was sampled.
vLLM gives them; other servers are for evaluation only (`text_only`). Training at another
temperature than 1 needs `vllm serve --logprobs-mode processed_logprobs`: by default vLLM reports
log-probabilities at temperature 1, and its generation_config.json may cut the distribution, so
every number that does is sent along.
"""

import http.client
import json
import math
import random
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from flywheel.errors import RolloutError, SettingsError
from flywheel.rollout.policy import Response, text_of

AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}
WHOLE = {"top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}  # cuts nothing
LONGEST_WAIT_SECONDS = 30.0
TOLD = 300  # characters of a server's own words in an error


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPolicy:
    """A policy that a server has loaded; whether its weights are the newest, the caller knows.

    Attributes:
        base_url: Up to and with its version, as in http://localhost:8000/v1.
        model: Name under which the server has it.
        tokenizer: The model's.
        stop_ids: Ids that end a turn.
        api_key: Sent as a bearer token, where there is one.
        text_only: Take a server that tells no token ids; its answers cannot be trained on.
        parallel: Requests at once, one a prompt.
        timeout_seconds: For one request to answer.
        tries: Of a request that is turned away for now, cut off or not answered.
        wait_seconds: Before the second try; doubles with each.
    """

    base_url: str
    model: str
    tokenizer: Any
    stop_ids: list[int]
    api_key: str = field(default="", repr=False)
    text_only: bool = False
    parallel: int = 64
    timeout_seconds: float = 600.0
    tries: int = 6
    wait_seconds: float = 0.5

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise SettingsError(
                f"base_url must be like http://localhost:8000/v1, got {self.base_url!r}"
            )

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        samples: int,
        temperature: float,
        max_new_tokens: int,
        seed: int | Sequence[int],
    ) -> list[list[Response]]:
        """Continue every prompt `samples` times.

        Raises:
            RolloutError: The server refuses, does not answer, or answers what cannot be used.
        """
        count = samples if temperature else 1  # vLLM refuses to be greedy more than once
        body: dict[str, Any] = {
            "model": self.model,
            "n": count,
            "temperature": temperature,
            "max_tokens": max_new_tokens,
            "top_p": 1.0,
        }
        if not self.text_only:
            body |= {"logprobs": 1, "return_tokens_as_token_ids": True} | WHOLE
            body |= {"stop_token_ids": self.stop_ids}
            if prompts and temperature not in (0, 1):
                self._check_temperature(body | {"prompt": list(prompts[0])}, temperature)

        def ask(place: int) -> list[Response]:
            drawn = seed * 1_000_003 + place if isinstance(seed, int) else seed[place]
            own = {"prompt": list(prompts[place]), "seed": drawn % 2**31}
            choices = self._post(body | own)["choices"]
            if len(choices) != count:
                raise self._error(f"gave {len(choices)} answers for n={count}")
            found = [self._response(one, temperature) for one in choices]
            return found * (samples // count)

        pool = ThreadPoolExecutor(self.parallel)
        try:
            return list(pool.map(ask, range(len(prompts))))
        finally:
            pool.shutdown(cancel_futures=True)

    def _response(self, choice: dict[str, Any], temperature: float) -> Response:
        ended = choice["finish_reason"] == "stop"
        if self.text_only:
            text = choice["text"].strip()
            tokens = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            return Response(text, len(tokens) + ended, ended, math.nan)
        told = choice.get("logprobs") or {}
        names, logps = told.get("tokens") or [], told.get("token_logprobs") or []
        if not names or not all(name.startswith("token_id:") for name in names):
            raise self._error(
                "tells no token ids and log-probabilities, without which its answers cannot be "
                "trained on; serve with vLLM, or set text_only to evaluate"
            )
        ids = [int(name.removeprefix("token_id:")) for name in names]
        if ended and ids[-1] not in self.stop_ids:
            raise self._error(
                f"ended a turn with token {ids[-1]}, which is none of {self.stop_ids}; serve the "
                f"model together with its own tokenizer and generation_config.json"
            )
        return Response(
            text=text_of(self.tokenizer, self.stop_ids, ids),
            token_count=len(ids),
            ended=ended,
            logprob=sum(logps) if temperature in (0, 1) else math.nan,
            token_ids=tuple(ids),
            logprobs=tuple(logps),
        )

    def _check_temperature(self, body: dict[str, Any], temperature: float) -> None:
        """Ask for the likeliest tokens at two temperatures: their odds must differ."""
        gaps = []
        for asked in (temperature, 1.0):
            one = {"n": 1, "max_tokens": 1, "logprobs": 2, "temperature": asked}
            (choice,) = self._post(body | one)["choices"]
            likeliest = sorted((choice.get("logprobs") or {}).get("top_logprobs", [{}])[0].values())
            gaps.append(likeliest[-1] - likeliest[-2] if len(likeliest) > 1 else 0.0)
        if abs(gaps[0] * temperature - gaps[1]) > abs(gaps[0] - gaps[1]):
            raise self._error(
                f"reports log-probabilities at temperature 1 for what it samples at {temperature}; "
                f"start it with --logprobs-mode processed_logprobs, or sample at temperature 1"
            )

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        """What the server answers, asked again while it may yet."""
        headers = {"Content-Type": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        url, data = f"{self.base_url.rstrip('/')}/completions", json.dumps(body).encode()
        fault = ""
        for attempt in range(self.tries):
            if attempt:
                wait = min(LONGEST_WAIT_SECONDS, self.wait_seconds * 2 ** (attempt - 1))
                time.sleep(wait * random.uniform(0.5, 1))  # so that not all come back at once
            request = urllib.request.Request(url, data, headers)
            try:
                with urllib.request.urlopen(request, timeout=self.timeout_seconds) as answer:
                    return dict(json.load(answer))
            except urllib.error.HTTPError as error:
                fault = f"status {error.code}: {error.read().decode(errors='replace')[:TOLD]}"
                if error.code not in AGAIN:
                    raise self._error(
                        f"refused with {fault}; check base_url, the model's name {self.model!r} "
                        f"and the key"
                    ) from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                fault = f"{type(error).__name__}: {error}"  # refused, cut off, late or torn
        raise self._error(
            f"did not answer in {self.tries} tries ({fault}); see its log, or raise "
            f"timeout_seconds and tries"
        )

    def _error(self, what: str) -> RolloutError:
        return RolloutError(f"the server at {self.base_url} {what}")
