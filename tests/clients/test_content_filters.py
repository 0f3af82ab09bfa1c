"""Content filters as clients meet them: a blocked prompt, a blocked answer, whole and streamed, and annotations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest
from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import UserMessage
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError

from .deployments import CAREFUL, CAREFUL_LATER, CARELESS, TOMATOES
from .printed import run_python
from .serving import Server
from .wire import send

AzureOf = Callable[[str], ChatCompletionsClient]
BLOCKED = "Your request triggered an content_filter error:\n\t The response was filtered due to the prompt triggering "
PROMPT = "Chopping tomatoes and cutting them into cubes or wedges are great ways to practice your knife skills."
HOW = [{"role": "user", "content": "How do I cook?"}]
BEFORE = "Take a knife. "
"""What stands before the phrase that the list has."""
SEED = {
    "message": "The response was filtered due to the prompt triggering Microsoft's content management policy. "
    "Please modify your prompt and retry.",
    "type": None,
    "param": "prompt",
    "code": "content_filter",
    "status": 400,
}


@pytest.fixture
def azure(server: Server) -> Iterator[AzureOf]:
    """Azure's client of a deployment's own endpoint."""
    with ExitStack() as stack:

        def make(deployment: str) -> ChatCompletionsClient:
            client = ChatCompletionsClient(server.root_of(deployment), AzureKeyCredential(server.key))
            return stack.enter_context(client)

        yield make


@pytest.fixture(params=["openai", "azure"])
def client(server: Server, request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    """OpenAI's client on each of its surfaces."""
    with (
        openai.OpenAI(base_url=f"{server.url}/openai/v1", api_key=server.key, max_retries=0)
        if request.param == "openai"
        else openai.AzureOpenAI(azure_endpoint=server.url, api_key=server.key, api_version="2024-10-21", max_retries=0)
    ) as made:
        yield made


@pytest.mark.check(107, 108)
def test_the_sample_of_content_safety_says_what_triggered(server: Server) -> None:
    printed = run_python("api-client", "api-safety", endpoint=server.root_of(CAREFUL), key=server.key)
    assert printed.startswith(BLOCKED)


@pytest.mark.check(107, 108)
def test_a_blocked_prompt_has_the_documented_body(server: Server, azure: AzureOf) -> None:
    with pytest.raises(HttpResponseError) as caught:
        azure(CAREFUL).complete(messages=[UserMessage(content=PROMPT)])
    assert (caught.value.status_code, caught.value.error.code) == (400, "content_filter")
    assert json.loads(caught.value.response.body()) == {"error": SEED}
    for stream in (False, True):
        body = {"model": CAREFUL, "messages": [{"role": "user", "content": PROMPT}], "stream": stream}
        reply = send("POST", f"{server.url}/models/chat/completions", body, server.bearer)
        assert (reply.status, reply.json()) == (400, {"error": SEED})
        assert reply.headers["x-ms-error-code"] == "content_filter"


@pytest.mark.check(111)
@pytest.mark.parametrize("stream", [False, True])
def test_a_blocked_prompt_says_for_what_to_openai(client: openai.OpenAI, stream: bool) -> None:
    messages: Any = [{"role": "user", "content": PROMPT}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=CAREFUL, messages=messages, stream=stream)
    assert (caught.value.code, caught.value.param) == ("content_filter", "prompt")
    body: Any = caught.value.body
    assert body["innererror"]["code"] == "ResponsibleAIPolicyViolation"
    lists = body["innererror"]["content_filter_result"]["custom_blocklists"]
    assert lists == {"filtered": True, "details": [{"id": "house", "filtered": True}]}


@pytest.mark.check(109, 110)
def test_a_blocked_answer_to_azure(azure: AzureOf) -> None:
    client, messages = azure(CAREFUL), [UserMessage(content="How do I cook?")]
    choice = client.complete(messages=messages).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("content_filter", BEFORE)
    updates = [update.choices[0] for update in client.complete(messages=messages, stream=True)]
    assert "".join(update.delta.content for update in updates) == BEFORE
    assert [update.finish_reason for update in updates if update.finish_reason] == ["content_filter"]


@pytest.mark.check(109, 110, 111)
def test_a_blocked_answer_to_openai(client: openai.OpenAI) -> None:
    answer: Any = client.chat.completions.create(model=CAREFUL, messages=HOW)  # type: ignore[arg-type]
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("content_filter", BEFORE)
    assert choice.content_filter_results["custom_blocklists"]["filtered"] is True
    (of_prompt,) = answer.prompt_filter_results
    assert of_prompt["prompt_index"] == 0
    assert of_prompt["content_filter_results"]["custom_blocklists"] == {"filtered": False, "details": []}
    stream: Any = client.chat.completions.create(model=CAREFUL, messages=HOW, stream=True)  # type: ignore[call-overload]
    chunks = list(stream)
    assert chunks[0].choices == []
    assert chunks[0].prompt_filter_results[0]["prompt_index"] == 0
    choices = [chunk.choices[0] for chunk in chunks[1:]]
    assert "".join(one.delta.content or "" for one in choices) == BEFORE
    assert choices[-1].finish_reason == "content_filter"
    assert choices[-1].content_filter_results["custom_blocklists"]["filtered"] is True


@pytest.mark.check(25, 112)
def test_two_deployments_of_one_model_have_filters_of_their_own(azure: AzureOf) -> None:
    said = {}
    for deployment in (CAREFUL, CARELESS):
        answer = azure(deployment).complete(messages=[UserMessage(content="How do I cook?")])
        said[deployment] = (answer.model, answer.choices[0].finish_reason, answer.choices[0].message.content)
    assert said[CAREFUL] == ("careful", "content_filter", BEFORE)
    assert said[CARELESS] == ("careful", "stop", "Take a knife. Chopping tomatoes is easy.")
    azure(CARELESS).complete(messages=[UserMessage(content=PROMPT)])
    with pytest.raises(HttpResponseError):
        azure(CAREFUL).complete(messages=[UserMessage(content=PROMPT)])


@pytest.mark.check(110)
def test_a_blocked_stream_ends_as_any_other(server: Server) -> None:
    body = {"model": CAREFUL, "messages": HOW, "stream": True}
    for path in ("/models/chat/completions", "/openai/v1/chat/completions"):
        reply = send("POST", f"{server.url}{path}", body, server.bearer)
        *_, last, done, rest = reply.body.decode().split("\n\n")
        assert (done, rest) == ("data: [DONE]", "")
        choice = json.loads(last.removeprefix("data: "))["choices"][0]
        assert choice["finish_reason"] == "content_filter"
        assert choice["content_filter_results"]["custom_blocklists"]["filtered"] is True


@pytest.mark.check(112)
@pytest.mark.parametrize("path", ["/models", "/openai/v1"])
def test_documented_answers_have_no_other_fields_unless_they_are_asked_for(server: Server, path: str) -> None:
    body = {"model": CAREFUL, "messages": [{"role": "user", "content": "Say nothing of it."}]}
    reply = send("POST", f"{server.url}{path}/chat/completions", body, server.bearer)
    assert ("prompt_filter_results" in reply.json()) is (path == "/openai/v1")
    filtered = {**body, "model": "Mistral-large"}  # a deployment without a filter
    reply = send("POST", f"{server.url}{path}/chat/completions", filtered, server.bearer)
    assert b"filter_results" not in reply.body


def test_chunks_of_an_asynchronous_filter_can_be_read(client: openai.OpenAI) -> None:
    stream: Any = client.chat.completions.create(
        model=CAREFUL_LATER, messages=HOW, stream=True  # type: ignore[arg-type]
    )  # fmt: skip
    chunks = list(stream)
    said = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(one.delta.content or "" for one in said) == TOMATOES
    of_text = [one for one in said if getattr(one, "content_filter_offsets", None)]
    assert len(of_text) > 2
    assert all(one.delta.content is None for one in of_text)
    ends = [one.content_filter_offsets["end_offset"] for one in of_text]
    assert ends == sorted(ends)
    assert {chunk.id for chunk in chunks[1:]} == {chunks[1].id}


def test_so_can_azure_s_client(azure: AzureOf) -> None:
    updates = list(azure(CAREFUL_LATER).complete(messages=[UserMessage(content="How?")], stream=True))
    assert "".join(update.choices[0].delta.content for update in updates) == TOMATOES
