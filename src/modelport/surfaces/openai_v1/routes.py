"""The paths of this surface (contract A.1 rows 4 to 6), and what clients make of them."""

from __future__ import annotations

from typing import Final

from modelport.core.errors import ModelportError
from modelport.core.operations import Operation
from modelport.core.roles import Permission
from modelport.dialects.error_body import ErrorBody
from modelport.dialects.openai_chat import errors
from modelport.dialects.reasoning import ReasoningPlace
from modelport.gateway.call import Selector
from modelport.gateway.codec import Speech
from modelport.surfaces import listing
from modelport.surfaces.door import Door, Inference, Parameters, Route, always
from modelport.surfaces.headers import RequestHead
from modelport.surfaces.openai_speech import PATHS, SPEECHES

BASES: Final = ("/openai/v1", "/v1", "/api/projects/{project}/openai/v1", "/deployments/{deployment}/v1")
"""A project of ours is a matter of keys, so the one in the path means nothing."""
RECOMMENDED: Final = ("/openai/v1", "/v1", "/deployments/{deployment}/v1")
WITH_DEPLOYMENT_INSERTED: Final = ("/openai/v1/deployments/{deployment}", "/v1/deployments/{deployment}")
"""`AzureOpenAI(base_url=…/openai/v1)` writes the deployment into the path."""


def refuse(error: ModelportError, head: RequestHead, operation: Operation | None) -> ErrorBody:
    """The error in OpenAI's shape."""
    api_version = head.query.get("api-version")
    return errors.encode(error, operation=operation or Operation.CHAT_COMPLETIONS, api_version=api_version)


DOOR: Final = Door(surface="openai_v1", refuse=refuse)


def routes(created_at: float) -> list[Route]:
    """All of them."""
    found = [
        inference(base, PATHS[operation], operation, speech)
        for base in (*BASES, *WITH_DEPLOYMENT_INSERTED)
        for operation, speech in SPEECHES.items()
    ]
    return [*found, *listing.routes(DOOR, BASES, created_at)]


def inference(base: str, path: str, operation: Operation, speech: Speech) -> Route:
    """One inference call."""
    return Route(
        method="POST",
        path=base + path,
        permission=Permission.INFER,
        base=base if base in RECOMMENDED else None,
        door=DOOR,
        endpoint=Inference(
            operation=operation,
            speech=always(speech),
            selector=by_model,
            reasoning=in_its_field,
            checks_extras=False,
        ),
    )


def by_model(head: RequestHead, parameters: Parameters) -> Selector:
    """The body's `model`, unless the path or a managed endpoint's header names one."""
    deployment = parameters.get("deployment")
    return Selector(path=deployment, header=head.text(b"azureml-model-deployment"), body_selects=deployment is None)


def in_its_field(api_version: str | None) -> ReasoningPlace:
    """Reasoning has a field of its own here, whatever the version."""
    return "field"
