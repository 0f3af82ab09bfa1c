"""The providers under contract, each set up to play the same scenes. A scene is named by what the user says."""

import asyncio
import base64
import json
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

from aiohttp import web

from modelport.core.catalog import Target, Timeouts
from modelport.core.events import Event
from modelport.core.ports.providers import OpeningProvider, Provider
from modelport.core.requests import Request
from modelport.providers import openai_compatible, scripted
from modelport.upstream.transports.aiohttp import AiohttpTransport

PATIENT = Timeouts(connect=5, first_event=30, between_events=30, whole=60)
TARGET = Target("under-test", "the-model")


class Harness:
    """One provider, and what is known on its far side."""

    def __init__(self, provider: Provider | OpeningProvider) -> None:
        self.provider = provider
        self.transport = AiohttpTransport()
        self.gone = asyncio.Event()
        """The far side has noticed that nobody waits any more."""
        self.silent = asyncio.Event()
        """The far side has a request that it will not answer."""

    async def events(self, request: Request, timeouts: Timeouts = PATIENT) -> AsyncGenerator[Event, None]:
        """As the way drives a provider."""
        if not isinstance(self.provider, Provider):
            async with aclosing(self.provider.open(request, TARGET)) as source:
                async for event in source:
                    yield event
            return
        sent = self.provider.encode(request, TARGET)
        async with self.transport.send(self.provider.address, sent, timeouts) as answer:
            if answer.status != 200:
                raise self.provider.failure(answer.status, answer.headers, await answer.body(65_536))
            reading = self.provider.decoder(request)
            async for piece in answer.chunks():
                for event in reading.feed(piece):
                    yield event
            for event in reading.end():
                yield event

    async def reached(self) -> None:
        await asyncio.wait_for(self.silent.wait(), 20)

    async def noticed(self) -> None:
        await asyncio.wait_for(self.gone.wait(), 20)


class ScriptedHarness(Harness):
    """The scripted provider is its own far side, and counts its cancellations."""

    async def reached(self) -> None:
        while not self.provider.stats.calls:
            await asyncio.sleep(0)

    async def noticed(self) -> None:
        assert self.provider.stats.cancelled == 1


@asynccontextmanager
async def scripted_harness() -> AsyncIterator[Harness]:
    replies = [
        {"match": {"contains": "think"}, "reasoning": "hm hm", "text": "four"},
        {"match": {"contains": "limited"}, "fault": {"status": 429, "retry_after": 7}},
        {"match": {"contains": "too long"}, "fault": {"status": 400, "code": "context_length_exceeded"}},
        {"match": {"contains": "refused"}, "fault": {"status": 422, "param": "seed", "message": "no seed"}},
        {"match": {"contains": "down"}, "fault": {"status": 500}},
        {"match": {"contains": "breaks"}, "chunks": ["Hel", "lo"], "fault_after_chunks": 1},
        {"match": {"contains": "hangs"}, "chunks": ["Hel", "lo"], "hang_after_chunks": 1},
        {"match": {"contains": "silent"}, "hang_after_chunks": 0},
        {"match": {"contains": "call"}},
        {"match": {"operation": "embeddings"}},
        {"match": {"operation": "image_embeddings"}},
        {"chunks": ["Hel", "lo"]},
    ]
    settings = scripted.Settings.model_validate({"replies": replies, "dimensions": 4})
    yield ScriptedHarness(scripted.open(settings, "under-test"))


@asynccontextmanager
async def compatible_harness() -> AsyncIterator[Harness]:
    server = FakeServer()
    runner = web.AppRunner(server.app(), handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    settings = {"base_url": f"http://127.0.0.1:{port}/v1", "api_key": "sk-upstream", "headers": {"x-team": "blue"}}
    harness = Harness(openai_compatible.open(openai_compatible.Settings.model_validate(settings), "under-test"))
    server.gone, server.silent = harness.gone, harness.silent
    try:
        yield harness
    finally:
        await harness.transport.close()
        await runner.cleanup()


class FakeServer:
    """An OpenAI-compatible server that plays the scenes over a real socket."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.silent = asyncio.Event()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/completions", self.completions)
        app.router.add_post("/v1/embeddings", self.embeddings)
        app.router.add_post("/v1/images/embeddings", self.embeddings)
        return app

    async def chat(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["authorization"] == "Bearer sk-upstream"
        assert request.headers["x-team"] == "blue"
        asked = await request.json()
        assert asked["model"] == "the-model"
        scene = asked["messages"][-1]["content"]
        try:
            return await self.play(request, asked, scene)
        except (asyncio.CancelledError, ConnectionResetError):
            self.gone.set()
            raise

    async def play(self, request: web.Request, asked: dict, scene: str) -> web.StreamResponse:
        if refusal := refused(scene):
            return refusal
        if scene == "silent":
            self.silent.set()
            await asyncio.Event().wait()
        chunks = deltas(asked, scene)
        if not asked.get("stream") and scene not in ("breaks", "hangs"):
            return web.json_response(folded(asked, chunks))
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for place, delta in enumerate(chunks):
            choice = {"index": delta.pop("choice", 0), "delta": delta, "finish_reason": None}
            await response.write(event({"choices": [choice]}))
            if scene == "breaks":
                request.transport.abort()
                return response
            if scene == "hangs" and place == 0:
                await asyncio.Event().wait()
        for index in range(asked.get("n", 1)):
            reason = "tool_calls" if "tools" in asked else "stop"
            await response.write(event({"choices": [{"index": index, "delta": {}, "finish_reason": reason}]}))
        if asked.get("stream_options", {}).get("include_usage"):
            await response.write(event({"choices": [], "usage": USAGE}))
        await response.write(b"data: [DONE]\n\n")
        return response

    async def completions(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        prompts = asked["prompt"] if isinstance(asked["prompt"], list) else [asked["prompt"]]
        choices = [{"index": index, "text": "Hello", "finish_reason": "stop"} for index in range(len(prompts))]
        return web.json_response({"id": "c", "model": "theirs", "choices": choices, "usage": USAGE})

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        size = asked.get("dimensions", 4)
        vector = struct.pack(f"<{size}f", *[0.5] * size)
        data = [
            {"index": index, "embedding": base64.b64encode(vector).decode()} for index in range(len(asked["input"]))
        ]
        return web.json_response({"model": "theirs", "data": data, "usage": {"prompt_tokens": 2, "total_tokens": 2}})


USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def event(fields: dict) -> bytes:
    return b"data: " + json.dumps({"id": "c", "model": "theirs", **fields}).encode() + b"\n\n"


def refused(scene: str) -> web.Response | None:
    def say(status: int, headers: dict | None = None, **error: object) -> web.Response:
        return web.json_response({"error": error}, status=status, headers=headers)

    match scene:
        case "limited":
            return say(429, {"retry-after": "7"}, message="slow down")
        case "too long":
            return say(400, message="too long", code="context_length_exceeded")
        case "refused":
            return say(422, message="no seed", param="seed", code="parameter_not_supported")
        case "down":
            return say(500, message="broken")
    return None


def deltas(asked: dict, scene: str) -> list[dict]:
    if "tools" in asked:
        function = {"name": asked["tools"][0]["function"]["name"], "arguments": ""}
        first = {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]}
        return [
            {"role": "assistant", "content": None},
            first,
            {"tool_calls": [piece("{")]},
            {"tool_calls": [piece("}")]},
        ]
    if scene == "think":
        return [{"reasoning_content": "hm"}, {"content": "four"}]
    return [{"content": text, "choice": n} for n in range(asked.get("n", 1)) for text in ("Hel", "lo")]


def piece(arguments: str) -> dict:
    return {"index": 0, "function": {"arguments": arguments}}


def folded(asked: dict, chunks: list[dict]) -> dict:
    choices = []
    for index in range(asked.get("n", 1)):
        mine = [delta for delta in chunks if delta.get("choice", 0) == index]
        message = {"role": "assistant", "content": "".join(delta.get("content") or "" for delta in mine)}
        if "tools" in asked:
            function = {"name": asked["tools"][0]["function"]["name"], "arguments": "{}"}
            message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
        if any("reasoning_content" in delta for delta in mine):
            message["reasoning_content"] = "hm"
        choices.append({"index": index, "message": message, "finish_reason": "stop"})
    return {"id": "c", "model": "theirs", "choices": choices, "usage": USAGE}


HARNESSES = {"scripted": scripted_harness, "openai_compatible": compatible_harness}
