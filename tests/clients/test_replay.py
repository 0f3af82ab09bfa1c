"""The recorded requests of genuine clients, sent again: whatever is answered, it is never a server error."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

import pytest

from .deployments import COHERE
from .serving import Server
from .wire import send

RECORDED = Path(__file__).parents[1] / "golden" / "requests" / "captured-client-requests.json"
REQUESTS: list[dict[str, Any]] = json.loads(RECORDED.read_text(encoding="utf-8"))["requests"]


def headers_of(recorded: dict[str, Any], server: Server) -> dict[str, str]:
    """The recorded headers with the placeholders filled in; what belongs to the connection is the connection's."""
    filled = {}
    for name, value in recorded["headers"].items():
        if name.lower() in {"host", "content-length", "connection", "transfer-encoding"}:
            continue
        value = value.replace("<key-or-token>", server.key).replace("<key>", server.key)
        filled[name] = value.replace("<uuid>", str(uuid.uuid4()))
    return filled


def addressed(recorded: dict[str, Any]) -> dict[str, Any]:
    """The same request for a deployment that is here: recorded names are mostly not."""
    target, body = recorded["target"], recorded["body"]
    name = COHERE if "embeddings" in target else "gpt-4o"
    target = re.sub(r"(?<=/deployments/)[^/]+", name, target)
    named = isinstance(body, dict) and "model" in body
    return {**recorded, "target": target, "body": {**body, "model": name} if named else body}


@pytest.mark.check(129)
@pytest.mark.parametrize("here", [False, True], ids=["as-recorded", "for-a-deployment-that-is-here"])
@pytest.mark.parametrize(
    "recorded", REQUESTS, ids=[f"{i:03}-{r['client'].split('/')[0]}".replace(" ", "-") for i, r in enumerate(REQUESTS)]
)
def test_a_recorded_request_is_never_a_server_error(server: Server, recorded: dict[str, Any], here: bool) -> None:
    recorded = addressed(recorded) if here else recorded
    body = recorded["body"]
    data = json.dumps({"max_tokens": 8, **body} if "messages" in (body or {}) else body).encode() if body else None
    reply = send(recorded["method"], server.url + recorded["target"], data, headers_of(recorded, server))
    assert reply.status < 500, reply.body
    if reply.status >= 400:
        assert reply.json()["error"]["message"]
        assert reply.headers["x-ms-error-code"]
    assert not reply.cut
