"""The openai package, on both of its doors."""

from __future__ import annotations

import json
import ssl
from typing import Any, Literal

import openai
import pydantic
import pytest

from .deployments import EMBEDDED, EMBEDDED_TEXTS, RIEMANN
from .serving import Server

HELLO: Any = [{"role": "user", "content": "Hello"}]
TOOL: Any = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.fixture(params=["2024-06-01", "2024-10-21", "2025-04-01-preview"])
def azure(server: Server, request: pytest.FixtureRequest) -> Any:
    with openai.AzureOpenAI(
        azure_endpoint=server.url, api_key=server.key, api_version=request.param, max_retries=0
    ) as client:
        yield client


@pytest.fixture(params=["/openai/v1", "/v1"])
def client(server: Server, request: pytest.FixtureRequest) -> Any:
    with openai.OpenAI(base_url=server.url + request.param, api_key=server.key, max_retries=0) as made:
        yield made


@pytest.mark.check(116)
def test_azure_openai_chats_and_streams(azure: openai.AzureOpenAI) -> None:
    answer = azure.chat.completions.create(model="mistral-large", messages=HELLO)
    assert answer.choices[0].message.content == RIEMANN
    assert answer.id.startswith("chatcmpl-")
    assert len(answer.id) == len("chatcmpl-") + 29
    chunks = azure.chat.completions.create(
        model="mistral-large", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    read = list(chunks)
    assert "".join(c.choices[0].delta.content or "" for c in read if c.choices) == RIEMANN
    assert read[-1].usage is not None


@pytest.mark.check(116)
def test_azure_openai_embeds_and_lists(azure: openai.AzureOpenAI) -> None:
    assert len(azure.embeddings.create(model=EMBEDDED_TEXTS, input=["a", "b"]).data) == 2
    listed = {model.id for model in azure.models.list()}
    assert {"Mistral-large", "gpt-4o", EMBEDDED_TEXTS} <= listed


@pytest.mark.check(116)
async def test_asynchronous_azure_openai_reads_the_same(server: Server) -> None:
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=server.url, api_key=server.key, api_version="2024-10-21", azure_deployment="mistral-large"
    ) as client:
        answer = await client.chat.completions.create(model="ignored", messages=HELLO)
        assert answer.choices[0].message.content == RIEMANN
        stream = await client.chat.completions.create(model="ignored", messages=HELLO, stream=True)
        assert "".join([c.choices[0].delta.content or "" async for c in stream if c.choices]) == RIEMANN


@pytest.mark.check(116)
def test_a_missing_deployment_has_its_code(azure: openai.AzureOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        azure.chat.completions.create(model="no-such-model", messages=HELLO)
    assert caught.value.code == "DeploymentNotFound"


@pytest.mark.check(117)
def test_openai_v1_chats_and_streams(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="mistral-large", messages=HELLO, max_completion_tokens=2000)
    assert answer.choices[0].message.content == RIEMANN
    with client.chat.completions.stream(model="mistral-large", messages=HELLO) as stream:
        assert stream.get_final_completion().choices[0].message.content == RIEMANN


@pytest.mark.check(117)
def test_openai_v1_embeds_and_lists(client: openai.OpenAI) -> None:
    assert len(client.embeddings.create(model=EMBEDDED_TEXTS, input="a").data[0].embedding) == 384
    listed = {model.id: model for model in client.models.list()}
    assert {"Mistral-large", "gpt-4o", EMBEDDED_TEXTS} <= set(listed)
    assert client.models.retrieve("Mistral-large").id == "Mistral-large"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such-model")


@pytest.mark.check(117)
def test_openai_v1_calls_tools(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="gpt-4o-tools", messages=HELLO, tools=[TOOL])
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert answer.choices[0].finish_reason == "tool_calls"


class Apples(pydantic.BaseModel):
    """Small enough that an answer always fits."""

    colour: Literal["red", "green"]
    count: Literal[1, 2, 3]


@pytest.mark.check(117)
@pytest.mark.parametrize("model", ["gpt-4o-json", EMBEDDED])
def test_openai_v1_parses_a_typed_answer(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.parse(model=model, messages=HELLO, response_format=Apples, max_tokens=200, seed=1)
    assert isinstance(answer.choices[0].message.parsed, Apples)


@pytest.mark.check(117)
def test_openai_v1_completes_text(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=EMBEDDED, prompt="The capital of France is", max_tokens=4, temperature=0)
    assert answer.object == "text_completion"
    assert answer.choices[0].text
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


@pytest.mark.check(117)
def test_openai_v1_has_log_probabilities(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=EMBEDDED, messages=HELLO, max_tokens=3, logprobs=True, top_logprobs=2, temperature=0
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert len(logprobs.content or []) == 3
    assert all(len(entry.top_logprobs) == 2 for entry in logprobs.content or [])


@pytest.mark.check(116, 117)
def test_both_clients_work_over_https(secure: Server) -> None:
    trusted = ssl.create_default_context(cafile=str(secure.ca_file))
    with openai.OpenAI(
        base_url=f"{secure.url}/openai/v1", api_key=secure.key, http_client=openai.DefaultHttpxClient(verify=trusted)
    ) as client:
        assert client.chat.completions.create(model="mistral-large", messages=HELLO).choices
    with openai.AzureOpenAI(
        azure_endpoint=secure.url,
        api_key=secure.key,
        api_version="2024-10-21",
        http_client=openai.DefaultHttpxClient(verify=trusted),
    ) as azure:
        assert azure.chat.completions.create(model="mistral-large", messages=HELLO).choices


@pytest.mark.check(117)
def test_the_models_form_works_with_openai(server: Server) -> None:
    with openai.OpenAI(
        base_url=server.models, api_key=server.key, default_query={"api-version": "2024-05-01-preview"}
    ) as client:
        assert client.chat.completions.create(model="mistral-large", messages=HELLO).choices[0].message.content


FUNCTION: Any = {
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.mark.parametrize("model", ["gpt-4o-tools", EMBEDDED])
@pytest.mark.parametrize("streamed", [False, True])
def test_functions_are_answered_in_their_own_words(client: openai.OpenAI, model: str, streamed: bool) -> None:
    asked: Any = {"model": model, "messages": HELLO, "functions": [FUNCTION], "function_call": {"name": "get_weather"}}
    if streamed:
        chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, stream=True)]
        calls = [chunk.delta.function_call for chunk in chunks if chunk.delta.function_call is not None]
        name, arguments = calls[0].name, "".join(call.arguments or "" for call in calls)
        reason = chunks[-1].finish_reason
        assert all(chunk.delta.tool_calls is None for chunk in chunks)
    else:
        choice = client.chat.completions.create(**asked).choices[0]
        assert choice.message.function_call is not None
        assert choice.message.tool_calls is None
        name, arguments = choice.message.function_call.name, choice.message.function_call.arguments
        reason = choice.finish_reason
    assert (name, reason) == ("get_weather", "function_call")
    assert isinstance(json.loads(arguments), dict)
    turns = [
        *HELLO,
        {"role": "assistant", "content": None, "function_call": {"name": name, "arguments": arguments}},
        {"role": "function", "name": name, "content": "Rain in Paris"},
    ]
    again: Any = {"model": model, "messages": turns, "functions": [FUNCTION], "function_call": "none", "max_tokens": 8}
    message = client.chat.completions.create(**again).choices[0].message
    assert message.content
    assert message.function_call is None
