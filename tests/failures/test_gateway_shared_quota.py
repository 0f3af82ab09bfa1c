"""One limit and several gateway processes, against real stores: never exceeded, used up to the end, and what happens
when the store dies."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from modelport.core.usage import UsageRecord
from served import Served, eventually, serve
from slow_to_connect import slow_to_connect

LIMIT_TOKENS = 60_000
WINDOW_SECONDS = 60
SIZES = {"small": (20, 12), "middle": (80, 60), "large": (200, 200)}
"""A call's `max_tokens` and what it then uses. The reservation bounds it: a prompt's estimate is above ten tokens."""
IN_A_ROW = 25
SECONDS = 75.0 if os.environ.get("MODELPORT_LONG") else 0.0
"""Where everything is checked the limit is used for longer than a window; elsewhere until it is used up."""


def configuration(**changes: Any) -> dict[str, Any]:
    replies = [
        {"match": {"contains": name}, "text": "x", "usage": {"prompt_tokens": 10, "completion_tokens": used - 10}}
        for name, (_, used) in SIZES.items()
    ]
    deployment = {
        "model": {"format": "Custom", "name": "limited", "version": "1"},
        "provider": {"type": "scripted", "replies": replies},
        "limits": {"tokens_per_minute": LIMIT_TOKENS, "requests_per_minute": None},
        "default": True,
    }
    return {"deployments": {"Limited": deployment}, **changes}


class Hammer(threading.Thread):
    """One client that calls as fast as it is answered, until it has been refused often enough and the time is over."""

    def __init__(self, served: Served, until: float, seed: int) -> None:
        super().__init__(daemon=True)
        self.served = served
        self.until = until
        self.random = random.Random(seed)
        self.statuses: dict[int, int] = {}
        self.failure: Exception | None = None

    def run(self) -> None:
        refused, has_used_it_up = 0, False
        try:
            while not has_used_it_up or time.monotonic() < self.until:
                status = self.once()
                self.statuses[status] = self.statuses.get(status, 0) + 1
                refused = refused + 1 if status == 429 else 0
                has_used_it_up = has_used_it_up or refused >= IN_A_ROW
                if status != 200:
                    time.sleep(0.05)
        except Exception as failure:
            self.failure = failure

    def once(self) -> int:
        # At the end only what is small still fits.
        name = self.random.choice(list(SIZES)) if self.statuses.get(429, 0) < 5 else "small"
        return self.served.chat(name, max_tokens=SIZES[name][0]).status


def hammered(servers: Sequence[Served], clients: int) -> dict[int, int]:
    """How often which status came."""
    until = time.monotonic() + SECONDS
    hammers = [Hammer(served, until, seed) for seed in range(clients) for served in servers]
    for hammer in hammers:
        hammer.start()
    total: dict[int, int] = {}
    for hammer in hammers:
        hammer.join()
        assert hammer.failure is None
        for status, count in hammer.statuses.items():
            total[status] = total.get(status, 0) + count
    return total


def most_in_a_window(moments: list[tuple[float, int]]) -> int:
    """The largest sum of any sixty seconds."""
    moments.sort()
    most = total = first = 0
    for at, tokens in moments:
        total += tokens
        while moments[first][0] <= at - WINDOW_SECONDS:
            total -= moments[first][1]
            first += 1
        most = max(most, total)
    return most


def assert_used_up_and_never_exceeded(records: list[UsageRecord]) -> None:
    made = [record for record in records if record.usage.total]
    assert all(record.usage.total <= record.reserved_tokens for record in made)
    assert most_in_a_window([(record.started_at, record.usage.total) for record in made]) <= LIMIT_TOKENS
    ends = [(record.started_at + record.duration_seconds, record.usage.total) for record in made]
    assert 0.95 * LIMIT_TOKENS <= most_in_a_window(ends) <= LIMIT_TOKENS


def answered(served: Served) -> int:
    """The status of a call that the store has decided. A store that is late refuses: on a slow machine, once more."""
    statuses = [503]
    eventually(lambda: statuses.append(served.chat("small").status) or statuses[-1] != 503, "the store answers in time")
    return statuses[-1]


def test_four_gateways_on_redis_share_one_limit(redis, tmp_path):
    config = configuration(redis_url="env:SHARED_REDIS", quota={"on_store_outage": "refuse"})
    with ExitStack() as stack:
        servers = [
            stack.enter_context(serve(config, tmp_path / f"gateway-{number}", SHARED_REDIS=redis.url))
            for number in range(4)
        ]
        statuses = hammered(servers, 2)
        assert set(statuses) <= {200, 429, 503}
        records = [record for served in servers for record in served.journal()]
        assert_used_up_and_never_exceeded(records)


@pytest.mark.parametrize("store", ["sqlite", "memory"])
def test_four_processes_of_one_server_share_one_limit(store, tmp_path):
    config = configuration(server={"workers": 4}, quota={"store": store, "on_store_outage": "refuse"})
    with serve(config, tmp_path / "data") as served:
        statuses = hammered([served], 8)
        assert set(statuses) <= {200, 429, 503}
        assert_used_up_and_never_exceeded(served.journal())


def test_a_file_remembers_the_last_minute_over_a_restart(tmp_path):
    config = configuration(quota={"store": "sqlite", "on_store_outage": "refuse"})
    config["deployments"]["Limited"]["limits"] = {"requests_per_minute": 3}
    for expected in ([200, 200], [200, 429]):
        with serve(config, tmp_path / "data") as served:
            assert [answered(served) for _ in expected] == expected
            served.terminate()
            assert served.ended() == 0


def few(**changes: Any) -> dict[str, Any]:
    config = configuration(redis_url="env:SHARED_REDIS", **changes)
    config["deployments"]["Limited"]["limits"] = {"requests_per_minute": 20, "tokens_per_minute": None}
    return config


def store_state(served: Served) -> str:
    stores = served.call("GET", "/health/ready").json["stores"]
    store = next(store for store in stores if store["name"].startswith("quota"))
    state: str = store["state"]
    return state


def test_a_gateway_goes_on_with_its_share_when_redis_is_killed_and_tells_it_afterwards(redis, tmp_path):
    with serve(few(), tmp_path / "data", SHARED_REDIS=redis.url) as served:
        assert [served.chat("small").status for _ in range(5)] == [200] * 5
        redis.kill()
        statuses = [served.chat("small").status for _ in range(30)]
        assert statuses == [200] * 15 + [429] * 15
        eventually(lambda: store_state(served) == "degraded", "the outage is noticed")
        assert served.call("GET", "/health/ready").status == 200
        assert served.metric("modelport_quota_store_degraded") == 1
        redis.start()
        eventually(lambda: store_state(served) == "ready", "Redis is found again")
        assert served.metric("modelport_quota_store_degraded") == 0
        # An empty Redis is told what the last minute has used. The other takes nothing that Redis does not grant.
        config = few(quota={"on_store_outage": "refuse"})
        with serve(config, tmp_path / "other", SHARED_REDIS=redis.url) as other:
            assert answered(other) == 429


def test_a_gateway_that_may_not_go_on_alone_refuses_until_redis_is_back(redis, tmp_path):
    config = few(quota={"on_store_outage": "refuse"})
    with serve(config, tmp_path / "data", SHARED_REDIS=redis.url) as served:
        eventually(lambda: served.chat("small").status == 200, "Redis answers in time")
        redis.kill()
        eventually(lambda: served.chat("small").status == 503, "what it holds is spent")
        refused = served.chat("small")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert served.call("GET", "/health/ready").status == 503
        redis.start()
        eventually(lambda: served.chat("small").status == 200, "Redis is found again")
        eventually(lambda: served.call("GET", "/health/ready").status == 200, "the server is ready again")


def test_a_redis_that_hangs_holds_nobody_up(redis, tmp_path):
    with serve(few(), tmp_path / "data", SHARED_REDIS=redis.url) as served:
        assert served.chat("small").status == 200
        redis.stop()
        try:
            statuses = [served.chat("small").status for _ in range(25)]
            assert statuses == [200] * 19 + [429] * 6
            eventually(lambda: store_state(served) == "degraded", "the outage is noticed")
        finally:
            redis.go_on()
        eventually(lambda: store_state(served) == "ready", "Redis answers again")


def test_a_redis_that_is_far_away_is_connected_before_the_server_is_ready(redis, tmp_path):
    config = few(quota={"on_store_outage": "refuse"}, budgets={"on_store_outage": "refuse"})
    config["deployments"]["Limited"]["budget"] = {"tokens": 100_000}
    with slow_to_connect(redis.port, 0.12) as distant:
        url = f"redis://127.0.0.1:{distant.port}/0"
        with serve(config, tmp_path / "data", SHARED_REDIS=url) as served:
            assert distant.connections >= 2, "one of the quota, one of the budgets"
            assert answered(served) == 200
            distant.break_all()
            eventually(lambda: distant.connections >= 4, "both are connected again")
            assert answered(served) == 200
            eventually(lambda: served.call("GET", "/health/ready").status == 200, "it is ready again")


@pytest.mark.parametrize("outage", ["gone", "silent"])
@pytest.mark.parametrize("otherwise", ["local_cap", "refuse"])
def test_each_limit_declares_what_an_outage_means_for_its_calls(redis, tmp_path, outage, otherwise):
    config = few(quota={"on_store_outage": otherwise})
    limited = config["deployments"]["Limited"]
    config["deployments"] = {
        name: {**limited, "default": name == "lenient", "limits": {**limited["limits"], "on_store_outage": mode}}
        for name, mode in (("lenient", "local_cap"), ("strict", "refuse"))
    }
    config["keys"] = {"careful": {"key1": "env:CAREFUL", "limits": {"requests_per_minute": 10}}}
    config["keys"]["careful"]["limits"]["on_store_outage"] = "refuse"
    with serve(config, tmp_path / "data", SHARED_REDIS=redis.url, CAREFUL="key-of-somebody-careful") as served:
        assert served.chat("small", model="lenient").status == 200
        eventually(lambda: served.chat("small", model="strict").status == 200, "Redis answers in time")
        redis.kill() if outage == "gone" else redis.stop()
        try:
            assert [served.chat("small", model="lenient").status for _ in range(21)] == [200] * 19 + [429] * 2
            eventually(lambda: served.chat("small", model="strict").status == 503, "what it holds is spent")
            state = next(
                store for store in served.call("GET", "/health/ready").json["stores"] if "quota" in store["name"]
            )
            assert state["state"] == "degraded"
            assert "those of deployments.strict, keys.careful refuse" in state["reason"]
            assert served.call("GET", "/health/ready").status == 200
        finally:
            redis.start() if outage == "gone" else redis.go_on()
        eventually(lambda: served.chat("small", model="strict").status == 200, "Redis is found again")


def test_a_key_s_own_limit_refuses_where_its_deployment_would_go_on(redis, tmp_path):
    config = few()
    config["keys"] = {"careful": {"key1": "env:CAREFUL", "limits": {"requests_per_minute": 10}}}
    config["keys"]["careful"]["limits"]["on_store_outage"] = "refuse"
    key = "key-of-somebody-careful"
    body = {"messages": [{"role": "user", "content": "small"}]}
    with serve(config, tmp_path / "data", SHARED_REDIS=redis.url, CAREFUL=key) as served:

        def status() -> int:
            return served.call("POST", "/models/chat/completions", body, key=key).status

        eventually(lambda: status() == 200, "Redis answers in time")
        redis.kill()
        eventually(lambda: status() == 503, "what the key holds is spent")
        assert served.chat("small").status == 200


def test_gateways_under_load_survive_a_killed_redis(redis, tmp_path):
    with ExitStack() as stack:
        servers = [
            stack.enter_context(serve(configuration(redis_url="env:SHARED_REDIS"), tmp_path / f"gateway-{number}",
                                      SHARED_REDIS=redis.url))
            for number in range(2)
        ]  # fmt: skip
        hammers = [Hammer(served, 0.0, seed) for seed in range(2) for served in servers]
        for hammer in hammers:
            hammer.start()
        eventually(lambda: all(hammer.statuses.get(200, 0) > 10 for hammer in hammers), "the load runs")
        redis.kill()
        eventually(lambda: all(store_state(served) == "degraded" for served in servers), "both have noticed")
        redis.start()
        eventually(lambda: all(store_state(served) == "ready" for served in servers), "both are back")
        for hammer in hammers:
            hammer.join()
        assert [hammer.failure for hammer in hammers] == [None] * len(hammers)
        assert {status for hammer in hammers for status in hammer.statuses} == {200, 429}


@pytest.mark.parametrize("where", ["deployment", "key"])
def test_workers_whose_redis_never_answers_allow_one_limit_together(where, tmp_path):
    limits = {"requests_per_minute": 9, "tokens_per_minute": None}
    config = configuration(redis_url="env:SHARED_REDIS", quota={"on_store_outage": "local_cap"})
    config["server"] = {"workers": 3}
    config["deployments"] = {"small": {"model": {"name": "small"}, "provider": {"type": "scripted"}, "default": True}}
    config["keys"] = {"team": {"key1": "env:TEAM_KEY"}}
    if where == "deployment":
        config["deployments"]["small"]["limits"] = limits
    else:
        config["keys"]["team"]["limits"] = limits
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        with serve(config, tmp_path / "data", SHARED_REDIS=url, TEAM_KEY="teams-key-4e1f") as served:
            body = {"messages": [{"role": "user", "content": "Hi"}]}
            statuses = [
                served.call("POST", "/models/chat/completions", body, key="teams-key-4e1f").status for _ in range(40)
            ]
    assert set(statuses) <= {200, 429}
    assert 3 <= statuses.count(200) <= 9
