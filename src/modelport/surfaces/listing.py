"""The lists of `/openai/models`, `/openai/v1/models` and `/v1/models`, and one entry of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from modelport.core.catalog import Deployment
from modelport.core.roles import Permission
from modelport.dialects.openai_shape.model_list import ListedModel, model, model_list
from modelport.surfaces.asgi import Reply
from modelport.surfaces.door import Door, Route
from modelport.surfaces.exchange import Exchange


def routes(door: Door, bases: Sequence[str], created_at: float) -> list[Route]:
    """`created_at`: unix seconds; deployments from the configuration are as old as the process."""
    everything, one = endpoints(math.floor(created_at))
    return [
        Route(
            method="GET",
            path=base + path,
            permission=Permission.LIST_MODELS,
            base=base if base.endswith("/v1") and "{" not in base else None,
            door=door,
            endpoint=endpoint,
        )
        for base in bases
        for path, endpoint in (("/models", everything), ("/models/{name}", one))
    ]


def endpoints(created: int) -> tuple[Callable[[Exchange], Reply], Callable[[Exchange], Reply]]:
    """The list, and one entry of it."""

    def listed(deployment: Deployment) -> ListedModel:
        return ListedModel(id=deployment.name, created=created, owned_by=deployment.model.provider_name)

    def everything(exchange: Exchange) -> Reply:
        assert exchange.principal is not None
        # An invalid api-version is refused here as it is anywhere.
        _ = exchange.head.api_version
        return Reply(model_list(map(listed, exchange.gateway.visible(exchange.principal))))

    def one(exchange: Exchange) -> Reply:
        assert exchange.principal is not None
        _ = exchange.head.api_version
        return Reply(model(listed(exchange.gateway.named(exchange.principal, exchange.parameters["name"]))))

    return everything, one
