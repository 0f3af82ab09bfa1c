"""What `server.strict` refuses, and that nobody else does."""

from __future__ import annotations

import pytest

from modelport.core.catalog import Deployment, Model, Target
from modelport.core.content import Message
from modelport.core.errors import BadRequest, ExtraParametersRefused, InvalidParameters
from modelport.core.ports.stages import Refusal
from modelport.core.requests import ChatRequest, StreamOptions
from modelport.gateway.shape import Shaped, shape

DEPLOYMENT = Deployment(name="d", model=Model("Custom", "m"), targets=(Target("p", "m"),))
HELLO = (Message(role="user", content="Hello"),)


@pytest.mark.parametrize(
    ("request_", "checks_extras", "expected"),
    [
        (ChatRequest(messages=HELLO, stream=True, stream_options=StreamOptions(True)), True, ExtraParametersRefused),
        (ChatRequest(messages=HELLO, temperature=1.5), True, InvalidParameters),
        (ChatRequest(messages=HELLO, extra={"top_k": 3}), False, BadRequest),
    ],
)
def test_strict_refuses_what_the_real_service_refuses(
    request_: ChatRequest, checks_extras: bool, expected: type[Exception]
) -> None:
    lenient = shape(request_, DEPLOYMENT, header=None, checks_extras=checks_extras)
    strict = shape(request_, DEPLOYMENT, header=None, checks_extras=checks_extras, strict=True)
    assert isinstance(lenient, Shaped)
    assert isinstance(strict, Refusal)
    assert type(strict.error) is expected


def test_strict_names_the_argument_that_openai_does_not_know() -> None:
    request = ChatRequest(messages=HELLO, extra={"user": "u", "guided_json": {}})
    refused = shape(request, DEPLOYMENT, header=None, checks_extras=False, strict=True)
    assert isinstance(refused, Refusal)
    assert refused.error.message == "Unrecognized request argument supplied: guided_json"


def test_strict_lets_through_what_the_api_knows() -> None:
    request = ChatRequest(messages=HELLO, temperature=1, extra={"n": 2, "user": "u"})
    assert isinstance(shape(request, DEPLOYMENT, header=None, checks_extras=False, strict=True), Shaped)
