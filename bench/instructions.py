"""Instructions per request, in user space: (I(2n) - I(n)) / n under callgrind. Deterministic, whatever else runs; slow.

python -m bench.instructions [--stream] [--requests 10000] [--lane 0]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench import servers

TEXT = "Wie viele Sprachen gibt es auf der Welt, und welche fünf werden am häufigsten gesprochen? " * 4
CONFIG = """
server: {{port: {port}, data_dir: {folder}/data}}
telemetry: {{log_level: warning}}
providers: {{mock: {{type: openai_compatible, base_url: "http://127.0.0.1:{mock}/v1"}}}}
deployments:
  bench:
    model: {{format: Custom, name: bench}}
    provider: mock
    limits: {{tokens_per_minute: 1000000000000, requests_per_minute: 1000000000}}
    default: true
"""


def body(stream: bool) -> bytes:
    """A kilobyte, as clients send it."""
    value: dict[str, Any] = {
        "model": "bench",
        "messages": [{"role": "system", "content": "Answer briefly."}, {"role": "user", "content": TEXT}],
        "temperature": 0.7,
        "top_p": 0.95,
        "max_tokens": 256,
        "stop": ["<|endoftext|>"],
        "seed": 42,
    }
    return json.dumps({**value, "stream": True} if stream else value, ensure_ascii=False).encode()


def counted(folder: Path, requests: int, stream: bool, lane: str, python: str) -> tuple[int, int]:
    """Instructions of one run from its first request to its last: of the loop's thread, and of all threads."""
    folder.mkdir()
    port = servers.free_port()
    with servers.running([servers.compiled() / "mock", "-p", "0"], stdout=subprocess.PIPE) as mock:
        assert mock.stdout is not None
        config = folder / "modelport.yaml"
        config.write_text(CONFIG.format(port=port, folder=folder, mock=int(mock.stdout.readline())))
        command = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes"]
        command += [f"--callgrind-out-file={folder}/out", python, "-m", "modelport", "serve", "--config", str(config)]
        environment = {"MODELPORT_API_KEY": servers.KEY, "MODELPORT_LANE": lane}
        with servers.running(command, environment=environment, folder=servers.ROOT, log=folder / "log") as process:
            servers.await_port(port, "/health/ready", process)
            load(port, folder, 200, stream)
            control(process.pid, "-i", "on")
            load(port, folder, requests, stream)
            control(process.pid, "-i", "off")
            control(process.pid, "-d")
            time.sleep(1)
            process.send_signal(signal.SIGKILL)
    found = {path: re.search(r"^totals: (\d+)", path.read_text(errors="replace"), re.M) for path in folder.glob("out*")}
    totals = {path: int(match[1]) for path, match in found.items() if match is not None and int(match[1])}
    return totals[min(totals)], sum(totals.values())


def load(port: int, folder: Path, requests: int, stream: bool) -> None:
    """So many requests, and not one of them lost."""
    (folder / "body").write_bytes(body(stream))
    command = [
        str(servers.compiled() / "lg"),
        "-p",
        str(port),
        "-u",
        "/v1/chat/completions",
        "-b",
        str(folder / "body"),
    ]
    command += ["-H", f"Authorization: Bearer {servers.KEY}", "-c", "16", "-d", "3600", "-w", "0", "-n", str(requests)]
    result = json.loads(subprocess.check_output([*command, *(["-s"] if stream else [])]))
    if result["errors"] or result["statuses"].get("200", 0) < requests:
        raise SystemExit(f"bench: the run had errors: {result}")


def control(pid: int, *arguments: str) -> None:
    """Tells callgrind."""
    subprocess.run(["callgrind_control", *arguments, str(pid)], check=True, capture_output=True)


def main() -> None:
    """Prints one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--lane", default="1")
    parser.add_argument("--python", default=sys.executable)
    options = parser.parse_args()
    if shutil.which("valgrind") is None:
        raise SystemExit("bench: valgrind is missing; on Debian: apt-get install valgrind")
    with tempfile.TemporaryDirectory() as name:
        runs = [
            counted(Path(name) / str(n), n * options.requests, options.stream, options.lane, options.python)
            for n in (1, 2)
        ]
    loop, whole = ((runs[1][i] - runs[0][i]) // options.requests for i in (0, 1))
    scenario = "stream" if options.stream else "whole"
    print(json.dumps({"scenario": scenario, "lane": options.lane, "loop_instructions": loop, "instructions": whole}))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    main()
