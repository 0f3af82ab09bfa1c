"""The worker's HTTP face: a small ASGI application that speaks the OpenAI dialect for one backend."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Final, TypeAlias

import msgspec

from modelport.dialects.body import JSON_CONTAINERS_MAXIMUM, holds_more
from modelport.engine.backend import Backend, JsonObject, SafetyBackend, WorkerError, request_begins
from modelport.engine.folding import fold_chat, fold_completion

_logger = logging.getLogger(__name__)

_BODY_LIMIT_BYTES: Final = 64 * 1024 * 1024

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class WorkerApp:
    """Answers for a backend that may still be loading. Who does not know the secret gets nothing."""

    def __init__(self, secret: str) -> None:
        self._authorization = f"Bearer {secret}".encode()
        self.backend: Backend | None = None
        self._active = 0
        self._last_used = time.monotonic()
        self.counts: dict[str, int] = {"requests": 0, "refused": 0, "failed": 0, "cancelled": 0}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        exchange = _Exchange(receive, send)
        if not hmac.compare_digest(dict(scope["headers"]).get(b"authorization", b""), self._authorization):
            await exchange.refuse(WorkerError(401, "unauthorized", "The worker answers its gateway only."))
            return
        match scope["method"], scope["path"]:
            case "GET", "/health":
                await exchange.report(200 if self.backend else 503, self._health())
            case "GET", "/stats":
                await exchange.report(200, {**self.counts, **(self.backend.load() if self.backend else {})})
            case "POST", path:
                self.counts["requests"] += 1
                self._active += 1
                try:
                    await self._post(path, exchange)
                finally:
                    self._active -= 1
                    self._last_used = time.monotonic()
            case _:
                await exchange.refuse(_not_found())

    @property
    def idle_seconds(self) -> float:
        """How long nothing has been asked of it; 0 while something is being answered."""
        return 0.0 if self._active else time.monotonic() - self._last_used

    def _health(self) -> JsonObject:
        if self.backend is None:
            return {"state": "loading"}
        return {"state": "ready", **self.backend.facts(), **self.backend.load()}

    async def _post(self, path: str, exchange: _Exchange) -> None:
        """Works and watches the connection at once: a caller that hangs up ends the work."""
        try:
            request = await exchange.json()
        except WorkerError as error:
            await exchange.refuse(error)
            return
        request_begins.set(exchange.begin)
        work = asyncio.create_task(self._work(path, request, exchange))
        hangup = asyncio.create_task(exchange.hung_up())
        try:
            await asyncio.wait({work, hangup}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self.counts["cancelled"] += 1
        finally:
            hangup.cancel()
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work

    async def _work(self, path: str, request: JsonObject, exchange: _Exchange) -> None:
        try:
            await self._dispatch(path, request, exchange)
        except WorkerError as error:
            self.counts["refused" if error.status < 500 else "failed"] += 1
            await exchange.fail(error)
        except Exception as error:  # noqa: BLE001  the end of a request; the text of the error may hold the caller's
            self.counts["failed"] += 1
            frames = "".join(traceback.format_tb(error.__traceback__))
            _logger.error("request failed: %s\n%s", type(error).__name__, frames)
            await exchange.fail(WorkerError.failed())

    async def _dispatch(self, path: str, request: JsonObject, exchange: _Exchange) -> None:
        backend = self.backend
        if backend is None:
            raise WorkerError(503, "loading", "The model is loading.", retry_after_seconds=1)
        match path:
            case "/v1/chat/completions" if "chat" in backend.operations:
                await _stream_or_fold(request, backend.chat(request), fold_chat, exchange)
            case "/v1/completions" if "completions" in backend.operations:
                await _stream_or_fold(request, backend.completions(request), fold_completion, exchange)
            case "/v1/embeddings" if "embeddings" in backend.operations:
                await exchange.answer(await backend.embeddings(request))
            case "/v1/images/embeddings" if "image_embeddings" in backend.operations:
                await exchange.answer(await backend.image_embeddings(request))
            case "/v1/safety/scores" if isinstance(backend, SafetyBackend):
                await exchange.answer(await backend.safety_scores(request))
            case "/v1/safety/attacks" if isinstance(backend, SafetyBackend):
                await exchange.answer(await backend.attack_scores(request))
            case "/v1/safety/image" if isinstance(backend, SafetyBackend):
                await exchange.answer(await backend.image_score(request))
            case "/tokenize":
                await exchange.answer(await backend.tokenize(request))
            case _:
                raise _not_found()


class _Exchange:
    """One request and its answer."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._head: asyncio.Future[None] | None = None
        self.is_stream = False

    async def json(self) -> JsonObject:
        """The body, which must be a JSON object."""
        body = bytearray()
        while True:
            message = await self._receive()
            body += message.get("body", b"")
            if len(body) > _BODY_LIMIT_BYTES:
                raise WorkerError(413, "too_large", "The request is too large.")
            if not message.get("more_body"):
                break
        if holds_more(bytes(body), JSON_CONTAINERS_MAXIMUM):
            raise WorkerError(400, "invalid_json", "The body holds too many objects and lists.")
        try:
            request = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError) as error:
            raise WorkerError(400, "invalid_json", "The body is not JSON, or is nested too deeply.") from error
        if not isinstance(request, dict):
            raise WorkerError(400, "invalid_json", "The body must be a JSON object.")
        return request

    async def hung_up(self) -> None:
        """Returns when the caller is gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def begin(self) -> None:
        """The work begins: the head goes out, by which the gateway knows that nothing is waited for any more."""
        if self._head is None:
            self._head = asyncio.ensure_future(self._send(self._start()))

    def _start(self) -> Message:
        headers = [(b"content-type", b"application/json")]
        if self.is_stream:
            headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
        return {"type": "http.response.start", "status": 200, "headers": headers}

    async def report(self, status: int, body: JsonObject, *headers: tuple[bytes, bytes]) -> None:
        """A JSON object that nothing is waited for."""
        payload = msgspec.json.encode(body)
        length = (b"content-length", str(len(payload)).encode())
        all_headers = [(b"content-type", b"application/json"), length, *headers]
        await self._send({"type": "http.response.start", "status": status, "headers": all_headers})
        await self._send({"type": "http.response.body", "body": payload})

    async def answer(self, body: JsonObject) -> None:
        """A whole JSON answer."""
        self.begin()
        await self._body(msgspec.json.encode(body), more=False)

    async def event(self, chunk: JsonObject) -> None:
        """One server-sent event."""
        self.begin()
        await self._body(b"data: " + msgspec.json.encode(chunk) + b"\n\n", more=True)

    async def done(self) -> None:
        """The end of a stream that is whole."""
        await self._body(b"data: [DONE]\n\n", more=False)

    async def refuse(self, error: WorkerError) -> None:
        """An error before the work began."""
        retry_after = error.retry_after_seconds
        headers = () if retry_after is None else ((b"retry-after", str(retry_after).encode()),)
        await self.report(error.status, error.body(), *headers)

    async def fail(self, error: WorkerError) -> None:
        """An error at any moment. A stream that has begun gets it as an event and is then cut, never ended cleanly; a
        whole answer that has begun is the error's body, with the status that its head can have no more."""
        body = {**error.body(), "status": error.status}
        if self._head is None:
            await self.refuse(error)
        elif self.is_stream:
            await self.event({**body, "choices": []})
        else:
            await self.answer(body)

    async def _body(self, body: bytes, *, more: bool) -> None:
        assert self._head is not None
        await self._head
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


Fold: TypeAlias = Callable[[AsyncIterator[JsonObject]], Awaitable[JsonObject]]


async def _stream_or_fold(
    request: JsonObject, chunks: AsyncIterator[JsonObject], fold: Fold, exchange: _Exchange
) -> None:
    if request.get("stream") not in (None, False, True):
        raise WorkerError.invalid("stream", "'stream' must be true or false.")
    exchange.is_stream = bool(request.get("stream"))
    try:
        if not exchange.is_stream:
            await exchange.answer(await fold(chunks))
            return
        options = request.get("stream_options")
        wants_usage = isinstance(options, dict) and bool(options.get("include_usage"))
        async for chunk in chunks:
            if chunk["choices"] or wants_usage:
                await exchange.event(chunk)
        await exchange.done()
    finally:
        # Closing the iterator is what stops the engine; `async for` alone would leave that to the garbage collector.
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


def _not_found() -> WorkerError:
    return WorkerError(404, "not_found", "This model does not do that.")
