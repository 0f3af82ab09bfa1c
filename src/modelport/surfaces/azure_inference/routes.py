"""The paths of this surface (contract A.1 rows 1, 2, 5 and 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from modelport.core.operations import Operation
from modelport.core.roles import Permission
from modelport.dialects.azure_inference import answers
from modelport.dialects.azure_inference.errors import Form
from modelport.dialects.reasoning import reasoning_place
from modelport.surfaces.asgi import Reply
from modelport.surfaces.azure_inference.doors import (
    MANAGED,
    MODELS,
    MODELS_BASES,
    ROOT,
    ROOT_BASES,
    among_many,
    the_only_one,
)
from modelport.surfaces.azure_inference.speech import SPEECHES, score
from modelport.surfaces.door import Door, Inference, Route, always
from modelport.surfaces.exchange import Exchange

PATHS: Final = {
    Operation.CHAT_COMPLETIONS: "/chat/completions",
    Operation.COMPLETIONS: "/completions",
    Operation.EMBEDDINGS: "/embeddings",
    Operation.IMAGE_EMBEDDINGS: "/images/embeddings",
}


def routes() -> list[Route]:
    """All of them."""
    found: list[Route] = []
    for base in MODELS_BASES:
        found += operations(base, MODELS, "models")
        found.append(
            Route(method="GET", path=f"{base}/info", permission=Permission.LIST_MODELS, door=MODELS, endpoint=info)
        )
    for base in ROOT_BASES:
        found += operations(base, ROOT, "root")
        found.append(
            Route(method="GET", path=f"{base}/info", permission=Permission.LIST_MODELS, door=ROOT, endpoint=root_info)
        )
        found.append(scoring(base))
    return found


def describing(base: str, door: Door, endpoint: Callable[[Exchange], Reply]) -> Route:
    """`/info` below one base."""
    return Route(method="GET", path=f"{base}/info", permission=Permission.LIST_MODELS, door=door, endpoint=endpoint)


def operations(base: str, door: Door, form: Form) -> list[Route]:
    """The inference calls below one base."""
    return [
        Route(
            method="POST",
            path=base + path,
            permission=Permission.INFER,
            base=base,
            door=door,
            endpoint=Inference(
                operation=operation,
                speech=always(SPEECHES[operation](form)),
                selector=among_many if form == "models" else the_only_one,
                reasoning=reasoning_place,
                checks_extras=True,
            ),
        )
        for operation, path in PATHS.items()
    ]


def scoring(base: str) -> Route:
    """`/score`: it never knew the extra-parameters header."""
    return Route(
        method="POST",
        path=f"{base}/score",
        permission=Permission.INFER,
        door=MANAGED,
        endpoint=Inference(
            operation=Operation.CHAT_COMPLETIONS,
            speech=score,
            is_shared=False,
            selector=the_only_one,
            reasoning=reasoning_place,
            checks_extras=False,
        ),
    )


def info(exchange: Exchange) -> Reply:
    """What the deployment named by `?model=` is, or else by the header, or else the default one."""
    assert exchange.principal is not None
    _ = exchange.head.api_version
    selector = among_many(exchange.head, exchange.parameters)
    model = exchange.head.query.get("model")
    return Reply(answers.info(exchange.gateway.describe(exchange.principal, selector, model)))


def root_info(exchange: Exchange) -> Reply:
    """What the one deployment here is."""
    assert exchange.principal is not None
    _ = exchange.head.api_version
    selector = the_only_one(exchange.head, exchange.parameters)
    return Reply(answers.info(exchange.gateway.describe(exchange.principal, selector, None)))
