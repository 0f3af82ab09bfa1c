"""The paths of this surface (contract A.1 row 3), and what clients make of them."""

from __future__ import annotations

from typing import Final

from modelport.core.errors import ModelportError
from modelport.core.operations import Operation
from modelport.core.roles import Permission
from modelport.dialects.azure_openai import errors
from modelport.dialects.error_body import ErrorBody
from modelport.dialects.reasoning import reasoning_place
from modelport.gateway.call import Selector
from modelport.surfaces import listing
from modelport.surfaces.door import Door, Inference, Parameters, Route, always
from modelport.surfaces.headers import RequestHead
from modelport.surfaces.openai_speech import PATHS, SPEECHES

BASES: Final = ("/openai", "/models/openai", "/api/models/openai")
"""litellm sends OpenAI's embedding models to `{base}/openai/deployments/…`, also where the base ends in `/models`."""


def refuse(error: ModelportError, head: RequestHead, operation: Operation | None) -> ErrorBody:
    """The error in Azure OpenAI's shape."""
    api_version = head.query.get("api-version")
    return errors.encode(error, operation=operation or Operation.CHAT_COMPLETIONS, api_version=api_version)


DOOR: Final = Door(surface="azure_openai", refuse=refuse)


def routes(created_at: float) -> list[Route]:
    """All of them."""
    found = [
        Route(
            method="POST",
            path=f"{base}/deployments/{{deployment}}{PATHS[operation]}",
            permission=Permission.INFER,
            base="" if base == BASES[0] else None,
            door=DOOR,
            endpoint=Inference(
                operation=operation,
                speech=always(speech),
                selector=in_the_path,
                reasoning=reasoning_place,
                checks_extras=False,
                needs_api_version_when_strict=True,
            ),
        )
        for base in BASES
        for operation, speech in SPEECHES.items()
    ]
    return [*found, *listing.routes(DOOR, BASES, created_at)]


def in_the_path(head: RequestHead, parameters: Parameters) -> Selector:
    """The path's deployment wins over a `model` in the body, which may name anything."""
    return Selector(path=parameters["deployment"], body_selects=False)
