"""A 422 shows what was sent, where its finder names the place alone."""

from __future__ import annotations

import pytest

from modelport.core.content import FunctionDefinition, Message, TextPart, Tool
from modelport.core.errors import InvalidParameters, Offence, UpstreamFailed
from modelport.core.requests import ChatRequest, EmbeddingsRequest
from modelport.core.sent_values import sent_value, with_sent_values

CHAT = ChatRequest(
    messages=(Message("user", (TextPart("look"),)), Message("user", "again")),
    temperature=0.5,
    max_tokens=9,
    tools=(Tool(FunctionDefinition("f", parameters={"type": "object"})),),
    extra={"use_beam_search": True, "logit_bias": {"5": -100}},
)


@pytest.mark.parametrize(
    ("loc", "value"),
    [
        ("body.temperature", 0.5),
        ("temperature", 0.5),
        ("body.use_beam_search", True),
        ("body.logit_bias.5", -100),
        ("body.messages.1.content", "again"),
        ("body.messages.0.content.0.text", "look"),
        ("body.tools.0.function.parameters", {"type": "object"}),
        ("body.max_completion_tokens", 9),
        ("body.messages.7.content", None),
        ("body.messages.x", None),
        ("body.temperature.deeper", None),
        ("body.nothing", None),
        ("body", None),
    ],
)
def test_a_value_is_found_at_its_place(loc: str, value: object) -> None:
    assert sent_value(CHAT, loc.split(".")) == value


def test_a_value_that_is_shown_stays_and_a_missing_one_comes() -> None:
    shown, unshown = Offence("a", ("body", "input"), "no", "theirs"), Offence("a", ("body", "dimensions"), "no", None)
    error = with_sent_values(InvalidParameters([shown, unshown]), EmbeddingsRequest(input=("x",), dimensions=7))
    assert isinstance(error, InvalidParameters)
    assert [offence.input for offence in error.offences] == ["theirs", 7]


def test_other_errors_are_what_they_were() -> None:
    error = UpstreamFailed("gone")
    assert with_sent_values(error, CHAT) is error
