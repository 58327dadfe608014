"""The endpoint: OpenAI's chat completions and models, feedback, and where an answer comes from.

    POST /v1/chat/completions            one answer, whole or as a stream of events
    GET  /v1/models                      who answers
    POST /v1/feedback                    what somebody says of an answer (`flywheel.serve.feedback`)
    GET  /v1/responses/{id}/lineage      the checkpoint behind an answer, and what that rests on
    GET  /health                         who answers, what waits, what is wrong

Every error has OpenAI's shape. A stream begins when its answer is whole and logged: nothing is
shown that is not on the disk.
"""

import asyncio
import json
import re
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from flywheel.errors import FlywheelError
from flywheel.layout import Layout
from flywheel.lineage import Reading, trace
from flywheel.privacy import Policy
from flywheel.serve.asked import CHAMPION, Asked, Refused, asked_of, parsed
from flywheel.serve.delivery import deliver
from flywheel.serve.desk import Answer, Desk
from flywheel.serve.engine import Engine
from flywheel.serve.feedback import Feedback, find
from flywheel.serve.ids import Names
from flywheel.serve.log import ServedLog
from flywheel.serve.permitted import LOOK_SECONDS, Permitted
from flywheel.serve.screening import Screen
from flywheel.serve.settings import ServeSettings
from flywheel.serve.watch import Watch

PIECES = re.compile(r"\s*\S+|\s+\Z")  # of a text, as a stream shows it
CLOSED = 499  # whoever asked is gone


class Endpoint:
    """The routes over one home."""

    def __init__(
        self,
        layout: Layout,
        settings: ServeSettings,
        personal: Policy,
        reading: Reading | None = None,
    ) -> None:
        self._layout, self._settings = layout, settings
        self._names, screen = Names(layout), Screen(layout, personal)
        self._engine, self._watch = Engine(settings.most_waiting), Watch(layout, settings)
        self._permitted = Permitted(layout, self._watch, reading or Reading())
        self.desk = Desk(
            settings,
            names=self._names,
            screen=screen,
            log=ServedLog(layout.served),
            engine=self._engine,
            watch=self._watch,
            permitted=self._permitted,
        )
        self._feedback = Feedback(layout, settings, self._names, screen)
        self._one_at_a_time = asyncio.Lock()

    @asynccontextmanager
    async def running(self, app: Starlette) -> AsyncIterator[None]:
        """Watch the ledger and hand feedback over as long as the endpoint is up."""
        ended = threading.Event()
        hand_over = partial(deliver, self._layout)
        await asyncio.to_thread(self._watch.look)
        await asyncio.to_thread(self._permitted.look)
        threads = [
            _repeated(self._watch.look, self._settings.poll_seconds, ended),
            _repeated(self._permitted.look, LOOK_SECONDS, ended),
            _repeated(hand_over, self._settings.deliver_seconds, ended),
        ]
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                await asyncio.to_thread(thread.join)
            await asyncio.to_thread(self._engine.close)
            self.desk.log.close()
            self._feedback.close()
            await asyncio.to_thread(hand_over)

    async def complete(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        asked = asked_of(await self._body(request), self._settings)
        answer = await self.desk.answer(asked, request.is_disconnected)
        if answer is None:
            return Response(status_code=CLOSED)
        headers = {
            "x-flywheel-response-id": answer.row["response_id"],
            "x-flywheel-checkpoint": f"policy/{answer.row['generation']}",
        }
        if asked.stream:
            events = self.stream(answer, asked)
            return StreamingResponse(events, media_type="text/event-stream", headers=headers)
        message = {"role": "assistant", "content": answer.response.text, "refusal": None}
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": answer.finish_reason,
        }
        body = _head("chat.completion", answer) | {"choices": [choice], "usage": _usage(answer)}
        return JSONResponse(body, headers=headers)

    async def stream(self, answer: Answer, asked: Asked) -> AsyncGenerator[str, None]:
        """An answer as events; where it is not seen to its end, that is written down."""
        head = _head("chat.completion.chunk", answer)
        whole = False

        def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> str:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
            return f"data: {json.dumps(head | {'choices': [choice]})}\n\n"

        try:
            yield chunk({"role": "assistant", "content": ""})
            for piece in PIECES.findall(answer.response.text):
                yield chunk({"content": piece})
            yield chunk({}, answer.finish_reason)
            if asked.include_usage:
                usage = {"choices": [], "usage": _usage(answer)}
                yield f"data: {json.dumps(head | usage)}\n\n"
            yield "data: [DONE]\n\n"
            whole = True
        finally:
            if not whole:
                self.desk.cut_off(answer)

    async def models(self, request: Request) -> Response:
        """GET /v1/models."""
        champion = self._watch.stand.champion
        names = [CHAMPION, champion.generation] if champion else []
        listed = [
            {"id": name, "object": "model", "created": 0, "owned_by": "flywheel"} for name in names
        ]
        return JSONResponse({"object": "list", "data": listed})

    async def feedback(self, request: Request) -> Response:
        """POST /v1/feedback."""
        body = await self._body(request)
        async with self._one_at_a_time:
            return JSONResponse(await asyncio.to_thread(self._feedback.take, body))

    async def lineage(self, request: Request) -> Response:
        """GET /v1/responses/{id}/lineage."""
        row = await asyncio.to_thread(
            find, self._layout.served, self._names, request.path_params["response_id"]
        )
        facts = {
            name: row[name]
            for name in ("response_id", "at", "generation", "content_hash", "stage", "prompt_key")
        }
        checkpoint = f"{row['checkpoint_kind']}/{row['generation']}"
        found = await asyncio.to_thread(trace, self._layout, f"checkpoint:{checkpoint}")
        return JSONResponse(json.loads(json.dumps(facts | {"from": found}, default=str)))

    async def health(self, request: Request) -> Response:
        """GET /health."""
        stand, forbidden = self._watch.stand, self._permitted.told
        answers = stand.champion and not self.desk.refusal(stand.champion)
        body = {
            "champion": stand.champion.generation if stand.champion else None,
            "content_hash": stand.champion.content_hash if stand.champion else None,
            "stage": stand.stage or None,
            "staged": stand.staged.generation if stand.staged else None,
            "waiting": self._engine.waiting,
            "shadows_let_go": self._engine.let_go,
            "shadows_uncompared": self.desk.uncompared,
            "fault": stand.fault or None,
            "may_not_be_used": forbidden or None,
        }
        return JSONResponse(body, status_code=200 if answers else 503)

    async def _body(self, request: Request) -> dict[str, Any]:
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind != "application/json":  # a page of another site cannot send this without asking
            raise Refused(f"content-type must be application/json, got {kind!r:.80}", status=415)
        data, most = b"", self._settings.most_body_bytes
        async for part in request.stream():
            data += part
            if len(data) > most:
                raise Refused(f"the body is longer than {most} bytes", status=413)
        return parsed(data)


def application(
    layout: Layout, settings: ServeSettings, personal: Policy, reading: Reading | None = None
) -> Starlette:
    """The endpoint over one home, as an ASGI application."""
    over = Endpoint(layout, settings, personal, reading)
    return Starlette(
        routes=[
            Route("/v1/chat/completions", over.complete, methods=["POST"]),
            Route("/v1/models", over.models),
            Route("/v1/feedback", over.feedback, methods=["POST"]),
            Route("/v1/responses/{response_id}/lineage", over.lineage),
            Route("/health", over.health),
        ],
        exception_handlers={
            Refused: _refused,
            ClientDisconnect: _closed,
            FlywheelError: _failed,
            HTTPException: _not_here,
            Exception: _failed,
        },
        lifespan=over.running,
    )


def serve(
    layout: Layout,
    settings: ServeSettings,
    personal: Policy,
    reading: Reading,
    *,
    host: str,
    port: int,
) -> None:
    """Serve until interrupted."""
    import uvicorn

    app = application(layout, settings, personal, reading)
    uvicorn.run(app, host=host, port=port, log_level="warning")


def _repeated(
    work: Callable[[], object], seconds: float, ended: threading.Event
) -> threading.Thread:
    """A thread that does something again and again; what fails is told, and done again later."""

    def loop() -> None:
        while not ended.wait(seconds):
            try:
                work()
            except Exception as error:
                print(f"flywheel serve: {error!r}", file=sys.stderr, flush=True)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    return thread


def _head(kind: str, answer: Answer) -> dict[str, Any]:
    return {
        "id": answer.row["response_id"],
        "object": kind,
        "created": int(time.time()),
        "model": answer.row["generation"],
        "system_fingerprint": answer.row["content_hash"][:12],
    }


def _usage(answer: Answer) -> dict[str, int]:
    asked, told = answer.row["prompt_tokens"], answer.row["response_tokens"]
    return {"prompt_tokens": asked, "completion_tokens": told, "total_tokens": asked + told}


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse(error.body, status_code=error.status)


async def _closed(request: Request, error: Exception) -> Response:
    return Response(status_code=CLOSED)


async def _not_here(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = Refused(f"{request.method} {request.url.path}: {error.detail}", status=error.status_code)
    return JSONResponse(told.body, status_code=told.status, headers=error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    words = str(error) if isinstance(error, FlywheelError) else "something failed; see the log"
    told = Refused(words, status=500, kind="server_error")
    return JSONResponse(told.body, status_code=told.status)
