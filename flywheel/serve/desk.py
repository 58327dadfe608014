"""One answer from beginning to end: who gives it, how it is sampled, logged and then shown.

The line is on the disk before the answer leaves. A canary answers a share of the users, the same
users every time; a shadow answers behind the champion's back, for the log alone, and the reward
model of the champion, which the challenger was not trained against, scores both.
"""

import asyncio
import math
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from flywheel.datasets.render import render_prompt
from flywheel.errors import FlywheelError, ServeError, SettingsError
from flywheel.ingest.keys import prompt_key
from flywheel.records.message import Conversation
from flywheel.rollout import Response
from flywheel.serve.asked import CHAMPION, Asked, Refused
from flywheel.serve.engine import Engine, Job, Loaded
from flywheel.serve.ids import Names
from flywheel.serve.log import Row, ServedLog
from flywheel.serve.permitted import Permitted
from flywheel.serve.screening import Screen
from flywheel.serve.settings import ServeSettings
from flywheel.serve.watch import Stand, Watch

LOOK_SECONDS = 0.2  # how late it is seen that whoever asked is gone
NOTHING = Response("", 0, False, 0.0)
TEXTS = ("user", "prompt_key", "request", "response", "token_ids", "logprobs")


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers a request."""

    loaded: Loaded
    stage: str
    propensity: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered, and the line that says so."""

    response: Response
    row: Row

    @property
    def finish_reason(self) -> str:
        """As OpenAI names it."""
        return str(self.row["finish_reason"])


class Desk:
    """Everything that an answer takes."""

    def __init__(
        self,
        settings: ServeSettings,
        *,
        names: Names,
        screen: Screen,
        log: ServedLog,
        engine: Engine,
        watch: Watch,
        permitted: Permitted,
    ) -> None:
        self.names, self.log = names, log
        self.uncompared = 0  # shadows that failed, or of which an answer was too long to score
        self._settings, self._screen = settings, screen
        self._engine, self._watch, self._permitted = engine, watch, permitted

    async def answer(self, asked: Asked, is_gone: Callable[[], Awaitable[bool]]) -> Answer | None:
        """Answer a request, and write it down first.

        Returns:
            None where whoever asked is gone: what there is of an answer is written down.

        Raises:
            Refused: Nobody can answer, or not this.
        """
        started, stand = time.monotonic(), self._watch.stand
        user = self.names.user(asked.user) if asked.user else None
        route = self._route(asked, user, stand)
        if why := self.refusal(route.loaded):
            raise Refused(why, status=503, kind="server_error", code="data_withdrawn")
        seed = secrets.randbits(31) if asked.seed is None else asked.seed
        try:
            ids = render_prompt(route.loaded.policy.tokenizer, asked.messages)
            job = Job(route.loaded, ids, asked.temperature, asked.max_tokens, seed % 2**63)
            future = self._engine.ask(job)
        except SettingsError as error:
            raise Refused(str(error), param="messages") from error
        except ServeError as error:
            raise Refused(str(error), status=429, kind="rate_limit_error") from error
        response, stayed = await _wait(future, is_gone)
        row = self._row(asked, route, user, ids, response, seed)
        row["latency_ms"] = round(1000 * (time.monotonic() - started), 1)
        if not stayed:
            row["finish_reason"] = "cancelled"
        await asyncio.to_thread(self._write, row)
        if stand.stage == "shadow" and stand.staged and user and asked.consent and stayed:
            shown = response
            self._engine.behind(lambda: self._shadow(asked, stand, user, shown, row))
        return Answer(response, row) if stayed else None

    def cut_off(self, answer: Answer) -> None:
        """Write down that an answer was not seen to its end."""
        self.log.append(answer.row | {"finish_reason": "cancelled"})

    def refusal(self, one: Loaded) -> str:
        """Why a checkpoint does not answer, where what its data allows is a reason not to."""
        return self._permitted.against(one) if self._settings.forbidden == "refuse" else ""

    def _route(self, asked: Asked, user: str | None, stand: Stand) -> Route:
        if stand.champion is None:
            raise Refused(
                "there is no champion to answer: "
                + (stand.fault or "take a turn, or approve the challenger that waits"),
                status=503,
                kind="server_error",
                code="no_champion",
            )
        if asked.model not in (CHAMPION, stand.champion.generation):
            raise Refused(
                f"model {asked.model!r:.80} is not served; {CHAMPION} and "
                f"{stand.champion.generation} are",
                status=404,
                param="model",
                code="model_not_found",
            )
        share = self._settings.canary_share
        if stand.stage != "canary" or not stand.staged or not user or asked.model != CHAMPION:
            return Route(stand.champion, "champion", 1.0)
        if self.names.place(user, stand.staged.content_hash) < share:
            return Route(stand.staged, "canary", share)
        return Route(stand.champion, "champion", 1 - share)

    def _row(
        self,
        asked: Asked,
        route: Route,
        user: str | None,
        ids: list[int],
        response: Response,
        seed: int,
    ) -> Row:
        request = asked.request | {"seed": seed}
        kept = self._screen({"request": request, "response": response.text})
        row: Row = {
            "response_id": self.names.response_id(),
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "generation": route.loaded.generation,
            "checkpoint_kind": "policy",
            "content_hash": route.loaded.content_hash,
            "stage": route.stage,
            "propensity": route.propensity,
            "user": user,
            "prompt_key": None,
            **(kept.value or {"request": None, "response": None}),
            "token_ids": None if kept.kinds else list(response.token_ids),
            "logprobs": None if kept.kinds else _finite(response.logprobs),
            "prompt_tokens": len(ids),
            "response_tokens": response.token_count,
            "finish_reason": "stop" if response.ended else "length",
            "consent": asked.consent,
            "personal_data": list(kept.kinds),
            "trains": kept.trains,
        }
        if row["request"]:
            messages = msgspec.convert(row["request"]["messages"], Conversation)
            row["prompt_key"] = prompt_key(messages)
        return row if asked.consent else row | dict.fromkeys(TEXTS)

    def _shadow(
        self, asked: Asked, stand: Stand, user: str, shown: Response, shown_row: Row
    ) -> None:
        """Answer again with the challenger, and score both; nobody waits for it."""
        assert stand.staged is not None
        try:
            started = time.monotonic()
            tokenizer, seed = stand.staged.policy.tokenizer, secrets.randbits(31)
            ids = render_prompt(tokenizer, asked.messages)
            (response,) = stand.staged.sample(
                [ids],
                temperature=asked.temperature,
                max_new_tokens=asked.max_tokens,
                seed=[seed],
            )
            route = Route(stand.staged, "shadow", 1.0)
            row = self._row(asked, route, user, ids, response, seed)
            row["latency_ms"] = round(1000 * (time.monotonic() - started), 1)
            row["shadow_of"] = shown_row["response_id"]
            if stand.judge:
                model, row["judge"] = stand.judge
                both = (shown.conversation, response.conversation)
                scores = model.score([asked.messages] * 2, both)
                row["scores"] = dict(zip(("champion", "shadow"), scores, strict=True))
                self.uncompared += None in scores
            self.log.append(row)
        except Exception as error:  # of what nobody sees: it must not end the thread that answers
            self.uncompared += 1
            print(f"flywheel serve: a shadow failed: {error!r}", file=sys.stderr, flush=True)

    def _write(self, row: Row) -> None:
        try:
            self.log.append(row)
        except ServeError as error:
            raise Refused(str(error), status=503, kind="server_error") from error


async def _wait(future: Any, is_gone: Callable[[], Awaitable[bool]]) -> tuple[Response, bool]:
    """The answer, and whether whoever asked is still there; sampling that has begun is finished."""
    waited, stayed = asyncio.wrap_future(future), True
    while not (await asyncio.wait({waited}, timeout=LOOK_SECONDS))[0]:
        if stayed and await is_gone():
            stayed = False
            if future.cancel():
                return NOTHING, False
    try:
        return waited.result(), stayed
    except SettingsError as error:
        code = "context_length_exceeded"
        raise Refused(str(error), param="messages", code=code) from error
    except FlywheelError as error:
        raise Refused(str(error), status=502, kind="server_error") from error


def _finite(logprobs: tuple[float, ...]) -> list[float] | None:
    """None where a server tells none."""
    finite = all(math.isfinite(one) for one in logprobs)
    return [round(one, 5) for one in logprobs] if finite else None
