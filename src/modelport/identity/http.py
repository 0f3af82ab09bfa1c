"""The issuer's HTTP face: an ASGI application that believes this machine alone."""

from __future__ import annotations

import ipaddress
import json
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final
from urllib.parse import parse_qsl

from modelport.identity.endpoints import Reply, Request

BODY_BYTES_LIMIT: Final = 65_536
_logger = logging.getLogger("modelport.identity")

Answerer = Callable[[Request], Reply]


class IdentityApp:
    """Answers requests with `answer`, once they are this machine's own.

    A web page of another site can make a browser on this machine send requests here: it shows its `Origin`, or the name
    that it has bound to this address as the `Host`. Both are refused.
    """

    def __init__(self, answer: Answerer, hosts: Collection[str]) -> None:
        """`hosts`: what `Host` may say, `name:port` in lower case."""
        self._answer = answer
        self._hosts = frozenset(hosts)

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """ASGI, for `http` alone."""
        assert scope["type"] == "http"
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        reply = self._foreign(scope, headers)
        if reply is None:
            body = await _body(receive)
            if body is None:
                reply = Reply(413, {"error": "invalid_request", "error_description": "The body is too large."})
            else:
                reply = self._answer(
                    Request(
                        method=scope["method"],
                        path=scope["path"],
                        query=_values(scope["query_string"]),
                        headers=headers,
                        form=_values(body) if _is_form(headers) else {},
                    )
                )
        if reply.about:
            _logger.info("%s", reply.about)
        data = json.dumps(reply.document).encode()
        fields = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
        fields += [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
        await send({"type": "http.response.start", "status": reply.status, "headers": fields})
        await send({"type": "http.response.body", "body": data})

    def _foreign(self, scope: dict[str, Any], headers: dict[str, str]) -> Reply | None:
        peer = scope.get("client")
        if peer is None or not _is_loopback(peer[0]):
            return Reply(403, {"error": "forbidden"}, "refused: the caller is on another machine")
        if headers.get("host", "").lower() not in self._hosts:
            return Reply(421, {"error": "misdirected_request"}, "refused: the Host is not this issuer")
        if "origin" in headers:
            return Reply(403, {"error": "forbidden"}, "refused: the caller is a web page")
        return None


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _is_form(headers: dict[str, str]) -> bool:
    return headers.get("content-type", "").partition(";")[0].strip().lower() == "application/x-www-form-urlencoded"


def _values(encoded: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(encoded.decode("latin-1"), keep_blank_values=True, max_num_fields=50))
    except ValueError:
        return {}


async def _body(receive: Callable[[], Awaitable[Any]]) -> bytes | None:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if len(body) > BODY_BYTES_LIMIT:
            return None
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return body
