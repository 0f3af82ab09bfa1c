"""Limits as clients meet them: refused in their surface's words, told when to come back, and served when they do."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.aio import ChatCompletionsClient as AsyncChatCompletionsClient
from azure.ai.inference.models import UserMessage
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError

from .deployments import model, scripted
from .serving import Server, running
from .wire import Reply, send

HELLO = "Hello yourself."
LIMITED = {"requests_per_minute": 2, "tokens_per_minute": None}
SLOW = {"match": {"contains": "slowly"}, "chunks": ["One. ", "Two. "], "delay_between_chunks_seconds": 1.5}
CONFIGURATION: dict[str, Any] = {
    "deployments": {
        name: {
            "model": model("Mistral AI", "Mistral-large-2411", "2"),
            "provider": scripted(SLOW, {"text": HELLO}),
            "limits": limits,
        }
        for name, limits in {
            "two-a-minute": LIMITED,
            "two-a-minute-as-well": LIMITED,
            "two-a-minute-for-azure": LIMITED,
            "two-a-minute-for-openai": LIMITED,
            "hundred-tokens": {"requests_per_minute": None, "tokens_per_minute": 100},
            "hundred-tokens-for-words": {"requests_per_minute": None, "tokens_per_minute": 100},
            "unlimited": {"requests_per_minute": None, "tokens_per_minute": None},
        }.items()
    }
}


@pytest.fixture(scope="module")
def limited() -> Iterator[Server]:
    """Deployments of one model under different limits."""
    with running(CONFIGURATION) as server:
        yield server


def azure(server: Server, **fields: Any) -> ChatCompletionsClient:
    return ChatCompletionsClient(endpoint=server.models, credential=AzureKeyCredential(server.key), **fields)


def complete(client: ChatCompletionsClient, deployment: str, text: str = "Hello", **fields: Any) -> str:
    response = client.complete(messages=[UserMessage(content=text)], model=deployment, **fields)
    content: str = response.choices[0].message.content
    return content


def chat(server: Server, deployment: str, **fields: Any) -> Reply:
    body = {"model": deployment, "messages": [{"role": "user", "content": "Hello"}], **fields}
    return send("POST", f"{server.models}/chat/completions", body, server.bearer)


def used_up(server: Server, deployment: str) -> None:
    """Takes what its minute has."""
    while chat(server, deployment, max_tokens=2).status == 200:
        pass


@pytest.mark.check(25)
def test_two_deployments_of_one_model_have_limits_of_their_own(limited: Server) -> None:
    used_up(limited, "two-a-minute")
    with azure(limited, retry_total=0) as client:
        with pytest.raises(HttpResponseError) as refused:
            complete(client, "two-a-minute")
        assert refused.value.status_code == 429
        for _ in range(4):
            assert complete(client, "unlimited") == HELLO


@pytest.mark.check(106)
def test_a_deployment_that_is_used_up_takes_nothing_from_another(limited: Server) -> None:
    used_up(limited, "two-a-minute")
    first = chat(limited, "two-a-minute-as-well")
    assert (first.status, first.headers["x-ratelimit-remaining-requests"]) == (200, "1")
    assert chat(limited, "two-a-minute-as-well").headers["x-ratelimit-remaining-requests"] == "0"
    assert chat(limited, "two-a-minute-as-well").status == 429


@pytest.mark.check(105)
@pytest.mark.parametrize("form", ["models", "root"])
def test_the_model_inference_surface_says_which_limit_and_how_long(limited: Server, form: str) -> None:
    used_up(limited, "two-a-minute")
    endpoint = limited.models if form == "models" else limited.root_of("two-a-minute")
    client = ChatCompletionsClient(endpoint=endpoint, credential=AzureKeyCredential(limited.key), retry_total=0)
    with client, pytest.raises(HttpResponseError) as refused:
        complete(client, "two-a-minute")
    error = refused.value
    assert error.error.code == "RateLimitReached"
    said = re.fullmatch(
        r"Rate limit of 2 per 60s exceeded for UserByModelByMinute\. Please wait (\d+) seconds before retrying\.",
        error.error.message,
    )
    assert said is not None
    headers = error.response.headers
    assert said[1] == headers["retry-after"] == headers["x-ratelimit-timeremaining"]
    assert headers["x-ratelimit-type"] == "UserByModelByMinute"
    assert error.response.json()["error"]["details"] == error.error.message


@pytest.mark.check(105)
def test_the_azure_openai_surface_says_it_in_its_words(limited: Server) -> None:
    used_up(limited, "two-a-minute")
    client = openai.AzureOpenAI(
        azure_endpoint=limited.url, api_key=limited.key, api_version="2024-10-21", max_retries=0
    )
    with client, pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(model="two-a-minute", messages=[{"role": "user", "content": "Hello"}])
    assert refused.value.code == "429"
    assert isinstance(refused.value.body, dict)
    said = re.fullmatch(
        r"Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 have exceeded "
        r"call rate limit of your current AIServices S0 pricing tier\. Please retry after (\d+) seconds\.",
        refused.value.body["message"],
    )
    assert said is not None
    assert said[1] == refused.value.response.headers["retry-after"]


@pytest.mark.check(105)
def test_a_used_up_token_limit_is_named_on_each_surface(limited: Server) -> None:
    asked = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 40, "model": "hundred-tokens-for-words"}
    answers = (send("POST", f"{limited.models}/chat/completions", asked, limited.bearer) for _ in range(100))
    refused = next(answer for answer in answers if answer.status != 200)
    assert refused.status == 429
    assert "Rate limit of 100 per 60s exceeded" in refused.json()["error"]["message"]
    assert refused.headers["x-ratelimit-limit-tokens"] == "100"
    refused = send("POST", f"{limited.url}/openai/v1/chat/completions", asked, limited.bearer)
    assert "have exceeded token rate limit" in refused.json()["error"]["message"]
    assert int(refused.headers["retry-after"]) >= 1


@pytest.mark.check(103)
def test_a_client_waits_for_tokens_and_succeeds(limited: Server) -> None:
    """A running call holds them all; it ends long before the minute does, and the refusal says so."""
    with azure(limited) as client, ThreadPoolExecutor(1) as pool:
        begun = threading.Event()

        def slowly() -> None:
            response = client.complete(
                messages=[UserMessage(content="slowly")], model="hundred-tokens", max_tokens=40, stream=True
            )
            for _ in response:
                begun.set()

        running_call = pool.submit(slowly)
        assert begun.wait(30)
        refused = chat(limited, "hundred-tokens", max_tokens=40)
        assert refused.status == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 10
        assert refused.headers["x-ratelimit-limit-tokens"] == "100"
        assert refused.headers["x-ratelimit-remaining-tokens"] == "0"
        assert complete(client, "hundred-tokens", max_tokens=40) == HELLO
        running_call.result()


@pytest.mark.check(102)
async def test_clients_wait_for_the_minute_and_succeed(limited: Server) -> None:
    """The minute is a real one."""
    for name in ("two-a-minute-for-azure", "two-a-minute-for-openai"):
        used_up(limited, name)
    refused = chat(limited, "two-a-minute-for-azure")
    assert refused.status == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-ratelimit-limit-requests"] == "2"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.headers["x-ratelimit-reset-requests"] == refused.headers["retry-after"]

    client = AsyncChatCompletionsClient(endpoint=limited.models, credential=AzureKeyCredential(limited.key))
    async with client:
        response = await client.complete(messages=[UserMessage(content="Hello")], model="two-a-minute-for-azure")
    assert response.choices[0].message.content == HELLO
    again = openai.OpenAI(base_url=f"{limited.url}/openai/v1", api_key=limited.key, max_retries=1)
    with again:
        answer = again.chat.completions.create(
            model="two-a-minute-for-openai", messages=[{"role": "user", "content": "Hello"}]
        )
    assert answer.choices[0].message.content == HELLO
