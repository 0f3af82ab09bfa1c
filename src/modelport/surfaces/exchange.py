"""One request under way: what is known of it, what it may use, and how it is answered."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from modelport.core.errors import ModelportError, TooManyFailures, Unauthenticated
from modelport.core.excerpts import excerpt
from modelport.core.identity import Audience, Principal
from modelport.surfaces.asgi import Headers, Reply, Send
from modelport.surfaces.gateway_port import Gateway
from modelport.surfaces.headers import RequestHead, common_headers, printable
from modelport.surfaces.limits import Body
from modelport.surfaces.options import Options

log = logging.getLogger("modelport.surfaces")


@dataclass(slots=True)
class Exchange:
    """Made by the app for each request; only the app and the answer change it."""

    head: RequestHead
    gateway: Gateway
    options: Options
    body: Body
    send: Send
    cors: Headers
    scheme: str = "http"
    local_address: str | None = None
    """The address of this server that the connection came in at; None on a unix socket."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    audience: Audience = "inference"
    """What tokens have to be issued for here."""
    principal: Principal | None = None
    """Known where the route wants a credential and is no inference call."""
    started: bool = False
    """The response's head is out: nothing can be refused any more."""

    @property
    def is_stopped_by_us(self) -> bool:
        """For a cancellation: the server is ending, it is not that the client has gone."""
        return self.gateway.draining and not self.body.client_gone

    async def caller(self) -> Principal | None:
        """Who asks, where the route wants no credential; None: no valid one was shown."""
        try:
            return await self.caller_of_endpoint()
        except TooManyFailures as error:
            note_refused(self.head, error)
            return None

    async def caller_of_endpoint(self) -> Principal | None:
        """The same, for a subtree whose endpoints ask for one. Raises TooManyFailures."""
        credential = replace(self.head.credential, audience=self.audience)
        try:
            return await self.gateway.identify(credential)
        except Unauthenticated as error:
            if credential.shown:
                note_refused(self.head, error)
            return None

    async def start(self, status: int, content_type: bytes | None, more: Headers) -> None:
        """Sends the response's head."""
        headers = common_headers(self.head, printable(self.options.region))
        if content_type is not None:
            headers.append((b"content-type", content_type))
        headers += more
        headers += self.cors
        if self.gateway.draining:
            headers.append((b"connection", b"close"))
        self.started = True
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def finish(self, data: bytes) -> None:
        """Sends the last piece."""
        await self.send({"type": "http.response.body", "body": data, "more_body": False})

    async def reply(self, reply: Reply) -> None:
        """Sends a whole answer; first makes way for it where the body was left unread."""
        headers = list(reply.headers)
        if reply.content_type is not None:
            headers.append((b"content-length", b"%d" % len(reply.body)))
        if not await self.body.discard():
            headers.append((b"connection", b"close"))
        await self.start(reply.status, reply.content_type, headers)
        await self.finish(reply.body)


def note_refused(head: RequestHead, error: ModelportError) -> None:
    """One line for a request that is no inference call, which would have its line in the access log: but for most of a
    flood."""
    if isinstance(error, TooManyFailures) and not error.is_logged:
        return
    why, whose = error.reason or error.message, f"request_id={head.request_id}"
    if isinstance(error, Unauthenticated | TooManyFailures):
        whose += f" address={head.peer.address}"
    log.info("%s %s: %d %s %s", head.method, excerpt(head.path), error.status, why, whose)
