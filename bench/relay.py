"""Requests per second and processor time per request, against nginx in the same rounds."""

from __future__ import annotations

import json
import statistics
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machines, servers

ROUNDS = 5
SYSTEM = "You are a careful assistant. Answer briefly, in the language of the question, and say when you do not know."
QUESTION = "Wie viele Sprachen gibt es auf der Welt, und welche fünf werden am häufigsten gesprochen? " * 4


@dataclass(frozen=True)
class Scenario:
    """One kind of load."""

    name: str
    connections: int
    streamed: bool = False
    turns: int = 0


SCENARIOS = (
    Scenario("1 KB, whole, 16 connections", 16),
    Scenario("1 KB, whole, 64 connections", 64),
    Scenario("30 KB, whole, 64 connections", 64, turns=44),
    Scenario("streams of 100 events, 16 connections", 16, streamed=True),
)


def body(scenario: Scenario) -> bytes:
    """A request as clients send one: a system and a user message, a handful of parameters, some text beyond ASCII."""
    turns = []
    for number in range(scenario.turns):
        turns.append({"role": "assistant" if number % 2 else "user", "content": f"{number}. " + QUESTION[:600]})
    value: dict[str, Any] = {
        "model": "bench",
        "messages": [
            {"role": "system", "content": SYSTEM},
            *turns,
            {"role": "user", "content": QUESTION},
        ],
        "temperature": 0.7,
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


def load(port: int, path: str, body_file: Path, scenario: Scenario, seconds: float, warmup: float) -> dict[str, Any]:
    """One run of the load generator, on the second core."""
    command = [str(servers.compiled() / "lg"), "-p", str(port), "-u", path, "-b", str(body_file)]
    command += ["-H", f"Authorization: Bearer {servers.KEY}", "-c", str(scenario.connections)]
    command += ["-d", str(seconds), "-w", str(warmup), *(["-s"] if scenario.streamed else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        machines.pin(process.pid, 1)
        assert process.stdout is not None
        result: dict[str, Any] = json.loads(process.stdout.read())
    if result["errors"] or result["non2xx"]:
        raise SystemExit(f"bench: the run had errors: {result}")
    return result


def measured(
    process: subprocess.Popen[bytes], port: int, path: str, body_file: Path, scenario: Scenario
) -> dict[str, Any]:
    """One run with the processor time that the server took for it."""
    before = machines.cpu_seconds(process.pid)
    result = load(port, path, body_file, scenario, seconds=2, warmup=0.5)
    used = machines.cpu_seconds(process.pid) - before
    result["cpu_us"] = used / max(result["total"], 1) * 1e6
    result["cpu_us_per_chunk"] = result["cpu_us"] / 101 if scenario.streamed else None
    return result


def run() -> list[dict[str, Any]]:
    """Every scenario, rounds interleaved, ratios within the round, medians over the rounds."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            servers.mock() as (upstream, mock_port),
            servers.nginx(mock_port, folder / "nginx") as (floor, port, stream_port),
            servers.modelport(mock_port, folder / "modelport") as (ours, our_port),
        ):
            machines.pin(upstream.pid, 1)
            machines.pin(floor.pid, 0)
            machines.pin(ours.pid, 0)
            for scenario in SCENARIOS:
                body_file = folder / "body.json"
                body_file.write_bytes(body(scenario))
                floor_port = stream_port if scenario.streamed else port
                rounds = []
                for number in range(ROUNDS):
                    pair = [
                        (floor, floor_port, "/v1/chat/completions", "nginx"),
                        (ours, our_port, "/v1/chat/completions", "modelport"),
                    ]
                    results = {}
                    for process, at, path, who in pair if number % 2 == 0 else reversed(pair):
                        results[who] = measured(process, at, path, body_file, scenario)
                    rounds.append(results)
                rows.append(row(scenario, rounds, machines.resident_megabytes(ours.pid)))
    return rows


def row(scenario: Scenario, rounds: list[dict[str, Any]], megabytes: float) -> dict[str, Any]:
    """Medians over the rounds."""

    def median(who: str, what: str) -> float:
        return statistics.median(r[who][what] for r in rounds)

    return {
        "scenario": scenario.name,
        "rounds": len(rounds),
        "nginx_rps": median("nginx", "rps"),
        "modelport_rps": median("modelport", "rps"),
        "rps_ratio": statistics.median(r["modelport"]["rps"] / r["nginx"]["rps"] for r in rounds),
        "nginx_cpu_us": median("nginx", "cpu_us"),
        "modelport_cpu_us": median("modelport", "cpu_us"),
        "cpu_ratio": statistics.median(r["modelport"]["cpu_us"] / r["nginx"]["cpu_us"] for r in rounds),
        "modelport_p50_us": median("modelport", "p50_us"),
        "modelport_p99_us": median("modelport", "p99_us"),
        "modelport_pss_mb": megabytes,
    }
