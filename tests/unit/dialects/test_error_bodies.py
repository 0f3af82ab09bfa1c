"""Every error on every surface is JSON with a code that fits a header, and asks for a repetition only where it may."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core import errors, limit_errors
from modelport.core.operations import Operation
from modelport.dialects.azure_inference import errors as azure_inference
from modelport.dialects.azure_openai import errors as azure_openai
from modelport.dialects.error_body import ErrorBody
from modelport.dialects.openai_chat import errors as openai_chat

OFFENCE = errors.Offence("parameter_not_supported", ("body", "response_format"), "no", "json_object")
LEAVES: list[errors.ModelportError] = [
    errors.MalformedBody("The request body must be a JSON object."),
    errors.ExtraParametersRefused(["a", "b'c"]),
    errors.ExtraParametersOptionUnknown("ignore"),
    errors.ModelNotNamed(),
    errors.OperationNotSupported(Operation.EMBEDDINGS, "D"),
    limit_errors.ContextLengthExceeded.of(10, 8, 4),
    limit_errors.TokensLimitReached.of(10, 8, 4, "deployment D"),
    errors.ContentFiltered({"violence": {"filtered": True, "severity": "medium"}}),
    errors.UpstreamRefused("no such size", code="bad\r\nsize: é", target="size"),
    errors.Unauthenticated(),
    errors.Unauthenticated("Unauthorized. Access token is missing."),
    errors.PermissionDenied(),
    errors.Forbidden("Access denied due to Virtual Network/Firewall rules."),
    errors.DeploymentNotFound("X"),
    errors.RouteNotFound(),
    errors.MethodNotAllowed(["POST", "OPTIONS"]),
    errors.TooManyFailures(30),
    errors.CategoriesNotJudged(["Hate", "Violence"]),
    errors.RequestTimedOut(),
    errors.BodyTooLarge(100),
    errors.UnsupportedEncoding("gzip"),
    errors.HeadersTooLarge("Too many header bytes."),
    errors.InvalidParameters([OFFENCE]),
    limit_errors.RateLimited("requests", 10, 29),
    limit_errors.RateLimited("tokens", 1000, 29),
    limit_errors.RateLimited("concurrency", 2, 1),
    limit_errors.RateLimited("upstream", None, 3),
    limit_errors.BudgetExhausted("project p", "month", "2027-01-01T00:00:00Z"),
    limit_errors.BudgetExhausted("key k", "day", "2027-01-01T00:00:00Z", retry_after=40),
    limit_errors.PriceUnknown("d"),
    errors.InternalError(),
    errors.EngineFailed("The model broke."),
    errors.UpstreamFailed("The upstream could not be reached."),
    errors.Unavailable("The model is loading.", code="NoCapacity", retry_after=7),
    errors.UpstreamTimedOut("The upstream was too slow."),
    errors.CredentialRefused(401, "Incorrect API key provided."),
    errors.UpstreamGivenUp("The upstream was too slow."),
]
ENCODERS: dict[str, Callable[[errors.ModelportError], ErrorBody]] = {
    "models": azure_inference.encode,
    "root": partial(azure_inference.encode, form="root"),
    "managed": partial(azure_inference.encode, form="managed"),
    "openai": openai_chat.encode,
    "azure_openai": partial(azure_openai.encode, operation=Operation.EMBEDDINGS, api_version="2024-10-21"),
}
encoders = pytest.mark.parametrize("encode", ENCODERS.values(), ids=ENCODERS)


def leaves_of(kind: type[errors.ModelportError]) -> set[type[errors.ModelportError]]:
    below = kind.__subclasses__()
    return {kind} if not below else set().union(*map(leaves_of, below))


def test_no_leaf_of_the_tree_is_forgotten_here() -> None:
    ours = {leaf for leaf in leaves_of(errors.ModelportError) if leaf.__module__ == "modelport.core.errors"}
    assert {type(error) for error in LEAVES} >= ours


@encoders
@pytest.mark.parametrize("error", LEAVES, ids=lambda error: type(error).__name__)
def test_every_leaf_is_a_well_formed_answer(
    encode: Callable[[errors.ModelportError], ErrorBody], error: errors.ModelportError
) -> None:
    answer = encode(error)
    body = json.loads(answer.body)
    headers = dict(answer.headers)
    assert 400 <= answer.status <= 599
    assert re.fullmatch(r"[ -~]+", answer.code)
    assert headers["x-ms-error-code"] == answer.code == body["error"]["code"]
    assert isinstance(body["error"]["message"], str) and body["error"]["message"]
    # A budget that begins anew next month is no reason to wait: clients take the header literally.
    is_worth_waiting = not isinstance(error, limit_errors.BudgetExhausted) or error.retry_after is not None
    assert ("retry-after" in headers) == (answer.status in (429, 503) and is_worth_waiting)
    assert int(headers.get("retry-after", 1)) >= 1
    assert all(name == name.lower() and "\n" not in value and value.isascii() for name, value in answer.headers)


def test_only_a_managed_endpoint_says_424() -> None:
    broken = errors.EngineFailed("The model broke.")
    assert {name: encode(broken).status for name, encode in ENCODERS.items()} == {
        "models": 500,
        "root": 500,
        "managed": 424,
        "openai": 500,
        "azure_openai": 500,
    }
    assert dict(ENCODERS["managed"](broken).headers)["ms-azureml-model-error-statuscode"] == "500"


def test_a_422_is_the_same_everywhere() -> None:
    refused = errors.InvalidParameters([OFFENCE])
    assert len({encode(refused) for encode in ENCODERS.values()}) == 1


def test_a_422_can_be_read_as_the_samples_do() -> None:
    offence = errors.Offence("missing", ("body", "messages", "0", "role"), "Field required", {"content": "x"})
    body = json.loads(azure_inference.encode(errors.InvalidParameters([offence])).body)
    [detail] = body["detail"]
    assert ".".join(detail["loc"]) == "body.messages.0.role"
    assert detail["input"] == {"content": "x"}
    assert body["error"]["code"] == body["code"] == "Invalid input"
    assert body["error"]["details"] == [{"code": "missing", "target": "messages.0.role", "message": "Field required"}]


def test_long_values_are_not_sent_back_whole() -> None:
    image = "data:image/png;base64," + "A" * 1_000_000
    offences = [
        errors.Offence("literal_error", ("body", str(i)), "no", value)
        for i, value in enumerate([image, {"url": image}, [image]] * 100)
    ]
    answer = azure_inference.encode(errors.InvalidParameters(offences))
    assert len(answer.body) < 100_000
    details = json.loads(answer.body)["detail"]
    assert len(details) == 100
    assert details[0]["input"].startswith("data:image/png;base64,AAA")


def test_long_names_are_not_sent_back_whole() -> None:
    answer = azure_inference.encode(errors.DeploymentNotFound("x" * 1_000_000))
    assert len(answer.body) < 20_000


def test_litellm_finds_the_names_of_extra_parameters() -> None:
    answer = azure_inference.encode(errors.ExtraParametersRefused(["n", "user"]))
    found = re.search(r"\[(.*?)\]", answer.body.decode())
    assert found is not None and found.group(1) == "'n', 'user'"


def test_an_api_version_is_repeated_only_if_it_looks_like_one() -> None:
    limited = limit_errors.RateLimited("tokens", 5, 26)
    said = json.loads(openai_chat.encode(limited, api_version="2024-10-21").body)["error"]["message"]
    assert said == (
        "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded "
        "token rate limit of your current AIServices S0 pricing tier. Please retry after 26 seconds."
    )
    odd = json.loads(openai_chat.encode(limited, api_version="<script>").body)["error"]["message"]
    assert odd.startswith("Requests to the ChatCompletions_Create Operation have exceeded token rate limit")


@encoders
@given(st.text(alphabet=st.one_of(st.characters(), st.just("\udc80")), max_size=9), st.text(max_size=9))
def test_any_text_of_somebody_else_can_be_written(
    encode: Callable[[errors.ModelportError], ErrorBody], message: str, code: str
) -> None:
    for error in (
        errors.UpstreamRefused(message, code=code),
        errors.DeploymentNotFound(message),
        errors.ExtraParametersRefused([code]),
        errors.Unavailable(message, code=code),
    ):
        answer = encode(error)
        body: Any = json.loads(answer.body)
        assert re.fullmatch(r"[ -~]+", body["error"]["code"])
