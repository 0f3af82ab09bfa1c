"""A chat that is taken as it is, at a glance: the whole rule would have taken it as it is, too."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.config.profiles import load_profiles
from modelport.core.catalog import UNKNOWN_PROFILE, Deployment, Model, ModelProfile, Range, Target
from modelport.core.content import (
    AudioPart,
    FunctionDefinition,
    ImagePart,
    ImageUrl,
    InputAudio,
    Message,
    ResponseFormat,
    TextPart,
    Tool,
)
from modelport.core.requests import ChatRequest, NamedToolChoice, StreamOptions
from modelport.gateway.fitting import LONGEST_TOKEN_BYTES
from modelport.gateway.shape import Shaped, accepted, shape

PROFILES: dict[str, ModelProfile] = {
    "unknown": UNKNOWN_PROFILE,
    "context": ModelProfile(family="short", context=10, max_output=5),
    "unknown context": ModelProfile(family="short", known=False, context=10),
    "exact": ModelProfile(family="exact", parameters={"temperature": Range(0.5, 0.5), "top_p": Range(None, 0.5)}),
    "refusing": ModelProfile(
        family="refusing", parameters=dict.fromkeys(("stop", "stream_options", "tool_choice", "seed"), False)
    ),
    **{row.profile.family: row.profile for row in load_profiles().families()},
}
LONG = "x" * (10 * LONGEST_TOKEN_BYTES + 1)
CONTENTS = st.sampled_from(
    [
        "Hello",
        LONG,
        (TextPart("Hello"),),
        (TextPart("What is it?"), ImagePart(ImageUrl("data:image/png;base64,AAAA"))),
        (AudioPart(InputAudio("AAAA", "wav")),),
    ]
)
MESSAGES = st.lists(
    st.builds(Message, role=st.sampled_from(["system", "developer", "user", "assistant"]), content=CONTENTS),
    min_size=1,
    max_size=3,
).map(tuple)
NUMBERS = st.none() | st.sampled_from([-2.5, -1, 0, 0.0, 0.5, 1, 1.0, 2, 2.5]) | st.floats(-3, 3)
REQUESTS = st.builds(
    ChatRequest,
    messages=MESSAGES,
    frequency_penalty=NUMBERS,
    presence_penalty=NUMBERS,
    temperature=NUMBERS,
    top_p=NUMBERS,
    max_tokens=st.none() | st.sampled_from([0, 1, 5, 6, 4096, 10**7]),
    stream=st.booleans(),
    stream_options=st.none() | st.builds(StreamOptions, include_usage=st.booleans()),
    stop=st.sampled_from([(), ("a",), ("a", "b")]),
    seed=st.none() | st.integers(-1, 3),
    response_format=st.none() | st.builds(ResponseFormat, type=st.sampled_from(["text", "json_object"])),
    tools=st.sampled_from([(), (Tool(FunctionDefinition(name="f")),)]),
    tool_choice=st.none() | st.sampled_from(["auto", "none", "required", NamedToolChoice("f")]),
    modalities=st.none() | st.sampled_from([("text",), ("text", "audio")]),
    extra=st.just({}) | st.just({}) | st.sampled_from([{"n": 2}, {"safe_prompt": True}, {"top_k": 3}]),
    body_bytes=st.sampled_from([0, 40, 5000, 10**7]),
)
HEADERS = st.none() | st.sampled_from(["error", "drop", "pass-through", "pass_through", "odd"])


@settings(max_examples=300, deadline=None)
@given(REQUESTS, HEADERS, st.booleans(), st.booleans(), st.sampled_from(["error", "drop", "pass-through"]))
def test_what_a_profile_accepts_passes_unchanged(
    request_: ChatRequest, header: str | None, checks: bool, strict: bool, mode: Any
) -> None:
    for profile in PROFILES.values():  # of each request: to draw one takes longer than to try it with all of them
        deployment = Deployment(
            name="d", model=Model("Custom", "m"), targets=(Target("p", "m"),), profile=profile, extra_parameters=mode
        )
        found = accepted(deployment, header=header, checks_extras=checks, strict=strict)
        if found is None or not found.has(request_):
            continue
        outcome = shape(request_, deployment, header=header, checks_extras=checks, strict=strict)
        assert isinstance(outcome, Shaped), outcome.error
        assert (outcome.request, outcome.dropped) == (request_, ())


@pytest.mark.parametrize("family", PROFILES)
def test_a_simple_chat_is_accepted_unless_its_profile_rewrites_it(family: str) -> None:
    profile = PROFILES[family]
    deployment = Deployment(name="d", model=Model("Custom", "m"), targets=(Target("p", "m"),), profile=profile)
    found = accepted(deployment, header=None, checks_extras=True, strict=False)
    chat = ChatRequest(messages=(Message(role="user", content="Hello"),), max_tokens=1, body_bytes=60)
    assert (found is not None and found.has(chat)) == (profile.system_role != "fold")
