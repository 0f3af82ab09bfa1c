"""A token server and an upstream of one process, which a test tells what to answer and which remember what they got."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs

from http_servers import listening

ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


class TokenWorld:
    """`/token` issues `opaque-token-1`, `-2` …; `/v1/…` answers those who show one of `accepted`, or any where it is
    None."""

    def __init__(self) -> None:
        self.url = ""
        self.token_status = 200
        self.seconds: int = 3600
        self.issued = 0
        self.accepted: set[str] | None = None
        self.forms: list[dict[str, list[str]]] = []
        self.shown: list[str] = []
        """The `Authorization` of each request to the upstream."""

    def answer(self, path: str, authorization: str, body: bytes) -> tuple[int, Any]:
        """Status and document."""
        if path == "/token":
            self.forms.append(parse_qs(body.decode()))
            if self.token_status != 200:
                return self.token_status, {"error": "temporarily_unavailable", "error_description": body.decode()}
            self.issued += 1
            token = f"opaque-token-{self.issued}"
            return 200, {"access_token": token, "token_type": "Bearer", "expires_in": self.seconds}
        self.shown.append(authorization)
        if self.accepted is not None and authorization.removeprefix("Bearer ") not in self.accepted:
            return 401, {"error": {"message": f"I do not like {authorization}, that is {authorization[7:]}"}}
        return 200, ANSWER


@contextmanager
def token_world() -> Iterator[TokenWorld]:
    """Both listen until the end."""
    world = TokenWorld()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            status, document = world.answer(self.path, self.headers.get("authorization", ""), body)
            data = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with listening(Handler) as port:
        world.url = f"http://127.0.0.1:{port}"
        yield world
