"""Tokens per second of the embedded chat model: through the gateway, against its worker alone."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp

from bench import servers
from modelport.engine.supervisor import Supervisor, WorkerSpec
from modelport.engine.weights.places import worker_options

MODEL = "smollm2-135m-instruct"
TOKENS = 96
ROUNDS = 5
CROWD = 16
CROWD_GAP_SECONDS = 0.05
BODY = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Write a long story about a lighthouse and the people who kept it."}],
    "max_tokens": TOKENS,
    "temperature": 0,
    "stream": True,
    "ignore_eos": True,
}


async def generated(session: aiohttp.ClientSession, url: str, key: str) -> tuple[float, float]:
    """(tokens per second after the first, seconds to the first) of one streamed answer."""
    headers = {"authorization": f"Bearer {key}", "extra-parameters": "pass-through"}
    begun = time.perf_counter()
    first = last = 0.0
    count = 0
    async with session.post(url, data=json.dumps(BODY), headers=headers) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            if line.startswith(b"data: {") and b'"content":"' in line and b'"content":""' not in line:
                last = time.perf_counter()
                first = first or last
                count += 1
    return (count - 1) / (last - first), first - begun


async def both(port: int, weights: dict[str, Any]) -> dict[str, Any]:
    """Rounds in turn: the worker alone, then the gateway with a worker of its own."""
    spec = WorkerSpec(name="alone", backend="llama_cpp", options={**weights, "slots": 4, "context": 8192})
    alone: list[float] = []
    through: list[float] = []
    ratios: list[float] = []
    first_alone: list[float] = []
    first_through: list[float] = []
    async with Supervisor([spec]) as supervisor:
        address = await supervisor.workers["alone"].ready(120)
        connector = aiohttp.UnixConnector(str(address.socket_path))
        async with aiohttp.ClientSession(connector=connector) as direct, aiohttp.ClientSession() as gateway:
            for number in range(ROUNDS + 1):
                a, ta = await generated(direct, "http://engine/v1/chat/completions", address.secret)
                g, tg = await generated(gateway, f"http://127.0.0.1:{port}/models/chat/completions", servers.KEY)
                if number == 0:
                    continue  # warms both prompt caches
                alone.append(a)
                through.append(g)
                ratios.append(g / a)
                first_alone.append(ta)
                first_through.append(tg)
    return {
        "model": MODEL,
        "rounds": ROUNDS,
        "worker_tokens_per_second": statistics.median(alone),
        "gateway_tokens_per_second": statistics.median(through),
        "ratio": statistics.median(ratios),
        "worker_first_token_ms": statistics.median(first_alone) * 1000,
        "gateway_first_token_ms": statistics.median(first_through) * 1000,
    }


async def crowd(port: int) -> dict[str, Any]:
    """More streams than there are slots, a moment apart: who finishes, in which order they begin, how fair it is."""
    url = f"http://127.0.0.1:{port}/models/chat/completions"
    async with aiohttp.ClientSession() as session:

        async def one(number: int) -> tuple[float, float]:
            await asyncio.sleep(number * CROWD_GAP_SECONDS)
            speed, first = await generated(session, url, servers.KEY)
            return speed, number * CROWD_GAP_SECONDS + first

        found = await asyncio.gather(*(one(number) for number in range(CROWD)), return_exceptions=True)
    good = [result for result in found if not isinstance(result, BaseException)]
    firsts = [first for _, first in good]
    return {
        "streams": CROWD,
        "finished": len(good),
        "begun_out_of_order": sum(1 for earlier, later in pairwise(firsts) if later < earlier),
        "fastest_to_slowest": max(speed for speed, _ in good) / min(speed for speed, _ in good) if good else None,
    }


def run() -> dict[str, Any] | None:
    """None where the weights are not here."""
    data_dir = Path(os.environ.get("MODELPORT_TEST_DATA_DIR") or Path("~/.local/share/modelport").expanduser())
    weights = worker_options(MODEL, data_dir)
    if weights is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        port = servers.free_port()
        config = Path(folder) / "modelport.yaml"
        config.write_text(
            f"server: {{port: {port}, data_dir: {folder}/data, default_content_filter: Microsoft.Nill}}\n"
            f"deployments:\n  {MODEL}:\n    model: {{format: Custom, name: SmolLM2-bench}}\n"
            f"    provider: {{type: llama_cpp, weights: {weights['weights']}}}\n    default: true\n"
        )
        command = [sys.executable, "-m", "modelport", "serve", "--config", str(config)]
        with servers.serving(command, port, Path(folder)):
            return {**asyncio.run(both(port, weights)), "crowd": asyncio.run(crowd(port))}
