"""Is it alive, is it ready, and how busy is it: for load balancers, supervisors and Prometheus."""

from __future__ import annotations

from typing import Any

import msgspec

from modelport.core.roles import Permission
from modelport.surfaces.asgi import Reply
from modelport.surfaces.door import Door, Route
from modelport.surfaces.exchange import Exchange

PROMETHEUS = b"text/plain; version=0.0.4; charset=utf-8"
NEVER_STORED = (b"cache-control", b"no-store")


def routes(door: Door, metrics_public: bool) -> list[Route]:
    """`door` words the refusals."""
    return [
        Route(method="GET", path="/health", permission="public", door=door, endpoint=alive),
        Route(method="GET", path="/health/live", permission="public", door=door, endpoint=alive),
        Route(method="GET", path="/health/ready", permission="public", door=door, endpoint=ready),
        Route(
            method="GET",
            path="/metrics",
            permission="public" if metrics_public else Permission.READ_METRICS,
            door=door,
            endpoint=metrics,
        ),
    ]


def alive(exchange: Exchange) -> Reply:
    """200 while the process serves."""
    return Reply(b'{"status":"ok"}', headers=(NEVER_STORED,))


async def ready(exchange: Exchange) -> Reply:
    """200 when every deployment can answer. A caller with a credential reads which of the deployments that it may use
    cannot, and why; an administrator reads the same of the stores."""
    is_ready = exchange.gateway.ready()
    answer: dict[str, Any] = {"status": "ready" if is_ready else "not_ready"}
    caller = await exchange.caller()
    if caller is not None:
        answer["draining"] = exchange.gateway.draining
        snapshot = exchange.gateway.snapshot()
        answer["snapshot"] = {"id": snapshot.id, "version": snapshot.version}
        answer["default_content_filter"] = snapshot.default_content_filter
        answer["deployments"] = [
            {"name": state.deployment.name, "state": state.state, "reason": state.reason}
            for state in exchange.gateway.visible_states(caller)
        ]
    if caller is not None and caller.may(Permission.MANAGE):
        answer["stores"] = [
            {"name": store.name, "state": store.state, "reason": store.reason} for store in exchange.gateway.stores()
        ]
    headers = (NEVER_STORED,) if is_ready else (NEVER_STORED, (b"retry-after", b"1"))
    return Reply(msgspec.json.encode(answer), status=200 if is_ready else 503, headers=headers)


async def metrics(exchange: Exchange) -> Reply:
    """Prometheus text."""
    found = exchange.gateway.metrics()
    return Reply(found if isinstance(found, bytes) else await found, content_type=PROMETHEUS, headers=(NEVER_STORED,))
