"""Kinds of load, and the requests they are made of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

SYSTEM = "You are a careful assistant. Answer briefly, in the language of the question, and say when you do not know."
QUESTION = "Wie viele Sprachen gibt es auf der Welt, und welche fünf werden am häufigsten gesprochen? " * 8
LARGE_TURNS = 44
EVENTS = 101
"""Of a stream of the mock: a hundred pieces, and the end."""


@dataclass(frozen=True)
class Scenario:
    """One kind of load. `door` names the way in; who has no such door is left out."""

    name: str
    group: str
    connections: int
    door: str = "whole"
    turns: int = 0
    streamed: bool = False
    habit: str = ""
    """What the mock is asked to do: it reads the request."""
    rate: float = 0
    """Requests a second, whatever the answers take; 0: as fast as answers come."""
    churn: bool = False
    spread_seconds: float = 0
    warmup_seconds: float = 0.3
    least_seconds: float = 0
    """Shorter runs would not hold a whole stream."""
    status: int = 200
    with_direct: bool = False
    """The mock is measured without a gateway, too: what is added to it counts."""

    def body(self, model: str) -> bytes:
        """A request of this load."""
        return body(self, model)


def whole(connections: int, turns: int = 0) -> Scenario:
    """Whole answers, as fast as they come."""
    size = "30 KB" if turns else "1 KB"
    plural = "" if connections == 1 else "s"
    return Scenario(f"{size}, {connections} connection{plural}", "requests", connections, turns=turns)


def refusal(status: int, what: str) -> Scenario:
    """Requests that are refused."""
    return Scenario(f"{status} {what}, 64 connections", "refusals", 64, door=str(status), status=status)


LATENCY = Scenario("1 KB at 500/s", "latency", 64, rate=500, least_seconds=1.2, with_direct=True)
PACED = Scenario(
    "50 streams, an event each 10 ms",
    "streams",
    50,
    door="stream",
    streamed=True,
    habit="mock:every=10000",
    spread_seconds=1,
    warmup_seconds=1.2,
    least_seconds=1.0,
    with_direct=True,
)
FLOOD = Scenario(
    "64 streams without pauses", "streams", 64, door="stream", streamed=True, least_seconds=1, with_direct=True
)
TLS = Scenario("1 KB, 64 connections, TLS to the upstream", "tls", 64, door="tls")
CHURN = Scenario("1 KB, a new connection each, 16 at once", "churn", 16, churn=True)
IDLE = Scenario("silent streams", "memory", 1000, door="stream", streamed=True, habit="mock:hold", spread_seconds=1)
FEATURES = Scenario("1 KB, 64 connections, features", "features", 64)
REFUSALS = (
    refusal(401, "wrong key"),
    refusal(404, "unknown deployment"),
    refusal(422, "invalid parameter"),
    refusal(429, "quota used up"),
)

SHORT = (whole(16), whole(64), whole(256), whole(64, LARGE_TURNS), LATENCY, PACED)
"""Two minutes with three contenders and five rounds."""
FULL = (
    whole(1),
    whole(16),
    whole(64),
    whole(256),
    *(whole(connections, LARGE_TURNS) for connections in (1, 16, 64, 256)),
    LATENCY,
    PACED,
    FLOOD,
    TLS,
    CHURN,
    *REFUSALS,
)


def body(scenario: Scenario, model: str) -> bytes:
    """A request as clients send one: a system and a user message, a handful of parameters, some text beyond ASCII."""
    turns = [
        {"role": "assistant" if number % 2 else "user", "content": f"{number}. " + QUESTION[:620]}
        for number in range(scenario.turns)
    ]
    value: dict[str, Any] = {
        "model": model,
        "messages": [
            {"role": "system", "content": SYSTEM},
            *turns,
            {"role": "user", "content": f"{QUESTION}{scenario.habit}"},
        ],
        "temperature": 0.7 if scenario.status != 422 else "hot",
        "top_p": 0.95,
        "max_tokens": 256,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "stop": ["<|endoftext|>"],
        "seed": 42,
    }
    if scenario.streamed:
        value["stream"] = True
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
