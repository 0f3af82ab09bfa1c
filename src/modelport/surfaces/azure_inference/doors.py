"""The forms of this surface: what differs is how a deployment is found and how a refusal is worded."""

from __future__ import annotations

from typing import Final

from modelport.core.errors import ModelportError
from modelport.core.operations import Operation
from modelport.dialects.azure_inference import errors
from modelport.dialects.error_body import ErrorBody
from modelport.gateway.call import Selector
from modelport.surfaces.door import Door, Parameters
from modelport.surfaces.headers import RequestHead

MODELS_BASES: Final = ("/models", "/api/models")
ROOT_BASES: Final = ("", "/deployments/{deployment}")


def door(form: errors.Form) -> Door:
    """The surface in this form."""

    def refuse(error: ModelportError, head: RequestHead, operation: Operation | None) -> ErrorBody:
        return errors.encode(error, form=form)

    return Door(surface="azure_inference", refuse=refuse)


MODELS: Final = door("models")
ROOT: Final = door("root")
MANAGED: Final = door("managed")


def among_many(head: RequestHead, parameters: Parameters) -> Selector:
    """On `/models`: a header, or the body's `model`."""
    return Selector(header=head.text(b"x-ms-model-mesh-model-name"))


def the_only_one(head: RequestHead, parameters: Parameters) -> Selector:
    """On a root form: the path's, or a header's, or the default; the body's `model` means nothing."""
    return Selector(
        path=parameters.get("deployment"),
        header=head.text(b"azureml-model-deployment"),
        body_selects=False,
        wrong_operation="404",
    )
