"""One budget of money and one of tokens, and several gateway processes, against real stores: never exceeded, used up to
the end, told of once, and what happens when the store or a gateway dies."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from modelport.core.usage import UsageRecord
from redis_server import RedisServer
from served import Served, eventually, serve

AMOUNT = Decimal("12")
TOKENS = 30_000
SIZES = {"small": (20, 12), "middle": (80, 60), "large": (200, 200)}
"""A call's `max_tokens` and what it then uses. What is held bounds it: a prompt's estimate is above ten tokens."""
IN_A_ROW = 8


def configuration(directory: Path, **changes: Any) -> dict[str, Any]:
    (directory / "prices.yaml").write_text("prices: [{deployment: money, input: '100', output: '1000'}]")
    replies = [
        {"match": {"contains": name}, "text": "x", "usage": {"prompt_tokens": 10, "completion_tokens": used - 10}}
        for name, (_, used) in SIZES.items()
    ]
    deployment = {
        "model": {"format": "Custom", "name": "limited", "version": "1"},
        "provider": {"type": "scripted", "replies": replies},
        "limits": {"tokens_per_minute": None, "requests_per_minute": None},
    }
    return {
        "deployments": {
            "money": {**deployment, "default": True, "budget": {"amount": str(AMOUNT)}},
            "tokens": {**deployment, "budget": {"tokens": TOKENS}},
            "free": deployment,
        },
        "prices": {"file": str(directory / "prices.yaml")},
        **changes,
    }


class Hammer(threading.Thread):
    """A client that calls as fast as it is answered, until both budgets have refused what is small often enough."""

    def __init__(self, served: Served, seed: int) -> None:
        super().__init__(daemon=True)
        self.served = served
        self.random = random.Random(seed)
        self.refusals = {"money": 0, "tokens": 0}
        self.statuses: dict[int, int] = {}
        self.failure: Exception | None = None
        self.is_stopped = False

    def run(self) -> None:
        try:
            while not self.is_stopped and min(self.refusals.values()) < IN_A_ROW:
                self.once()
        except Exception as failure:
            if not self.is_stopped:
                self.failure = failure

    def once(self) -> None:
        deployment = min(self.refusals, key=lambda name: (self.refusals[name], self.random.random()))
        size = self.random.choice(list(SIZES)) if not self.refusals[deployment] else "small"
        body = {"model": deployment, "messages": [{"role": "user", "content": size}], "max_tokens": SIZES[size][0]}
        status = self.served.call("POST", "/v1/chat/completions", body).status
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == 429:
            self.refusals[deployment] += 1
        elif status == 503:
            time.sleep(0.1)


def hammering(servers: Sequence[Served], clients: int) -> list[Hammer]:
    hammers = [Hammer(served, seed) for seed in range(clients) for served in servers]
    for hammer in hammers:
        hammer.start()
    return hammers


def hammered(hammers: Sequence[Hammer]) -> set[int]:
    """Which statuses came."""
    for hammer in hammers:
        hammer.join()
        assert hammer.failure is None
    return {status for hammer in hammers for status in hammer.statuses}


def used(records: Sequence[UsageRecord]) -> tuple[Decimal, int]:
    """Of the budget of money and of that of tokens."""
    assert all(record.usage.total <= record.reserved_tokens for record in records if record.usage.total)
    amount = sum((Decimal(record.cost or 0) for record in records if record.deployment == "money"), Decimal(0))
    return amount, sum(record.usage.total for record in records if record.deployment == "tokens")


def assert_used_up_and_never_exceeded(records: Sequence[UsageRecord]) -> None:
    amount, tokens = used(records)
    assert Decimal("0.95") * AMOUNT <= amount <= AMOUNT
    assert 0.95 * TOKENS <= tokens <= TOKENS


def told(servers: Sequence[Served]) -> list[str]:
    """Which thresholds the logs tell of."""
    lines = [line for served in servers for line in served.stderr().splitlines() if "has reached" in line]
    return sorted(part for line in lines for part in [line.split("deployment:")[1].split(" of its")[0]])


ONCE_EACH = sorted(f"{name} has reached {percent}%" for name in ("money", "tokens") for percent in (50, 80))
"""All of a budget can seldom be used to the last digit."""


def state(served: Served) -> str:
    stores = served.call("GET", "/health/ready").json["stores"]
    found: str = next(store["state"] for store in stores if store["name"].startswith("budgets"))
    return found


def test_four_gateways_on_redis_share_their_budgets(redis: RedisServer, tmp_path: Path) -> None:
    config = configuration(tmp_path, redis_url="env:SHARED_REDIS")
    with ExitStack() as stack:
        servers = [
            stack.enter_context(serve(config, tmp_path / f"gateway-{number}", SHARED_REDIS=redis.url))
            for number in range(4)
        ]
        assert hammered(hammering(servers, 1)) <= {200, 429, 503}
        assert_used_up_and_never_exceeded([record for served in servers for record in served.journal()])
        assert [line for line in told(servers) if "100%" not in line] == ONCE_EACH


@pytest.mark.parametrize("store", ["sqlite", "memory"])
def test_two_processes_of_one_server_share_their_budgets(store: str, tmp_path: Path) -> None:
    config = configuration(tmp_path, server={"workers": 2}, quota={"store": store})
    with serve(config, tmp_path / "data") as served:
        assert hammered(hammering([served], 4)) <= {200, 429, 503}
        assert_used_up_and_never_exceeded(served.journal())
        assert [line for line in told([served]) if "100%" not in line] == ONCE_EACH
        served.terminate()
        assert served.ended() == 0
    with serve(config, tmp_path / "data") as served:
        assert decided(served, "money", 50) == 429
        assert decided(served, "tokens", 50) == 429
        assert decided(served, "free", 1) == 200
        assert len([line for line in told([served]) if "100%" not in line]) == 4  # of the first life


def small(served: Served, deployment: str, times: int) -> int:
    """The last status of so many small calls."""
    status = 0
    for _ in range(times):
        body = {"model": deployment, "messages": [{"role": "user", "content": "small"}], "max_tokens": 20}
        status = served.call("POST", "/v1/chat/completions", body).status
    return status


def decided(served: Served, deployment: str, times: int) -> int:
    """The same; where the store is late, as it may be on a slow machine, the call is made again."""
    statuses: list[int] = []
    for _ in range(times):
        eventually(lambda: statuses.append(small(served, deployment, 1)) or statuses[-1] != 503, "the store is in time")
    return statuses[-1]


def test_two_gateways_on_one_file_share_their_budgets(tmp_path: Path) -> None:
    config = configuration(tmp_path, quota={"store": "sqlite"})
    with ExitStack() as stack:
        servers = [stack.enter_context(serve(config, tmp_path / "data")) for _ in range(2)]
        assert hammered(hammering(servers, 2)) <= {200, 429, 503}
        assert_used_up_and_never_exceeded(servers[0].journal())


def test_a_killed_redis_is_begun_anew_with_what_the_ledgers_know(redis: RedisServer, tmp_path: Path) -> None:
    config = configuration(tmp_path, redis_url="env:SHARED_REDIS")
    with ExitStack() as stack:
        servers = [
            stack.enter_context(serve(config, tmp_path / f"gateway-{number}", SHARED_REDIS=redis.url))
            for number in range(2)
        ]
        hammers = hammering(servers, 2)
        eventually(lambda: all(hammer.statuses.get(200, 0) > 10 for hammer in hammers), "the load runs")
        redis.kill()
        eventually(lambda: all(state(served) == "degraded" for served in servers), "both have noticed")
        eventually(lambda: all(hammer.statuses.get(503, 0) for hammer in hammers), "what they held is spent")
        assert decided(servers[0], "free", 1) == 200
        assert all(served.call("GET", "/health/ready").status == 200 for served in servers)
        redis.start()
        eventually(lambda: all(state(served) == "ready" for served in servers), "both are back")
        assert hammered(hammers) == {200, 429, 503}
        assert_used_up_and_never_exceeded([record for served in servers for record in served.journal()])


def test_a_budget_may_go_on_without_redis(redis: RedisServer, tmp_path: Path) -> None:
    config = configuration(tmp_path, redis_url="env:SHARED_REDIS")
    config["deployments"]["tokens"]["budget"]["on_store_outage"] = "allow"
    with serve(config, tmp_path / "data", SHARED_REDIS=redis.url) as served:
        assert decided(served, "tokens", 1) == 200
        redis.kill()
        eventually(lambda: small(served, "money", 1) == 503, "what is held of the money is spent")
        assert small(served, "tokens", 40) == 200
        redis.start()
        eventually(lambda: small(served, "money", 1) == 200, "Redis is found again")


def test_a_killed_gateway_leaves_no_budget_exceeded(redis: RedisServer, tmp_path: Path) -> None:
    config = configuration(tmp_path, redis_url="env:SHARED_REDIS")
    with ExitStack() as stack:
        victim, survivor = (
            stack.enter_context(serve(config, tmp_path / f"gateway-{number}", SHARED_REDIS=redis.url))
            for number in range(2)
        )
        hammers = hammering([victim, survivor], 2)
        eventually(lambda: all(hammer.statuses.get(200, 0) > 10 for hammer in hammers), "the load runs")
        for hammer in hammers:
            hammer.is_stopped = hammer.served is victim
        victim.process.kill()
        hammered(hammers)
        with serve(config, tmp_path / "gateway-0", SHARED_REDIS=redis.url) as again:
            records = [*again.journal(), *survivor.journal()]
        amount, tokens = used(records)
        # What it took along: a sixteenth at most, and what its calls held.
        assert Decimal("0.88") * AMOUNT <= amount <= AMOUNT
        assert 0.88 * TOKENS <= tokens <= TOKENS


def test_a_killed_server_knows_at_its_next_start_what_was_used(tmp_path: Path) -> None:
    config = configuration(tmp_path, server={"workers": 2})
    with serve(config, tmp_path / "data") as served:
        hammers = hammering([served], 3)
        eventually(lambda: all(hammer.statuses.get(200, 0) > 10 for hammer in hammers), "the load runs")
        for hammer in hammers:
            hammer.is_stopped = True
        for hammer in hammers:
            hammer.join()
        served.process.kill()
        served.ended()
    with serve(config, tmp_path / "data") as served:
        assert hammered(hammering([served], 3)) <= {200, 429, 503}
        assert_used_up_and_never_exceeded(served.journal())
