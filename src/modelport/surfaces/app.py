"""The ASGI application: finds the route, asks for what it demands, and turns every failure into the surface's own
words. The one place in the doors that catches everything."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from modelport.core.errors import (
    Forbidden,
    InternalError,
    MethodNotAllowed,
    ModelportError,
    PermissionDenied,
    RouteNotFound,
)
from modelport.core.faults import drop_frames, frames
from modelport.core.operations import Operation
from modelport.core.roles import Permission
from modelport.gateway.machine import stopped
from modelport.surfaces import azure_inference, azure_openai, contentsafety, cors, health, openai_v1, pages
from modelport.surfaces.asgi import Receive, Reply, Scope, Send
from modelport.surfaces.door import Door, Inference, Recorded, Route
from modelport.surfaces.exchange import Exchange, note_refused
from modelport.surfaces.gateway_port import Gateway
from modelport.surfaces.headers import RequestHead, error_headers
from modelport.surfaces.limits import Body
from modelport.surfaces.local_names import refusal_of
from modelport.surfaces.options import Options
from modelport.surfaces.peers import link_of
from modelport.surfaces.router import Match, Router
from modelport.surfaces.wrong_path import WrongPaths, origin_of

log = logging.getLogger("modelport.surfaces")


def build(gateway: Gateway, options: Options | None = None, more: Sequence[Route] = ()) -> Doors:
    """The doors, and `more` behind the same table, ready for a server. Raises UnusableRoute for a table with a route
    that declares no permission."""
    return Doors(gateway, options or Options(), more)


class Doors:
    """The ASGI callable."""

    def __init__(self, gateway: Gateway, options: Options, more: Sequence[Route] = ()) -> None:
        self.gateway = gateway
        self.options = options
        routes = [*all_routes(options), *more]
        self.router = Router(routes, fallbacks())
        self.wrong_paths = WrongPaths(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        elif scope["type"] == "http":
            await self._exchange(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        scheme, source = scope.get("scheme", "http"), (scope.get("client") or (None,))[0]
        local_address = (scope.get("server") or (None,))[0]
        head = RequestHead.of(scope, link_of(scheme, source, local_address, self.options))
        body = Body(receive, head, self.options.limits)
        exchange = Exchange(
            head=head,
            gateway=self.gateway,
            options=self.options,
            body=body,
            send=send,
            cors=cors.answer_headers(head, self.options.cors_origins),
            scheme=scheme,
            local_address=local_address,
        )
        try:
            await self._answered(exchange)
        except asyncio.CancelledError:
            if not body.client_gone:
                raise

    async def _answered(self, exchange: Exchange) -> None:
        """The three ends of a request: answered, refused, broken. Returning without having finished a response that
        was started makes the server cut the connection."""
        match = self.router.match(exchange.head.path)
        route = match.route(exchange.head.method)
        try:
            await self._routed(exchange, match, route)
        except ModelportError as error:
            note_refused(exchange.head, error)
            if not exchange.started:
                await exchange.reply(refusal(error, exchange.head, match.door, None))
            drop_frames(error)
        except asyncio.CancelledError:
            if not exchange.is_stopped_by_us:
                raise
            # The task ends here either way; raised, it would be reported as a fault of ours.
            if not exchange.started:
                await exchange.reply(refusal(stopped(), exchange.head, match.door, None))
        except Exception as error:  # noqa: BLE001 - the end of a request
            log.error(
                "unhandled %s: %s %s request_id=%s\n%s",
                type(error).__name__,
                exchange.head.method,
                route.path if route else "(no route)",
                exchange.head.request_id,
                frames(error),
            )
            if not exchange.started:
                await exchange.reply(refusal(InternalError(), exchange.head, match.door, None))

    async def _routed(self, exchange: Exchange, match: Match, route: Route | None) -> None:
        head = exchange.head
        if self.gateway.snapshot().anonymous:
            refused = refusal_of(head.headers.get(b"host"), head.headers.get(b"origin"), self.options)
            if refused is not None:
                raise Forbidden(refused)
        if not match.routes:
            origin = origin_of(exchange.scheme, head.text(b"host"))
            raise self.wrong_paths.refusal(head.method, head.path, origin)
        if head.method == "OPTIONS":
            await exchange.reply(cors.preflight(head, self.options.cors_origins, match.allow))
            return
        if route is None:
            raise MethodNotAllowed(match.allow)
        exchange.parameters, exchange.audience = match.parameters, route.audience
        if isinstance(route.endpoint, Inference):
            raise RouteNotFound  # the server's protocol answers these itself (lane/protocol.py)
        if isinstance(route.endpoint, Recorded):
            exchange.principal = await self.gateway.identify(head.credential)
            await exchange.reply(await route.endpoint.answer(exchange))
            return
        if isinstance(route.permission, Permission):
            exchange.principal = await self.gateway.identify(head.credential)
            if not exchange.principal.may(route.permission):
                raise PermissionDenied(exchange.principal.advice)
        reply = route.endpoint(exchange)
        await exchange.reply(reply if isinstance(reply, Reply) else await reply)


def all_routes(options: Options) -> list[Route]:
    """Every path there is."""
    created_at = options.clock.now()
    return [
        *pages.routes(azure_inference.ROOT),
        *health.routes(azure_inference.ROOT, options.metrics_public),
        *azure_inference.routes(),
        *azure_openai.routes(created_at),
        *openai_v1.routes(created_at),
        *contentsafety.routes(),
    ]


def fallbacks() -> Sequence[tuple[str, Door]]:
    """Who says that there is nothing, by path prefix."""
    return [
        ("", azure_inference.ROOT),
        *((base, azure_inference.MODELS) for base in azure_inference.MODELS_BASES),
        *((base, azure_openai.DOOR) for base in azure_openai.BASES),
        *((base, openai_v1.DOOR) for base in openai_v1.BASES if "{" not in base),
        (contentsafety.BASE, contentsafety.DOOR),
    ]


def refusal(error: ModelportError, head: RequestHead, door: Door, operation: Operation | None) -> Reply:
    """The error in the surface's shape."""
    encoded = door.refuse(error, head, operation)
    return Reply(encoded.body, status=encoded.status, headers=tuple(error_headers(error, encoded)))


async def lifespan(receive: Receive, send: Send) -> None:
    """Start and end are the composition root's; here they are only acknowledged."""
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
