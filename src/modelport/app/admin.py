"""Gives the administration's endpoints to the doors' router: one table of routes, one place that asks who may."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from modelport.admin.endpoint import Endpoint
from modelport.admin.usage import endpoints
from modelport.app.owner import Ledger
from modelport.config.settings import Settings
from modelport.core.clock import Clock
from modelport.surfaces import azure_inference
from modelport.surfaces.asgi import Reply
from modelport.surfaces.door import Route
from modelport.surfaces.exchange import Exchange


def admin_routes(ledger: Ledger, settings: Settings, clock: Clock) -> list[Route]:
    """All of `/admin/v1`. Refusals have the shape of the root form."""
    return [
        Route(
            method=endpoint.method,
            path=endpoint.path,
            permission="administrator",
            door=azure_inference.ROOT,
            endpoint=adapted(endpoint),
        )
        for endpoint in endpoints(ledger, clock, account="modelport", region=settings.server.region)
    ]


def adapted(endpoint: Endpoint) -> Callable[[Exchange], Awaitable[Reply]]:
    """The endpoint for an exchange."""

    async def answered(exchange: Exchange) -> Reply:
        answer = await endpoint.answer(exchange.head.query)
        return Reply(answer.body, content_type=answer.content_type, headers=answer.headers)

    return answered
