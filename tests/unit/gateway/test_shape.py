"""A request against a model's profile: what is refused, what is dropped, and what is rewritten for the model."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.config.profiles import load_profiles
from modelport.core.catalog import Deployment, ExtraParametersMode, Model, Target
from modelport.core.content import (
    FunctionDefinition,
    ImagePart,
    ImageUrl,
    JsonSchemaFormat,
    Message,
    ResponseFormat,
    TextPart,
    Tool,
)
from modelport.core.errors import ExtraParametersOptionUnknown, ExtraParametersRefused, InvalidParameters, Offence
from modelport.core.operations import Operation
from modelport.core.ports.stages import Refusal
from modelport.core.requests import (
    DEFAULTS,
    ChatRequest,
    CompletionsRequest,
    EmbeddingsRequest,
    NamedToolChoice,
    Request,
)
from modelport.gateway.shape import Shaped, folded, shape

PROFILES = load_profiles()
HELLO = (Message(role="user", content="Hello"),)
TOOLS = (Tool(FunctionDefinition(name="f")),)
JSON_OBJECT, TEXT = ResponseFormat(type="json_object"), ResponseFormat(type="text")
SCHEMA = ResponseFormat(type="json_schema", json_schema=JsonSchemaFormat(name="a", schema={"type": "object"}))
PICTURE = ImagePart(ImageUrl("data:image/png;base64,AAAA"))


def deployment(model: str, mode: ExtraParametersMode = "error", **overrides: Any) -> Deployment:
    return Deployment(
        name="d",
        model=Model("Custom", model),
        targets=(Target("p", "m"),),
        profile=PROFILES.of(model, overrides or None),
        extra_parameters=mode,
    )


def shaped(request: Request, model: str, header: str | None = None, **overrides: Any) -> Shaped:
    outcome = shape(request, deployment(model, **overrides), header=header, checks_extras=True)
    assert isinstance(outcome, Shaped), outcome
    return outcome


def offences(request: Request, model: str, header: str | None = None, **overrides: Any) -> list[Offence]:
    """What the request is refused for; nothing if it passes."""
    outcome = shape(request, deployment(model, **overrides), header=header, checks_extras=True)
    if isinstance(outcome, Shaped):
        return []
    assert isinstance(outcome.error, InvalidParameters), outcome
    return list(outcome.error.offences)


def chat(**fields: Any) -> ChatRequest:
    return ChatRequest(**{"messages": HELLO, **fields})


# --- the matrix of model families ----------------------------------------------------------------------------------

FAMILIES = {
    # model: (takes tools, formats, kinds of input)
    "Cohere-command-r-plus-08-2024": (True, "text json_object", "text"),
    "Llama-2-70b-chat": (False, "text", "text"),
    "Meta-Llama-3-8B-Instruct": (False, "text", "text"),
    "Meta-Llama-3.1-405B-Instruct": (False, "text", "text"),
    "Llama-3.2-11B-Vision-Instruct": (False, "text", "text image"),
    "Llama-3.3-70B-Instruct": (False, "text", "text"),
    "Mistral-small": (True, "text json_object", "text"),
    "Mistral-small-2503": (True, "text json_object", "text image"),
    "Mistral-large": (True, "text json_object", "text"),
    "Mistral-large-2407": (True, "text json_object", "text"),
    "Mistral-Large-2411": (True, "text json_object", "text"),
    "Mistral-Nemo": (True, "text json_object", "text"),
    "Ministral-3B": (True, "text json_object", "text"),
    "Codestral-2501": (False, "text", "text"),
    "mistralai-Mixtral-8x7B-Instruct-v01": (False, "text", "text"),
    "jais-30b-chat": (True, "text json_object", "text"),
    "AI21-Jamba-1.5-Mini": (True, "text json_object json_schema", "text"),
    "Phi-3-mini-4k-instruct": (False, "text", "text"),
    "Phi-3.5-MoE-instruct": (False, "text", "text"),
    "Phi-3.5-vision-instruct": (False, "text", "text image"),
    "Phi-4": (False, "text", "text"),
    "Phi-4-multimodal-instruct": (False, "text", "text image audio"),
    "DeepSeek-R1": (False, "text", "text"),
    "DeepSeek-V3-0324": (True, "text json_object", "text"),
    "gpt-4o": (True, "text json_object json_schema", "text image"),
    "gpt-4o-mini": (True, "text json_object json_schema", "text image"),
    "o3-mini": (True, "text json_object json_schema", "text image"),
    "o1-mini": (False, "text", "text"),
}
every_family = pytest.mark.parametrize("model", FAMILIES)


@every_family
def test_a_family_takes_the_formats_it_is_listed_with(model: str) -> None:
    formats = FAMILIES[model][1].split()
    for wanted in (TEXT, JSON_OBJECT, SCHEMA):
        found = offences(chat(response_format=wanted), model)
        assert [offence.loc for offence in found] == ([] if wanted.type in formats else [("body", "response_format")])


@every_family
def test_a_family_takes_tools_or_does_not(model: str) -> None:
    takes = FAMILIES[model][0]
    assert [o.loc for o in offences(chat(tools=TOOLS), model)] == ([] if takes else [("body", "tools")])
    both = chat(tools=TOOLS, tool_choice=NamedToolChoice("f"))
    assert [o.loc[1] for o in offences(both, model)] == ([] if takes else ["tools", "tool_choice"])


@every_family
def test_a_family_reads_the_kinds_of_content_it_is_listed_with(model: str) -> None:
    pictured = (Message(role="user", content=(TextPart("look"), PICTURE)),)
    found = offences(chat(messages=pictured), model)
    if "image" in FAMILIES[model][2]:
        assert found == []
    else:
        (offence,) = found
        assert offence.loc == ("body", "messages", "0", "content", "1", "type")
        assert offence.input == "image_url"


@every_family
def test_dropping_leaves_no_parameter_that_the_family_refuses(model: str) -> None:
    request = chat(response_format=SCHEMA, tools=TOOLS, tool_choice="required", seed=1, temperature=0.5, top_p=0.5)
    outcome = shaped(request, model, "drop")
    again = shaped(outcome.request, model)
    assert again.dropped == ()
    assert again.request == outcome.request
    for name in outcome.dropped:
        default = DEFAULTS[ChatRequest][name]
        assert getattr(request, name) != default
        assert getattr(outcome.request, name) == default


def test_the_refusal_of_a_format_is_told_as_it_was_sent() -> None:
    (offence,) = offences(chat(response_format=JSON_OBJECT), "Meta-Llama-3-8B-Instruct")
    assert offence.type == "parameter_not_supported"
    assert offence.msg == "Model 'Meta-Llama-3-8B-Instruct' does not support 'response_format' = json_object"
    assert offence.input == {"type": "json_object"}
    assert ".".join(offence.loc) == "body.response_format"


def test_everything_wrong_is_told_at_once() -> None:
    found = offences(chat(temperature=1.0, top_p=0.5, presence_penalty=1.0, tools=TOOLS), "o1-mini")
    assert {offence.parameter for offence in found} == {"temperature", "top_p", "presence_penalty", "tools"}


def test_tools_that_are_dropped_take_their_choice_along() -> None:
    outcome = shaped(chat(tools=TOOLS, tool_choice="auto"), "Llama-2-7b-chat", "drop")
    assert isinstance(outcome.request, ChatRequest)
    assert (outcome.request.tools, outcome.request.tool_choice) == ((), None)
    assert outcome.dropped == ("tools", "tool_choice")


def test_content_is_never_dropped() -> None:
    pictured = (Message(role="user", content=(TextPart("look"), PICTURE)),)
    assert len(offences(chat(messages=pictured), "Llama-2-7b-chat", "drop")) == 1


def test_a_model_that_nobody_knows_is_asked_anything() -> None:
    request = chat(response_format=SCHEMA, tools=TOOLS, seed=1, temperature=2.0, max_tokens=10**9)
    assert shaped(request, "my-own-model").request == request


# --- extras --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [None, "error", "ERROR"])
def test_extras_are_refused_by_name_in_the_order_sent(header: str | None) -> None:
    request = chat(extra={"b": 1, "a's": 2})
    outcome = shape(request, deployment("Mistral-large"), header=header, checks_extras=True)
    assert isinstance(outcome, Refusal)
    assert isinstance(outcome.error, ExtraParametersRefused)
    assert outcome.error.message == (
        "Extra parameters ['b', \"a's\"] are not allowed when extra-parameters is not set or set to be 'error'. "
        "Set extra-parameters to 'pass-through' to pass to the model."
    )


@pytest.mark.parametrize("header", ["ignore", "allow", "pass through", "drop,error"])
def test_a_mode_that_is_none_is_refused_with_the_modes_there_are(header: str) -> None:
    outcome = shape(chat(), deployment("Mistral-large"), header=header, checks_extras=True)
    assert isinstance(outcome, Refusal)
    assert isinstance(outcome.error, ExtraParametersOptionUnknown)
    assert outcome.error.message == (
        f"Unexpected EXTRA_PARAMETERS option {header}, expected options are ['error', 'drop', 'pass-through']"
    )


@pytest.mark.parametrize("header", ["pass-through", "pass_through", "Pass-Through", " pass-through "])
def test_extras_pass_where_the_caller_says_so(header: str) -> None:
    assert shaped(chat(extra={"top_k": 3}), "Mistral-large", header).request.extra == {"top_k": 3}


def test_extras_are_dropped_with_known_parameters_that_the_model_cannot_take() -> None:
    outcome = shaped(chat(seed=7, extra={"x": 1}), "Mistral-large", "drop", seed="unsupported")
    assert outcome.dropped == ("x", "seed")
    assert outcome.request == chat()


def test_a_deployment_has_a_mode_of_its_own_that_the_header_overrides() -> None:
    passing = deployment("Mistral-large", "pass-through")
    assert isinstance(shape(chat(extra={"x": 1}), passing, header=None, checks_extras=True), Shaped)
    assert isinstance(shape(chat(extra={"x": 1}), passing, header="error", checks_extras=True), Refusal)


def test_a_surface_without_extras_hands_everything_on() -> None:
    outcome = shape(chat(extra={"x": 1}), deployment("Mistral-large"), header="nonsense", checks_extras=False)
    assert isinstance(outcome, Shaped)
    assert outcome.request.extra == {"x": 1}


# --- overrides, other operations -----------------------------------------------------------------------------------


def test_an_operators_override_wins_over_the_family() -> None:
    assert offences(chat(tools=TOOLS), "Phi-4", tools="supported") == []
    assert [o.parameter for o in offences(chat(seed=1), "Phi-4", seed="unsupported")] == ["seed"]
    assert [o.parameter for o in offences(chat(top_p=0.9), "Phi-4", top_p=[0, 0.5])] == ["top_p"]


@pytest.mark.parametrize("name", ["echo", "n", "best_of", "suffix", "logprobs"])
def test_a_default_that_nobody_sent_is_no_offence(name: str) -> None:
    plain = CompletionsRequest(prompt=("Hi",))
    overrides = {name: "unsupported", "operations": ["completions"]}
    assert offences(plain, "my-model", **overrides) == []
    sent = CompletionsRequest(prompt=("Hi",), **{name: {"echo": True, "suffix": "!"}.get(name, 2)})
    assert [o.parameter for o in offences(sent, "my-model", **overrides)] == [name]
    dropped = shape(sent, deployment("my-model", **overrides), header="drop", checks_extras=True)
    assert dropped == Shaped(plain, (name,))


EMBEDDINGS = [
    ("Cohere-embed-v3-english", {"dimensions": 1024}, ["dimensions"]),
    ("Cohere-embed-v3-english", {"input_type": "query", "encoding_format": "ubinary"}, []),
    ("embed-v-4-0", {"dimensions": 512}, []),
    ("embed-v-4-0", {"dimensions": 500}, ["dimensions"]),
    ("text-embedding-3-small", {"dimensions": 500}, []),
    ("text-embedding-3-small", {"dimensions": 1537}, ["dimensions"]),
    ("text-embedding-ada-002", {"dimensions": 1536}, ["dimensions"]),
    ("text-embedding-3-large", {"input_type": "query"}, ["input_type"]),
    ("text-embedding-3-large", {"encoding_format": "int8"}, ["encoding_format"]),
    ("all-MiniLM-L6-v2", {"input_type": "document", "encoding_format": "int8"}, []),
    ("all-MiniLM-L6-v2", {"dimensions": 100}, ["dimensions"]),
    ("unknown-embedder", {"dimensions": 7, "input_type": "query", "encoding_format": "binary"}, []),
]


@pytest.mark.parametrize(("model", "fields", "wrong"), EMBEDDINGS)
def test_embeddings_are_held_against_the_model(model: str, fields: dict[str, Any], wrong: list[str]) -> None:
    request = EmbeddingsRequest(input=("a",), **fields)
    assert [offence.parameter for offence in offences(request, model)] == wrong
    assert shaped(request, model, "drop").dropped == tuple(wrong)


def test_more_inputs_than_the_model_takes_are_refused_and_not_dropped() -> None:
    request = EmbeddingsRequest(input=("a",) * 1025)
    for header in (None, "drop"):
        assert [o.parameter for o in offences(request, "Cohere-embed-v3-english", header)] == ["input"]


# --- rewriting -----------------------------------------------------------------------------------------------------


def test_max_tokens_is_cut_to_what_the_model_can_write() -> None:
    request = shaped(chat(max_tokens=99_999), "Mistral-large-2407").request
    assert isinstance(request, ChatRequest)
    assert request.max_tokens == 4096


def test_a_temperature_beyond_the_models_is_the_nearest_it_has() -> None:
    request = shaped(chat(temperature=1.7), "Mistral-large", temperature=[0, 1]).request
    assert isinstance(request, ChatRequest)
    assert request.temperature == 1


@pytest.mark.parametrize("name", ["safe_prompt", "safe_mode"])
@pytest.mark.parametrize("value", [True, False])
def test_the_safety_prompt_comes_first_when_it_is_asked_for(name: str, value: bool) -> None:
    request = shaped(chat(extra={name: value, "ignore_eos": True}), "Mistral-large", "pass-through").request
    assert isinstance(request, ChatRequest)
    assert request.extra == {"ignore_eos": True}
    if value:
        assert request.messages[0].role == "system"
        assert request.messages[0].text().startswith("Always assist with care, respect, and truth.")
    assert request.messages[-1:] == HELLO


@pytest.mark.parametrize("model", ["Phi-3-mini-4k-instruct", "mistralai-Mixtral-8x7B-Instruct-v01"])
def test_a_model_without_a_system_role_reads_its_text_in_the_first_turn(model: str) -> None:
    system = Message(role="system", content="Be brief.")
    request = shaped(chat(messages=(system, *HELLO)), model).request
    assert isinstance(request, ChatRequest)
    assert request.messages == (Message(role="user", content="Be brief.\n\nHello"),)


# --- properties ----------------------------------------------------------------------------------------------------

TEXTS = st.text(alphabet="abc é\n", max_size=6)
CONTENT = TEXTS | st.lists(TEXTS.map(TextPart) | st.just(PICTURE), max_size=3).map(tuple)
MESSAGE = st.one_of(
    st.builds(Message, role=st.sampled_from(["system", "developer"]), content=TEXTS),
    st.builds(Message, role=st.sampled_from(["user", "assistant"]), content=CONTENT),
    st.builds(Message, role=st.just("tool"), content=TEXTS, tool_call_id=st.just("call_1")),
)
MESSAGES = st.lists(MESSAGE, min_size=1, max_size=6).map(tuple)
OPTIONAL = {
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1),
    "frequency_penalty": st.floats(-2, 2),
    "presence_penalty": st.floats(-2, 2),
    "max_tokens": st.integers(0, 4096),
    "stop": st.lists(TEXTS, min_size=1, max_size=2).map(tuple),
    "seed": st.integers(0, 99),
    "response_format": st.sampled_from([TEXT, JSON_OBJECT, SCHEMA]),
    "tools": st.just(TOOLS),
    "tool_choice": st.sampled_from(["auto", "none", "required", NamedToolChoice("f")]),
    "modalities": st.sampled_from([("text",), ("text", "audio")]),
    "extra": st.dictionaries(st.sampled_from(["n", "safe_prompt", "x", "logprobs"]), st.booleans() | st.integers(1, 3)),
}
REQUESTS = st.fixed_dictionaries({"messages": MESSAGES}, optional=OPTIONAL).map(lambda fields: ChatRequest(**fields))
MODELS = st.sampled_from([*FAMILIES, "nobody-knows-me"])


@given(request=REQUESTS, model=MODELS)
def test_dropping_refuses_nothing_but_content(request: ChatRequest, model: str) -> None:
    assert {offence.loc[1] for offence in offences(request, model, "drop")} <= {"messages"}


@given(request=REQUESTS, model=MODELS, header=st.sampled_from([None, "drop", "pass-through"]))
def test_what_was_shaped_once_is_shaped(request: ChatRequest, model: str, header: str | None) -> None:
    outcome = shape(request, deployment(model), header=header, checks_extras=True)
    if isinstance(outcome, Shaped):
        again = shape(outcome.request, deployment(model), header=header, checks_extras=True)
        assert again == Shaped(outcome.request, ())


@given(request=REQUESTS, model=MODELS, header=st.sampled_from([None, "drop", "pass-through"]))
def test_a_refusal_names_places_as_strings_and_never_changes_the_request(
    request: ChatRequest, model: str, header: str | None
) -> None:
    before = repr(request)
    outcome = shape(request, deployment(model), header=header, checks_extras=True)
    assert repr(request) == before
    if isinstance(outcome, Refusal) and isinstance(outcome.error, InvalidParameters):
        for offence in outcome.error.offences:
            assert offence.loc[0] == "body"
            assert all(isinstance(part, str) for part in offence.loc)


@given(MESSAGES)
def test_folding_keeps_all_text_and_leaves_no_system_turn(messages: tuple[Message, ...]) -> None:
    result = folded(messages)
    assert not {message.role for message in result} & {"system", "developer"}
    system = [m.text() for m in messages if m.role in ("system", "developer")]
    others = [m for m in messages if m.role not in ("system", "developer")]
    whole = "".join(message.text() for message in result)
    assert all(text in whole for text in system)
    assert all(message.text() in whole for message in others)
    pictures = [part for message in others if isinstance(message.content, tuple) for part in message.content]
    kept = [part for message in result if isinstance(message.content, tuple) for part in message.content]
    assert [part for part in kept if part == PICTURE] == [part for part in pictures if part == PICTURE]
    assert [m.role for m in result if m.role != "user"] == [m.role for m in others if m.role != "user"]
    assert folded(result) == result


def test_every_family_states_an_operation_and_its_formats_are_known() -> None:
    for row in PROFILES.families():
        assert row.profile.operations <= set(Operation)
        assert row.profile.operations
        assert (row.profile.formats or frozenset()) <= {"text", "json_object", "json_schema"}
        assert (row.profile.inputs or frozenset()) <= {"text", "image", "audio"}
