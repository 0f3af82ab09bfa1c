"""Which credentials open the door, and what a wrong one is told."""

from __future__ import annotations

import pytest
from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import UserMessage
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import ClientAuthenticationError

from .serving import Server
from .wire import Reply, send

CHAT = {"model": "mistral-large", "messages": [{"role": "user", "content": "Hello"}]}


def chat(server: Server, headers: dict[str, str]) -> Reply:
    return send("POST", f"{server.models}/chat/completions?api-version=2024-05-01-preview", CHAT, headers)


@pytest.mark.check(5)
def test_api_key_alone_is_enough(server: Server) -> None:
    assert chat(server, {"api-key": server.key}).status == 200


@pytest.mark.check(6)
def test_bearer_key_alone_is_enough(server: Server) -> None:
    assert chat(server, {"Authorization": f"Bearer {server.key}"}).status == 200


@pytest.mark.check(7)
def test_bearer_may_be_in_lower_case(server: Server) -> None:
    assert chat(server, {"authorization": f"bearer {server.key}"}).status == 200


@pytest.mark.check(8)
@pytest.mark.parametrize("path", ["/models", "/api/models", "", "/openai/v1", "/v1", "/openai/deployments/gpt-4o"])
def test_no_credential_is_401_with_json(server: Server, path: str) -> None:
    reply = send("POST", f"{server.url}{path}/chat/completions", CHAT)
    assert reply.status == 401
    assert reply.headers["content-type"].startswith("application/json")
    assert reply.json()["error"]["message"]


@pytest.mark.check(9)
def test_a_wrong_key_is_a_client_authentication_error(server: Server) -> None:
    with (
        ChatCompletionsClient(server.models, AzureKeyCredential("wrong")) as client,
        pytest.raises(ClientAuthenticationError) as caught,
    ):
        client.complete(messages=[UserMessage("Hello")], model="mistral-large")
    assert caught.value.status_code == 401
    assert "invalid subscription key" in str(caught.value)


@pytest.mark.check(10)
def test_a_wrong_api_key_beside_a_right_bearer_is_accepted(server: Server) -> None:
    assert chat(server, {"api-key": "wrong", "Authorization": f"Bearer {server.key}"}).status == 200
    assert chat(server, {"api-key": server.key, "Authorization": "Bearer wrong"}).status == 200


@pytest.mark.check(11)
def test_both_keys_work(server: Server) -> None:
    for key in (server.key, server.second_key):
        assert chat(server, {"api-key": key}).status == 200
        assert chat(server, {"Authorization": f"Bearer {key}"}).status == 200
    assert chat(server, {"api-key": server.key + "x"}).status == 401
    assert chat(server, {"api-key": server.key[:-1]}).status == 401


def test_the_subscription_header_is_an_alias(server: Server) -> None:
    assert chat(server, {"Ocp-Apim-Subscription-Key": server.key}).status == 200


@pytest.mark.check(14)
def test_a_bad_key_at_the_root_form_is_told_the_token_failed(server: Server) -> None:
    with (
        ChatCompletionsClient(server.url, AzureKeyCredential("wrong")) as client,
        pytest.raises(ClientAuthenticationError) as caught,
    ):
        client.complete(messages=[UserMessage("Hello")])
    assert "auth token validation failed" in str(caught.value).lower()
