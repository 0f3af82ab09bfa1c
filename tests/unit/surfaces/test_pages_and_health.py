"""What is there besides inference: the page, health, metrics, lists, OPTIONS, and paths that lead nowhere."""

from __future__ import annotations

import json

import pytest

from modelport.core.roles import Role
from modelport.surfaces.options import Options

from .doubles import FakeGateway, Served, serving


def test_the_root_says_healthy_to_a_probe(served: Served) -> None:
    reply = served.send("GET", "/", key=False)
    assert (reply.status, reply.body, reply.headers["content-type"]) == (200, b"healthy", "text/plain; charset=utf-8")


def test_the_root_is_a_page_for_a_browser(served: Served) -> None:
    served.gateway.is_ready = False
    accept = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
    assert served.send("GET", "/", headers={**accept, "Host": 'x"><script>alert(1)</script>'}).status == 400
    reply = served.send("GET", "/", headers=accept)
    page = reply.body.decode()
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "1 of 2 deployments ready" in page
    assert "Mistral-large" in page
    assert "loading" in page
    assert "reading weights" not in page
    assert "<script" not in page
    assert "default-src 'none'" in reply.headers["content-security-policy"]


@pytest.mark.parametrize("headers", [{}, {"api-key": "wrong"}])
def test_the_page_names_no_deployment_to_a_stranger(served: Served, headers: dict[str, str]) -> None:
    page = served.send("GET", "/", headers={"Accept": "text/html", **headers}, key=False).body.decode()
    assert "modelport" in page
    for name in ("Mistral", ">embed<", "deployments ready", 'class="state'):
        assert name not in page
    assert "GET /v1/models" in page


def test_the_pages_calls_can_be_pasted(served: Served) -> None:
    page = served.send("GET", "/", headers={"Accept": "text/html"}).body.decode()
    assert f"curl {served.url}/models/chat/completions" in page
    assert '-H "api-key: $(modelport keys show)"' in page
    assert "&quot;Mistral-large&quot;" in page
    assert "$base" not in page


def test_a_browser_that_asks_for_an_icon_is_no_fault(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        reply = served.send("GET", "/favicon.ico", key=False)
    assert (reply.status, reply.body) == (204, b"")
    assert not [record for record in caplog.records if record.name.startswith("modelport")]


@pytest.mark.parametrize("path", ["/health", "/health/live", "/health/ready"])
def test_health_is_public(served: Served, path: str) -> None:
    assert served.send("GET", path, key=False).status == 200


def test_a_server_that_is_not_ready_says_so_and_why_only_to_who_is_known(served: Served) -> None:
    served.gateway.is_ready = False
    unknown = served.send("GET", "/health/ready", key=False)
    assert (unknown.status, unknown.json()) == (503, {"status": "not_ready"})
    assert served.send("GET", "/health/ready", headers={"api-key": "wrong"}, key=False).json() == {
        "status": "not_ready"
    }
    known = served.send("GET", "/health/ready").json()
    assert known["deployments"][1] == {"name": "embed", "state": "loading", "reason": "reading weights"}
    assert served.send("GET", "/health/live", key=False).status == 200


def test_metrics_are_for_administrators_unless_they_are_public(served: Served) -> None:
    assert served.send("GET", "/metrics", key=False).status == 401
    refused = served.send("GET", "/metrics")
    assert (refused.status, refused.json()["error"]["code"]) == (401, "PermissionDenied")
    served.gateway.role = Role.ADMINISTRATOR
    reply = served.send("GET", "/metrics")
    assert reply.body == b"modelport_requests_total 1\n"
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    with serving(FakeGateway(), Options(metrics_public=True)) as public:
        assert public.send("GET", "/metrics", key=False).status == 200


def test_head_is_get_without_the_body(served: Served) -> None:
    reply = served.send("HEAD", "/health", key=False)
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "15")


@pytest.mark.parametrize("base", ["/openai", "/openai/v1", "/v1", "/api/projects/p/openai/v1"])
def test_models_are_listed_and_found_one_by_one(served: Served, base: str) -> None:
    listing = served.send("GET", f"{base}/models").json()
    assert listing["object"] == "list"
    assert [entry["id"] for entry in listing["data"]] == ["embed", "Mistral-large"]
    assert listing["data"][1]["owned_by"] == "Mistral AI"
    assert served.send("GET", f"{base}/models/mistral-LARGE").json() == listing["data"][1]
    missing = served.send("GET", f"{base}/models/none")
    assert (missing.status, missing.json()["error"]["code"]) == (404, "DeploymentNotFound")
    assert served.send("GET", f"{base}/models", key=False).status == 401


@pytest.mark.parametrize(
    "path", ["/models/nothing", "/openai/nothing", "/openai/v1/nothing", "/x", "/models", "/openai/info"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_path_is_not_found(served: Served, method: str, path: str) -> None:
    reply = served.send(method, path, b"{}" if method == "POST" else None)
    assert reply.status == 404
    error = reply.json()["error"]
    assert error["code"] == "404"
    assert error["message"].startswith(f"Resource not found. No route has the path {path}")
    assert reply.headers["x-ms-error-code"] == "404"


@pytest.mark.parametrize("path", ["/models/chat/completions", "/openai/deployments/x/embeddings", "/v1/completions"])
def test_get_on_an_inference_call_is_not_allowed(served: Served, path: str) -> None:
    reply = served.send("GET", path)
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    assert reply.json()["detail"] == "Method Not Allowed"
    assert served.send("DELETE", "/health").headers["allow"] == "GET, HEAD"


def test_every_response_carries_the_common_headers(served: Served) -> None:
    for path in ("/", "/nothing", "/v1/models"):
        headers = served.send("GET", path, headers={"x-ms-client-request-id": "mine"}).headers
        assert headers["x-ms-client-request-id"] == "mine"
        assert headers["x-request-id"] == headers["apim-request-id"]
        assert headers["x-ms-region"] == "East US 2"
        assert headers["x-content-type-options"] == "nosniff"


def test_a_preflight_of_a_listed_origin_is_allowed_without_a_credential(served: Served) -> None:
    asked = {
        "Origin": "https://ui.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "api-key, content-type",
    }
    reply = served.send("OPTIONS", "/models/chat/completions", headers=asked, key=False)
    assert (reply.status, reply.body) == (204, b"")
    assert "content-length" not in reply.headers
    assert reply.headers["access-control-allow-origin"] == "https://ui.example"
    assert "POST" in reply.headers["access-control-allow-methods"]
    assert reply.headers["access-control-allow-headers"] == "api-key, content-type"


def test_a_preflight_of_another_origin_gets_no_permission(served: Served) -> None:
    asked = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    reply = served.send("OPTIONS", "/models/chat/completions", headers=asked, key=False)
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_answers_and_refusals_can_be_read_by_a_listed_origin_only(served: Served) -> None:
    for path, status in (("/v1/models", 200), ("/nothing", 404)):
        reply = served.send("GET", path, headers={"Origin": "https://ui.example"})
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (status, "https://ui.example")
        assert reply.headers["vary"] == "Origin"
        other = served.send("GET", path, headers={"Origin": "null"})
        assert "access-control-allow-origin" not in other.headers
    assert "x-request-id" in reply.headers["access-control-expose-headers"]


def test_a_wildcard_is_sent_only_if_the_operator_wrote_one() -> None:
    asked = {"Origin": "https://any.example"}
    with serving(FakeGateway(), Options(cors_origins=("*",))) as open_to_all:
        assert open_to_all.send("GET", "/health", headers=asked).headers["access-control-allow-origin"] == "*"
    with serving(FakeGateway()) as closed:
        assert "access-control-allow-origin" not in closed.send("GET", "/health", headers=asked).headers


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/info", "Mistral-large-2411"),
        ("/deployments/EMBED/info", "Cohere-embed-v3-english"),
        ("/models/info", "Mistral-large-2411"),
        ("/models/info?model=embed&api-version=2024-05-01-preview", "Cohere-embed-v3-english"),
        ("/api/models/info?model=embed", "Cohere-embed-v3-english"),
    ],
)
def test_info_tells_which_model_a_base_leads_to(served: Served, path: str, model: str) -> None:
    assert served.send("GET", path).json()["model_name"] == model


def test_info_follows_the_headers_that_name_a_deployment(served: Served) -> None:
    root = served.send("GET", "/info", headers={"azureml-model-deployment": "embed"})
    assert root.json()["model_name"] == "Cohere-embed-v3-english"
    models = served.send("GET", "/models/info", headers={"x-ms-model-mesh-model-name": "embed"})
    assert models.json()["model_name"] == "Cohere-embed-v3-english"


def test_info_without_a_name_or_a_default_is_refused(served: Served) -> None:
    served.gateway.default = None
    reply = served.send("GET", "/models/info")
    assert (reply.status, reply.json()["error"]["code"]) == (400, "no_model_name")
    assert served.send("GET", "/info").status == 404


def test_info_is_not_part_of_azure_openai(served: Served) -> None:
    assert served.send("GET", "/openai/deployments/embed/info").status == 404


def test_info_needs_a_credential(served: Served) -> None:
    assert served.send("GET", "/models/info", key=False).status == 401
    reply = served.send("GET", "/info", key=False)
    assert "auth token validation failed" in json.dumps(reply.json()).lower()
