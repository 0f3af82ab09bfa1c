"""What a relay costs that is made the usual way, with care: uvicorn, raw ASGI, aiohttp, msgspec, uvloop.

It does the checks of the lane (key, typed body, deployment, a token bucket, one journal line before and one after,
counters) and nothing of the rest, so it is the floor of that way of building.

    python -m bench.reference_relay PORT UPSTREAM_PORT KEY JOURNAL_FILE
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import hmac
import os
import sys
import time
import uuid
from typing import Any

import aiohttp
import msgspec
import uvicorn
import uvloop

from modelport.core.errors import ModelportError
from modelport.dialects.openai_chat.requests import decode_chat

SALT = os.urandom(32)
Scope = dict[str, Any]


class Relay:
    """The ASGI callable."""

    def __init__(self, upstream_port: int, key: str, journal: str) -> None:
        self.url = f"http://127.0.0.1:{upstream_port}/v1/chat/completions"
        self.keys = {hmac.digest(SALT, key.encode(), hashlib.sha256)}
        self.journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.session: aiohttp.ClientSession | None = None
        self.tokens_left, self.refilled = 1e12, time.monotonic()
        self.requests = self.tokens = 0

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        shown = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")[2]
        if hmac.digest(SALT, shown, hashlib.sha256) not in self.keys:
            await answer(send, 401, b'{"error":{"code":"401"}}')
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        try:
            request = decode_chat(body)
        except ModelportError as error:
            await answer(send, error.status, b'{"error":{}}')
            return
        if request.model != "bench":
            await answer(send, 404, b'{"error":{"code":"DeploymentNotFound"}}')
            return
        now = time.monotonic()
        self.tokens_left = min(1e12, self.tokens_left + (now - self.refilled) * 1e10) - (request.max_tokens or 1024)
        self.refilled = now
        await self.relay(body, request.stream, send)

    async def relay(self, body: bytes, streams: bool, send: Any) -> None:
        """Asks, passes on, counts."""
        call = str(uuid.uuid4())
        self.write({"id": call, "kind": "open", "at": time.time()})
        if self.session is None:
            self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        async with self.session.post(self.url, data=body, headers={"Content-Type": "application/json"}) as response:
            if not streams:
                data = await response.read()
                used = msgspec.json.decode(data)["usage"]["total_tokens"]
                self.close(call, used)
                await answer(send, response.status, data)
                return
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            async for piece in response.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            self.close(call, 0)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def close(self, call: str, used: int) -> None:
        """The line that ends the call."""
        self.requests += 1
        self.tokens += used
        self.write({"id": call, "kind": "close", "at": time.time(), "tokens": used})

    def write(self, line: dict[str, Any]) -> None:
        """With the kernel when it returns."""
        os.write(self.journal, msgspec.json.encode(line) + b"\n")


async def answer(send: Any, status: int, body: bytes) -> None:
    """One JSON object."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def main(port: int, upstream_port: int, key: str, journal: str) -> None:
    """Serves until it is told to stop."""
    relay = Relay(upstream_port, key, journal)
    config = uvicorn.Config(
        relay, port=port, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False
    )
    gc.freeze()
    await uvicorn.Server(config).serve()
    if relay.session is not None:
        await relay.session.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]))
