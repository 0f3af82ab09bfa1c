"""What an operator writes about an OpenAI-compatible upstream, and what is sent because of it."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from modelport.core.catalog import Target
from modelport.core.content import Message
from modelport.core.ports.providers import Provider
from modelport.core.requests import ChatRequest, EmbeddingsRequest
from modelport.providers.openai_compatible import Settings
from modelport.providers.openai_compatible import open as open_provider
from modelport.providers.openai_compatible.endpoints import ENDPOINTS

TARGET = Target("house", "theirs")
HELLO = ChatRequest(messages=(Message("user", "hello"),), max_tokens=4, seed=3, stream=True)


def provider(**settings):
    return open_provider(Settings.model_validate(settings), "house")


def sent_headers(made):
    return dict(made.encode(HELLO, TARGET).headers)


class Revealed:
    """A secret of the configuration."""

    def reveal(self):
        return "sk-1"


def test_base_url_alone_is_enough():
    made = provider(base_url="http://127.0.0.1:9000/v1/")
    assert isinstance(made, Provider)
    assert made.address.base_url == "http://127.0.0.1:9000/v1"
    assert "authorization" not in sent_headers(made)


@pytest.mark.parametrize("key", ["sk-1", Revealed()])
def test_key_is_sent_as_the_host_wants_it(key):
    bearer = provider(base_url="https://example.com/v1", api_key=key)
    assert sent_headers(bearer)["authorization"] == "Bearer sk-1"
    azure = provider(base_url="https://example.com/openai/v1", host="azure_openai", api_key=key)
    assert sent_headers(azure)["api-key"] == "sk-1"
    chosen = provider(base_url="https://example.com/v1", api_key=key, auth="api-key")
    assert sent_headers(chosen)["api-key"] == "sk-1"
    assert "authorization" not in sent_headers(chosen)


def test_key_is_nowhere_printed():
    settings = Settings.model_validate(
        {"base_url": "https://example.com/v1", "api_key": "sk-1", "headers": {"x-key": "sk-2"}}
    )
    made = open_provider(settings, "house")
    for shown in (repr(settings), str(settings), repr(made), settings.model_dump_json()):
        assert "sk-1" not in shown
        assert "sk-2" not in shown


def test_own_headers_win_over_ours():
    made = provider(host="openai", api_key="sk-1", organization="org", headers={"Authorization": "Basic x", "X-A": "b"})
    assert sent_headers(made)["authorization"] == "Basic x"
    assert sent_headers(made)["x-a"] == "b"
    assert sent_headers(made)["openai-organization"] == "org"


def test_paths_and_version_are_the_operators():
    made = provider(
        base_url="https://example.com/openai",
        paths={"chat": "/deployments/{model}/chat/completions"},
        api_version="2024-10-21",
    )
    sent = made.encode(HELLO, TARGET)
    assert sent.path == "/deployments/theirs/chat/completions?api-version=2024-10-21"
    sent = made.encode(EmbeddingsRequest(input=("a",)), TARGET)
    assert sent.path == "/embeddings?api-version=2024-10-21"


def test_address_holds_everything_the_transport_needs():
    made = provider(
        base_url="https://example.com/v1", verify_tls=False, ca_file="/ca.pem", proxy="http://p:1", unix_socket="/s"
    )
    address = made.address
    assert (address.verify_tls, address.ca_file, address.proxy, address.unix_socket) == (
        False,
        "/ca.pem",
        "http://p:1",
        "/s",
    )


@pytest.mark.parametrize("proxy", ["p:1", "socks5://p:1", "http://", "http://user:pass@[p", "http://p:port"])
def test_what_is_no_proxy(proxy):
    with pytest.raises(ValidationError) as caught:
        provider(base_url="https://example.com/v1", proxy=proxy)
    assert "pass@" not in str(caught.value)


def test_paths_of_files_are_typed_as_such():
    for name in ("ca_file", "unix_socket"):
        assert Path in Settings.model_fields[name].annotation.__args__


def test_known_host_brings_its_habits_and_the_operator_may_differ():
    mistral = json.loads(provider(host="mistral").encode(HELLO, TARGET).body)
    assert mistral["random_seed"] == 3
    assert mistral["max_tokens"] == 4
    assert "stream_options" not in mistral
    openai = json.loads(provider(host="openai").encode(HELLO, TARGET).body)
    assert openai["max_completion_tokens"] == 4
    other = json.loads(
        provider(host="mistral", stream_usage=True, max_tokens_name="max_completion_tokens").encode(HELLO, TARGET).body
    )
    assert other["max_completion_tokens"] == 4
    assert other["stream_options"] == {"include_usage": True}


def test_azures_own_endpoint_gets_extras_passed_through():
    made = provider(host="azure_inference", base_url="https://example.com/models", api_key="k")
    sent = made.encode(HELLO, TARGET)
    assert sent.path == "/chat/completions?api-version=2024-05-01-preview"
    assert dict(sent.headers)["extra-parameters"] == "pass-through"


@pytest.mark.parametrize("host", sorted(ENDPOINTS))
def test_every_known_host_can_be_opened(host):
    base_url = {} if ENDPOINTS[host].base_url else {"base_url": "https://example.com/v1"}
    made = provider(host=host, **base_url)
    assert made.encode(HELLO, TARGET).body


def with_credential(**credential):
    return {"base_url": "https://example.com", "credential": credential}


WITH_TOKEN = with_credential(type="oauth", token_url="https://t.example", client_id="a", client_secret="b")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "base_url is missing"),
        ({"host": "azure_openai"}, "base_url is missing"),
        ({"host": "nowhere"}, "known: openai"),
        ({"base_url": "ftp://example.com"}, "http://"),
        ({"base_url": "https://u:p@example.com"}, "no user name"),
        ({"base_url": "https://example.com?x=1"}, "query"),
        ({"base_url": "https://example.com", "headers": {"Host": "x"}}, "'Host' cannot be set"),
        ({"base_url": "https://example.com", "headers": {"x": "a\r\nb: c"}}, "cannot be sent in a header"),
        ({"base_url": "https://example.com", "api_key": "a\nb"}, "cannot be sent in a header"),
        ({"base_url": "https://example.com", "paths": {"chat": "chat"}}, "must start with /"),
        ({"base_url": "https://example.com", "api_version": "a&b"}, "pattern"),
        ({"base_url": "https://example.com", "bse_url": "x"}, "bse_url"),
        ({**WITH_TOKEN, "api_key": "k"}, "api_key beside credential"),
        ({**WITH_TOKEN, "auth": "bearer"}, "auth beside credential"),
        ({**WITH_TOKEN, "headers": {"Authorization": "x"}}, "'authorization' beside credential"),
        (with_credential(type="oauth", client_id="a", client_secret="b: c"), "token_url is missing"),
        (with_credential(type="client_secret", client_id="a"), "tenant_id is missing"),
        (with_credential(type="managed_identity", tenant_id="a"), "tenant_id is not for the type managed_identity"),
        (with_credential(type="managed_identity", client_secret="b: c"), "client_secret is not for the type"),
        (with_credential(type="password"), "managed_identity"),
    ],
)
def test_wrong_settings_are_refused_without_showing_values(settings, words):
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(settings)
    assert words in str(caught.value)
    assert "b: c" not in str(caught.value)


def test_without_azure_identity_entra_is_refused(monkeypatch):
    monkeypatch.setattr("modelport.upstream.credentials.entra.LIBRARY", "azure.no_such_library")
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(with_credential(type="managed_identity"))
    assert "install modelport[entra]" in str(caught.value)
