"""@azure-rest/ai-inference under Node, over http and https, and the documentation's JavaScript."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from clients.deployments import (
    CAREFUL,
    CAREFUL_LATER,
    COHERE,
    EMBEDDED,
    EMBEDDED_LLAMA,
    LANGUAGES,
    LLAMA,
    MULTIBYTE,
    RIEMANN,
    SCRIPTED_LLAMA,
    TOMATOES,
)
from clients.printed import SNIPPETS
from clients.serving import Server

NODE = Path(__file__).parents[1] / "node"
LAST = "@azure-rest/ai-inference"
OLDER = [f"{LAST}-beta.{number}" for number in (2, 3, 4, 5)]
PACKAGES = pytest.mark.parametrize("package", [*OLDER, LAST])


def node(
    server: Server, *arguments: str, endpoint: str, package: str = LAST, keyless: dict[str, str] | None = None
) -> str:
    """`keyless`: the variables in which the client finds its credential."""
    environment = {
        **os.environ,
        "AZURE_INFERENCE_ENDPOINT": endpoint,
        **(keyless or {"AZURE_INFERENCE_CREDENTIAL": server.key}),
        "CLIENT_PACKAGE": package,
        "CLIENT_SAMPLES": str(SNIPPETS),
        **({"NODE_EXTRA_CA_CERTS": str(server.ca_file)} if server.ca_file else {}),
    }
    done = subprocess.run(
        ["node", "talk.mjs", *arguments],
        cwd=NODE, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def talk(
    server: Server,
    conversation: str,
    argument: Any,
    endpoint: str,
    package: str = LAST,
    keyless: dict[str, str] | None = None,
) -> Any:
    written = json.dumps(argument)
    return json.loads(node(server, conversation, written, endpoint=endpoint, package=package, keyless=keyless))


@pytest.mark.check(3)
@PACKAGES
def test_a_chat_over_http(server: Server, package: str) -> None:
    for answer in talk(server, "chat", {"model": "mistral-large"}, server.models, package):
        assert answer["status"] == "200"
        assert answer["unexpected"] is False
        assert answer["body"]["choices"][0]["message"]["content"] == RIEMANN


@pytest.mark.check(3)
@PACKAGES
def test_a_chat_over_https(secure: Server, package: str) -> None:
    for answer in talk(secure, "chat", {"model": "mistral-large"}, secure.models, package):
        assert answer["status"] == "200"
        assert answer["body"]["model"] == "Mistral-large-2411"


@pytest.mark.check(3)
def test_a_chat_with_the_embedded_model(server: Server) -> None:
    for answer in talk(server, "chat", {"model": EMBEDDED, "max_tokens": 8}, server.models):
        assert answer["body"]["choices"][0]["message"]["content"]


@pytest.mark.check(76, 78)
@PACKAGES
@pytest.mark.parametrize(("deployment", "text"), [("mistral-large", RIEMANN), ("multibyte", MULTIBYTE)])
def test_a_stream(server: Server, package: str, deployment: str, text: str) -> None:
    answer = talk(server, "stream", {"model": deployment}, server.models, package)
    assert answer["status"] == "200"
    assert answer["done"] is True
    assert answer["text"] == text
    assert answer["chunks"][-1]["usage"]["total_tokens"] > 0


@pytest.mark.check(83)
@PACKAGES
def test_a_death_in_mid_stream_is_an_exception(server: Server, package: str) -> None:
    assert "error" in talk(server, "stream", {"model": "dies-in-mid-stream"}, server.models, package)


@pytest.mark.check(63)
@PACKAGES
def test_the_documented_header_passes_an_extra_through(server: Server, package: str) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], "model": "Mistral-large-echo", "safe_mode": True}
    passed = talk(server, "post", {"headers": {"extra-params": "pass-through"}, "body": body}, server.models, package)
    assert passed["status"] == "200"
    assert "Always assist with care" in passed["body"]["choices"][0]["message"]["content"]
    refused = talk(server, "post", {"body": body}, server.models, package)
    assert refused["status"] == "400"
    assert refused["unexpected"] is True
    assert "Extra parameters ['safe_mode'] are not allowed" in refused["body"]["error"]["message"]


@pytest.mark.check(97)
@PACKAGES
def test_the_model_information(server: Server, package: str) -> None:
    query = {"queryParameters": {"model": "gpt-4o"}}
    assert talk(server, "info", query, server.models, package)["body"] == {
        "model_name": "gpt-4o",
        "model_type": "chat-completions",
        "model_provider_name": "OpenAI",
    }


@pytest.mark.check(87, 88)
def test_embeddings(server: Server) -> None:
    request = {"path": "/embeddings", "body": {"input": ["a"], "encoding_format": "base64", "model": COHERE}}
    answer = talk(server, "embed", request, server.models)
    assert answer["status"] == "200"
    assert isinstance(answer["body"]["data"][0]["embedding"], str)


@pytest.mark.check(43)
def test_an_error_is_returned_and_not_thrown(server: Server) -> None:
    body = {"messages": [{"role": "user", "content": "a"}], "model": LLAMA, "response_format": {"type": "json_object"}}
    answer = talk(server, "post", {"body": body}, server.models)
    assert answer["status"] == "422"
    assert answer["unexpected"] is True
    assert answer["body"]["error"]["code"] == "parameter_not_supported"


@pytest.mark.check(28, 63, 96)
@pytest.mark.parametrize("deployment", [SCRIPTED_LLAMA])
@pytest.mark.parametrize("package", [LAST])
def test_the_printed_samples_over_https(secure: Server, deployment: str, package: str) -> None:
    samples = ["client", "info", "chat", "parameters", "extras", "safety"]
    printed = node(secure, "printed", *samples, endpoint=secure.root_of(deployment), package=package)
    assert printed.startswith(
        "Model name:  Meta-Llama-3.1-405B-Instruct\nModel type:  chat-completions\nModel provider name:  Meta\n"
        f"Response:  {LANGUAGES}\nModel:  Meta-Llama-3.1-405B-Instruct\nUsage:\n"
    )
    assert printed.count(LANGUAGES) == 2


@pytest.mark.check(3)
def test_the_printed_stream_sample_gets_one_document(secure: Server) -> None:
    """The sample never asks for a stream, so the answer is one JSON document and the loop prints nothing."""
    samples = ["client", "stream"]
    assert node(secure, "printed", *samples, endpoint=secure.root_of(SCRIPTED_LLAMA)) == ""


@pytest.mark.check(28, 68)
def test_the_printed_parameters_and_extras_with_the_embedded_model(server: Server) -> None:
    body = {
        "messages": [{"role": "user", "content": "How many languages are in the world?"}],
        "presence_penalty": "0.1", "frequency_penalty": "0.8", "max_tokens": 16, "stop": ["<|endoftext|>"],
        "temperature": 0, "top_p": 1, "response_format": {"type": "text"}, "logprobs": True,
    }  # fmt: skip
    request = {"headers": {"extra-params": "pass-through"}, "body": body}
    answer = talk(server, "post", request, server.root_of(EMBEDDED_LLAMA))
    assert answer["status"] == "200"
    assert answer["body"]["choices"][0]["logprobs"]["content"]


WORKLOAD_IDENTITY = ("AZURE_AUTHORITY_HOST", "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE")
APP_SERVICE = ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")


@pytest.mark.check(12)
@pytest.mark.parametrize("names", [WORKLOAD_IDENTITY, APP_SERVICE], ids=["workload identity", "managed identity"])
@pytest.mark.parametrize("package", [OLDER[0], LAST])
def test_default_azure_credential(keyless: Server, names: tuple[str, ...], package: str) -> None:
    found = {name: keyless.environment[name] for name in names}
    for answer in talk(keyless, "chat", {"model": "mistral-large"}, keyless.models, package, keyless=found):
        assert answer["status"] == "200", answer["body"]
        assert answer["body"]["choices"][0]["message"]["content"] == RIEMANN


@pytest.mark.check(12)
def test_the_printed_keyless_samples(keyless: Server) -> None:
    samples = ["client-entra", "info", "chat", "parameters", "extras", "safety"]
    root = keyless.root_of(SCRIPTED_LLAMA)
    printed = node(keyless, "printed", *samples, endpoint=root, keyless=keyless.environment)
    assert printed.startswith("Model name:  Meta-Llama-3.1-405B-Instruct\n")
    assert printed.count(LANGUAGES) == 2


@pytest.mark.check(107, 109, 110)
@PACKAGES
def test_content_filters(server: Server, package: str) -> None:
    for content, status in (("Chopping tomatoes is great.", "400"), ("How do I cook?", "200")):
        request = {"body": {"model": CAREFUL, "messages": [{"role": "user", "content": content}]}}
        answer = talk(server, "post", request, server.models, package)
        assert answer["status"] == status
        if status == "400":
            assert answer["body"]["error"]["code"] == "content_filter"
        else:
            assert answer["body"]["choices"][0]["finish_reason"] == "content_filter"
    how = [{"role": "user", "content": "How do I cook?"}]
    streamed = talk(server, "stream", {"model": CAREFUL, "messages": how}, server.models, package)
    assert (streamed["text"], streamed["done"]) == ("Take a knife. ", True)
    later = talk(server, "stream", {"model": CAREFUL_LATER, "messages": how}, server.models, package)
    assert (later["text"], later["done"]) == (TOMATOES, True)
