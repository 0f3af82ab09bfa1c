"""Budgets of a running server: the same on every surface, over a restart and a kill, and told at a webhook."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from served import Served, eventually, serve

CALLER = "callers-key-51b0aa"
MESSAGES = [{"role": "user", "content": "hi"}]
FIRST_SURFACES = {
    "/models/chat/completions": "insufficient_quota",
    "/openai/deployments/priced/chat/completions?api-version=2024-10-21": "insufficient_quota",
    "/v1/chat/completions": "insufficient_quota",
}


def config(directory: Path, amount: str = "0.001", **more: Any) -> dict[str, Any]:
    (directory / "prices.yaml").write_text("prices: [{deployment: priced, input: '1', output: '2'}]")
    return {
        "providers": {"house": {"type": "scripted"}},
        "deployments": {
            "priced": {"model": {"name": "m"}, "provider": "house", "default": True},
            "unknown": {"model": {"name": "m"}, "provider": "house"},
        },
        "projects": {"research": {"budget": {"amount": amount}}},
        "keys": {"team": {"key1": "env:TEAM_KEY", "project": "research"}},
        "prices": {"file": str(directory / "prices.yaml"), "unpriced": "deny"},
        **more,
    }


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serve(config(tmp_path), tmp_path / "data", TEAM_KEY=CALLER) as server:
        yield server


def ask(server: Served, path: str = "/v1/chat/completions", **fields: Any) -> Any:
    body = {"model": "priced", "messages": MESSAGES, "max_tokens": 20, **fields}
    return server.call("POST", path, body, key=CALLER)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", FIRST_SURFACES)
def test_every_surface_books_what_its_calls_cost(served: Served, path: str, stream: bool) -> None:
    assert ask(served, path, stream=stream).status == 200
    (record,) = served.journal()
    assert record.usage.total > 0
    assert (record.pricing, record.currency, record.project) == ("priced", "USD", "research")
    assert record.cost is not None
    assert Decimal(record.cost) == Decimal(record.usage.input + 2 * record.usage.output) / 1_000_000


@pytest.mark.parametrize(("path", "code"), FIRST_SURFACES.items())
def test_a_used_up_budget_is_refused_in_the_surface_s_shape_and_nobody_is_made_to_wait(
    served: Served, path: str, code: str
) -> None:
    while (answer := ask(served, path)).status == 200:
        pass
    assert answer.status == 429
    assert answer.json["error"]["code"] == answer.headers["x-ms-error-code"] == code
    assert "monthly budget of project research" in answer.json["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert not {"retry-after", "retry-after-ms"} & set(answer.headers)
    record = served.journal()[-1]
    assert (record.status, record.error_code, record.cost, record.pricing) == (429, code, "0", "free")


@pytest.mark.parametrize("path", FIRST_SURFACES)
def test_a_call_that_no_budget_can_ever_pay_is_refused_for_good(served: Served, path: str) -> None:
    answer = ask(served, path, max_tokens=5000)
    assert (answer.status, answer.json["error"]["code"]) == (400, "tokens_limit_reached")
    assert "budget of project research" in answer.json["error"]["message"]


def test_what_has_no_price_is_refused_where_that_is_denied(served: Served) -> None:
    answer = ask(served, model="unknown")
    assert (answer.status, answer.json["error"]["code"]) == (403, "PriceUnknown")
    assert served.call("POST", "/v1/chat/completions", {"model": "unknown", "messages": MESSAGES}).status == 200
    assert [record.pricing for record in served.journal()] == ["free", "unpriced"]


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_a_restart_forgets_nothing_that_was_spent(tmp_path: Path, how: str) -> None:
    settings = config(tmp_path, "0.0001")
    with serve(settings, tmp_path / "data", TEAM_KEY=CALLER) as server:
        while (answer := ask(server)).status == 200:
            pass
        assert answer.status == 429
        getattr(server.process, how)()
        server.ended()
    with serve(settings, tmp_path / "data", TEAM_KEY=CALLER) as server:

        def knows() -> bool:
            status = ask(server).status
            assert status in (429, 503), "503: the ledger has not been read yet"
            return status == 429

        eventually(knows, "what was spent")
        assert server.call("POST", "/v1/chat/completions", {"model": "priced", "messages": MESSAGES}).status == 200


class Posted(BaseHTTPRequestHandler):
    """Keeps what is posted; the first time it is out of order."""

    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["content-length"]))
        server.posted.append((self.path, json.loads(body)))
        self.send_response(500 if len(server.posted) == 1 else 204)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def webhook() -> Iterator[Any]:
    server: Any = HTTPServer(("127.0.0.1", 0), Posted)
    server.posted = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_threshold_is_logged_and_posted_again_until_it_is_taken(tmp_path: Path, webhook: Any) -> None:
    address = f"http://127.0.0.1:{webhook.server_port}/budgets?of=house"
    settings = config(tmp_path, "0.0001", budgets={"webhook": address, "thresholds": [10, 90]})
    with serve(settings, tmp_path / "data", TEAM_KEY=CALLER) as server:
        assert ask(server).status == 200
        eventually(lambda: len(webhook.posted) == 2, "the notice comes a second time")
        assert "project:research has reached 10% of its monthly budget" in server.stderr()
    assert webhook.posted[0] == webhook.posted[1]
    path, said = webhook.posted[0]
    assert path == "/budgets?of=house"
    assert (said["event"], said["budget"], said["percent"], said["spent"]) == (
        "budget.threshold",
        "project:research",
        10,
        "0.000016",
    )
