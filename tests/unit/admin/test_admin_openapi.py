"""The OpenAPI document says what the administration does: schemathesis calls every operation of a running server with
what the document allows and with what it does not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from modelport.admin.openapi import BASE
from modelport.control.resources import RESOURCES
from served import KEY, Served

MODEL = {"format": "Custom", "name": "script", "version": "1"}
CONFIG: dict[str, Any] = {
    "providers": {"house": {"type": "scripted"}},
    "deployments": {"script": {"model": MODEL, "provider": "house", "default": True}},
}


def wrong_data_is_refused(ctx: Any, response: Any, case: Any) -> bool | None:
    """schemathesis' own check, which does not know that a condition may fail first."""
    return None if response.status_code == 412 else negative_data_rejection(ctx, response, case)


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    wrong_data_is_refused,
    unsupported_method,
]


@pytest.fixture(scope="module")
def served(serve_module: Callable[..., Served]) -> Served:
    return serve_module(CONFIG)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.name.lower())
def test_every_operation_does_what_the_document_says(served: Served, mode: GenerationMode) -> None:
    api = schemathesis.openapi.from_url(f"{served.url}/admin/v1/openapi.json", headers={"api-key": KEY})
    operations = [found.ok() for found in api.get_all_operations()]
    assert len(operations) > 40
    with requests.Session() as session:
        for operation in operations:

            @settings(max_examples=12, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
            @given(case=operation.as_strategy(generation_mode=mode))
            def conforms(case: Any) -> None:
                case.call_and_validate(headers={"api-key": KEY}, checks=CHECKS, session=session)

            with contextlib.suppress(Unsatisfiable):  # an operation without parameters cannot be called wrongly
                conforms()


def test_the_document_names_every_endpoint_and_no_secret_can_be_read(served: Served) -> None:
    document = served.call("GET", "/admin/v1/openapi.json").json
    assert document["openapi"].startswith("3.")
    for kind in RESOURCES:
        assert set(document["paths"][f"{BASE}{kind}/{{name}}"]) == {"get", "put", "patch", "delete"}
    assert set(document["paths"][f"{BASE}safety/explain"]) == {"post"}
    assert served.call("GET", "/admin/v1/openapi.json", key=None).status == 401
