"""A path that leads nowhere is answered with the one that was meant, and is told to the operator."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.surfaces.app import all_routes
from modelport.surfaces.options import Options
from modelport.surfaces.wrong_path import WrongPaths, origin_of

from .doubles import Served

HERE = "http://here:8080"
WRONG = WrongPaths(all_routes(Options()))
MEANT = {
    "/chat/completion": ("/chat/completions", ""),
    "/Chat/Completions": ("/chat/completions", ""),
    "/v1/chat/completion": ("/v1/chat/completions", "/v1"),
    "/v1/models/chat/completions": ("/v1/chat/completions", "/v1"),
    "/v1/v1/chat/completions": ("/v1/chat/completions", "/v1"),
    "/openai/v1/v1/chat/completions": ("/openai/v1/chat/completions", "/openai/v1"),
    "/api/v1/chat/completions": ("/v1/chat/completions", "/v1"),
    "/api/v1/embeddings": ("/v1/embeddings", "/v1"),
    "/proxy/openai/v1/embedding": ("/openai/v1/embeddings", "/openai/v1"),
    "/openai/chat/completions": ("/openai/v1/chat/completions", "/openai/v1"),
    "/models/models/chat/completions": ("/models/chat/completions", "/models"),
    "/models/v1/chat/completions": ("/models/chat/completions", "/models"),
    "/v1/chat/completions/chat/completions": ("/v1/chat/completions", "/v1"),
    "/models/embeddings/embeddings": ("/models/embeddings", "/models"),
    "/openai/v1/openai/deployments/gpt/chat/completions": ("/openai/deployments/gpt/chat/completions", ""),
    "/openai/deployments/a/chat/completions/openai/deployments/a/chat/completions": (
        "/openai/deployments/a/chat/completions",
        "",
    ),
    "/deployments/a/v1/v1/chat/completions": ("/deployments/a/v1/chat/completions", "/deployments/a/v1"),
    "/v1/engines/davinci/completions": ("/v1/completions", "/v1"),
}


@pytest.mark.parametrize("path", MEANT)
def test_the_right_path_and_the_right_base_url_are_told(path: str) -> None:
    right, base = MEANT[path]
    message = WRONG.refusal("POST", path, HERE).message
    assert message.startswith("Resource not found. ")
    assert message.endswith(f"; POST {right} is one. The base URL for it is {HERE}{base}.")


def test_a_list_is_found_too() -> None:
    assert WRONG.meant("GET", "/api/v1/models") == ("GET", "/v1/models", "/v1")
    assert WRONG.meant("GET", "/v1/model") == ("GET", "/v1/models", "/v1")


@pytest.mark.parametrize("path", ["/v1/responses", "/wp-login.php", "/v1", "/a" * 40, "/" + "x" * 5000])
def test_where_nothing_resembles_the_path_all_base_urls_are_told(path: str) -> None:
    message = WRONG.refusal("POST", path, HERE).message
    assert f"{HERE}/v1 for OpenAI clients, {HERE}/models for Azure AI Inference clients and {HERE} for" in message
    assert len(message) < 500


@given(st.lists(st.sampled_from(["", "v1", "chat", "openai", "deployments", "%2f", "x", "{name}", "é"]), max_size=40))
def test_no_path_is_a_fault(words: list[str]) -> None:
    assert WRONG.refusal("POST", "/" + "/".join(words), "").message.startswith("Resource not found. ")


def test_a_host_that_is_none_is_not_repeated() -> None:
    assert origin_of("https", "[::1]:8080") == "https://[::1]:8080"
    for host in (None, 'x"><script>', "a b", "a" * 300):
        assert origin_of("http", host) == ""


def test_it_is_answered_and_logged(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "modelport.surfaces"):
        reply = served.send("POST", "/v1/models/chat/completions?api-key=secret-in-the-address", b"{}", key=False)
    assert reply.status == 404
    assert reply.json()["error"]["message"].endswith(f"The base URL for it is {served.url}/v1.")
    (line,) = (record.getMessage() for record in caplog.records if record.name == "modelport.surfaces")
    assert line.startswith("POST /v1/models/chat/completions: 404 Resource not found. ")
    assert "secret-in-the-address" not in line


@pytest.mark.parametrize(
    ("headers", "reason"),
    [({}, "absent"), ({"Authorization": "Basic YTpi"}, "malformed"), ({"api-key": ""}, "malformed")],
)
def test_a_list_without_a_key_is_logged_with_the_reason(
    served: Served, caplog: pytest.LogCaptureFixture, headers: dict[str, str], reason: str
) -> None:
    with caplog.at_level("INFO", "modelport.surfaces"):
        assert served.send("GET", "/v1/models", headers=headers, key=False).status == 401
    (line,) = (record.getMessage() for record in caplog.records if record.name == "modelport.surfaces")
    assert line.startswith(f"GET /v1/models: 401 {reason}")
