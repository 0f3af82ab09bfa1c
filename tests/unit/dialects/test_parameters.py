"""One row in the table and one attribute of the request are all that a parameter needs."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from modelport.core.catalog import Target
from modelport.core.content import Message
from modelport.core.errors import InvalidParameters
from modelport.core.requests import ChatRequest, CompletionsRequest, EmbeddingsRequest, ImageEmbeddingsRequest
from modelport.dialects.fields import number
from modelport.dialects.openai_chat import upstream_requests
from modelport.dialects.openai_chat.upstream import UpstreamCodec, UpstreamFacts
from modelport.dialects.openai_shape import parameters
from modelport.dialects.openai_shape.extras import READ_NAMES
from modelport.dialects.openai_shape.parameters import CHAT, Parameter
from modelport.dialects.openai_shape.request import INFERENCE
from modelport.dialects.openai_shape.schema import BodySchema

WARMTH = Parameter("warmth", Annotated[float, Meta(ge=0, le=1)], number(0, 1))
AFTER = ("extra", "body_bytes", "speaks_functions")
COPY: Any = msgspec.defstruct(
    "WarmRequest",
    [
        *((field.name, field.type) for field in msgspec.structs.fields(ChatRequest) if field.required),
        *(
            (field.name, field.type, field.default)
            for field in msgspec.structs.fields(ChatRequest)
            if not field.required and field.name not in AFTER
        ),
        ("warmth", float | None, None),
        ("extra", dict[str, Any], msgspec.field(default_factory=dict)),
        ("body_bytes", int, 0),
        ("speaks_functions", bool, False),
    ],
    frozen=True,
)
SCHEMA: Any = BodySchema(COPY, (*CHAT, WARMTH), INFERENCE.settle)
HELLO = (Message("user", "hi"),)


def body(**fields: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": "hi"}], **fields}).encode()


@pytest.mark.parametrize("warmth", [0.5, "0.5", ".5"])
def test_a_new_parameter_is_read_strictly_and_leniently(warmth: object) -> None:
    sent = body(warmth=warmth, more=1)
    assert SCHEMA.read(sent, 64) == COPY(HELLO, warmth=0.5, extra={"more": 1}, body_bytes=len(sent))
    assert (SCHEMA.read_fast(sent, 64) is None) is isinstance(warmth, str)
    assert SCHEMA.read(body(warmth=None), 64).warmth is None


def test_a_new_parameter_has_bounds() -> None:
    with pytest.raises(InvalidParameters) as refused:
        SCHEMA.read(body(warmth=2), 64)
    assert [offence.loc for offence in refused.value.offences] == [("body", "warmth")]


@pytest.mark.parametrize(
    ("facts", "name"), [(UpstreamFacts(), "warmth"), (UpstreamFacts(renamed=(("warmth", "w"),)), "w")]
)
def test_a_new_parameter_reaches_the_upstream(monkeypatch: pytest.MonkeyPatch, facts: UpstreamFacts, name: str) -> None:
    operations = {**upstream_requests.OPERATIONS, COPY: upstream_requests.OPERATIONS[ChatRequest]}
    monkeypatch.setattr(upstream_requests, "OPERATIONS", operations)
    codec, target = UpstreamCodec(facts), Target("house", "theirs")
    plain = {"model": "theirs", "messages": [{"role": "user", "content": "hi"}]}
    assert json.loads(codec.encode(COPY(HELLO, warmth=0.5), target).body) == {**plain, name: 0.5}
    assert json.loads(codec.encode(COPY(HELLO), target).body) == plain


@pytest.mark.parametrize(
    ("rows", "request_type"),
    [
        (parameters.CHAT, ChatRequest),
        (parameters.OPENAI_CHAT, ChatRequest),
        (parameters.COMPLETIONS, CompletionsRequest),
        (parameters.EMBEDDINGS, EmbeddingsRequest),
        (parameters.IMAGE_EMBEDDINGS, ImageEmbeddingsRequest),
    ],
)
def test_each_row_is_an_attribute_of_the_request_and_each_attribute_a_row(
    rows: tuple[Parameter, ...], request_type: type[msgspec.Struct]
) -> None:
    attributes = [name for name in request_type.__struct_fields__ if name not in AFTER]
    assert [row.name for row in rows if not row.attribute] == attributes
    assert {row.attribute for row in rows if row.attribute} <= set(attributes)
    assert {row.name for row in rows} <= READ_NAMES
