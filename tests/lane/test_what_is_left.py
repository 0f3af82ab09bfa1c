"""Every answer says what the tightest limit leaves, whoever set it: on the deployment, the key or the project."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .harness import Answer, chunked, post
from .shared import MESSAGES, Client, Scenario, Shared, player, shared

GOLDEN = Path(__file__).parents[1] / "golden"
STREAM = (GOLDEN / "upstream" / "usage_on_extra_chunk.body").read_bytes()
PATHS = [
    "/models/chat/completions",
    "/chat/completions",
    "/deployments/chat/chat/completions",
    "/openai/deployments/chat/chat/completions?api-version=2024-10-21",
    "/v1/chat/completions",
]
FORMS = [(path, stream) for path in PATHS for stream in (False, True)]
KINDS = {
    "few": "{{limits: {{requests_per_minute: 3}}, key1: env:{name}}}",
    "short": "{{limits: {{tokens_per_minute: 700, requests_per_minute: 5000}}, key1: env:{name}}}",
    "booked": "{{project: {name}, key1: env:{name}}}",
    "wide": "{{limits: {{tokens_per_minute: 900000, requests_per_minute: 5000}}, key1: env:{name}}}",
}
NAMES = {kind: [f"{kind.upper()}{number}" for number in range(len(FORMS))] for kind in KINDS}
ENTRIES = [f"  {name}: {KINDS[kind].format(name=name)}" for kind, names in NAMES.items() for name in names]
CONFIG = """
providers: {{{{up: {{{{type: openai_compatible, base_url: "http://127.0.0.1:{{port}}/v1"}}}}}}}}
deployments:
  chat:
    model: {{{{format: Custom, name: served}}}}
    provider: up
    default: true
    limits: {{{{tokens_per_minute: 100000, requests_per_minute: 1000}}}}
  once:
    model: {{{{format: Custom, name: served}}}}
    provider: up
    limits: {{{{tokens_per_minute: 100000, requests_per_minute: 1}}}}
projects:
{projects}
keys:
{keys}
""".format(
    keys="\n".join(entry.replace("{", "{{").replace("}", "}}") for entry in ENTRIES),
    projects="\n".join(f"  {name}: {{{{budget: {{{{per: day, tokens: 600}}}}}}}}" for name in NAMES["booked"]),
)
each_form = pytest.mark.parametrize("form", range(len(FORMS)), ids=lambda form: "{} {}".format(*FORMS[form]))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    secrets = {name: f"key-of-{name}-4471" for names in NAMES.values() for name in names}
    with shared(tmp_path_factory.mktemp("left"), CONFIG, **secrets) as found:
        budgets: Any = found.gateway.application.gateway.pipeline.quota.budgets
        budgets.unread.clear()  # no ledger runs here that says what was used before
        yield found


@pytest.fixture
def play(server: Shared) -> Callable[[Scenario], None]:
    """Runs a scenario."""
    return player(server)


async def ask(server: Shared, client: Client, form: int, name: str, model: str = "chat", **more: Any) -> Answer:
    path, stream = FORMS[form]
    if stream:
        server.upstream.pieces = chunked(STREAM)
    body = {"model": model, "messages": MESSAGES, "stream": stream, "max_tokens": 90, **more}
    return await client.ask(post(path, json.dumps(body).encode(), key=f"key-of-{name}-4471"))


def left(answer: Answer, kind: str) -> tuple[int, int, int]:
    """Limit, what is left of it, and the seconds until all is back."""
    named = dict(answer.headers)
    limit, remaining, reset = (named[f"x-ratelimit-{word}-{kind}"] for word in ("limit", "remaining", "reset"))
    return int(limit), int(remaining), int(reset)


@each_form
def test_the_requests_of_a_key_are_told_until_they_are_used_up(play: Callable[[Scenario], None], form: int) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        name = NAMES["few"][form]
        for remaining in (2, 1, 0):
            answer = await ask(server, client, form, name)
            assert answer.status == 200
            assert left(answer, "requests")[:2] == (3, remaining)
            assert left(answer, "tokens")[0] == 100000
        refused = await ask(server, client, form, name)
        assert refused.status == 429
        assert left(refused, "requests")[:2] == (3, 0)
        limit, remaining, _ = left(refused, "tokens")
        assert limit == 100000 and 0 < remaining < limit

    play(scenario)


@each_form
def test_the_tokens_of_a_key_are_told(play: Callable[[Scenario], None], form: int) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        name = NAMES["short"][form]
        answer = await ask(server, client, form, name)
        limit, remaining, reset = left(answer, "tokens")
        assert limit == 700 and remaining <= 610 and reset <= 61
        prompt = limit - remaining - 90
        assert left(answer, "requests")[0] == 1000, "the deployment's are fewer than the key's"
        refused = await ask(server, client, form, name, max_tokens=700 - prompt - 2)
        assert refused.status == 429
        assert left(refused, "tokens")[:2] == (700, 0)
        assert left(refused, "requests")[0] == 1000

    play(scenario)


@each_form
def test_a_projects_tokens_are_told(play: Callable[[Scenario], None], form: int) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        name = NAMES["booked"][form]
        answer = await ask(server, client, form, name)
        assert answer.status == 200
        limit, before, _ = left(answer, "tokens")
        assert limit == 600 and before <= 510
        assert left(answer, "requests")[0] == 1000
        refused = await ask(server, client, form, name, max_tokens=before + 90 - 2)
        assert (refused.status, json.loads(refused.body)["error"]["code"]) == (429, "insufficient_quota")
        assert left(refused, "tokens")[0] == 600
        assert 0 <= left(refused, "tokens")[1] <= 600
        assert left(refused, "requests")[0] == 1000

    play(scenario)


@each_form
def test_the_deployments_limits_are_told_where_they_are_the_tightest(
    play: Callable[[Scenario], None], form: int
) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        answer = await ask(server, client, form, NAMES["wide"][form])
        assert left(answer, "requests")[0] == 1000
        assert left(answer, "tokens")[0] == 100000

    play(scenario)


def test_a_full_deployment_tells_the_keys_tokens_too(play: Callable[[Scenario], None]) -> None:
    async def scenario(server: Shared, client: Client) -> None:
        name, form = NAMES["short"][0], 8
        assert "/v1/" in FORMS[form][0]
        answers = [await ask(server, client, form, name, "once", max_tokens=5) for _ in range(2)]
        refused = next(answer for answer in answers if answer.status == 429)
        assert left(refused, "requests")[:2] == (1, 0)
        assert left(refused, "tokens")[0] == 700

    play(scenario)
