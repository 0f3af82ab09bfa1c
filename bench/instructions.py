"""Instructions per request, in user space: (I(2n) - I(n)) / n, whatever else runs on the machine.

python -m bench.instructions [--stream] [--requests 10000] [--without journal,ledger,metrics,quota]

The processor's counters where there are any (`perf stat`), else callgrind, fifty times slower: name fewer requests.
What the ledger's process spends on a record is counted apart (`python -m bench.shipping --instructions`) and added.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from msgspec import Struct

from bench import counters, servers, shipping

TEXT = "Wie viele Sprachen gibt es auf der Welt, und welche fünf werden am häufigsten gesprochen? " * 4
CONNECTIONS = 16
WARMING_REQUESTS = 300
PERF_REQUESTS, CALLGRIND_REQUESTS = 10_000, 1_500
CONFIG = """
server: {{port: {port}, data_dir: {folder}/data, default_content_filter: Microsoft.Nill}}
telemetry: {{log_level: warning}}
providers: {{mock: {{type: openai_compatible, base_url: "http://127.0.0.1:{mock}/v1"}}}}
deployments:
  bench:
    model: {{format: Custom, name: bench}}
    provider: mock
    limits: {limits}
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


class Price(Struct, frozen=True):
    """User instructions of one request."""

    loop: int
    """Of the thread that serves."""
    server: int
    """Of all threads of its process."""
    ledger: int
    """Of the process that ships the record."""

    @property
    def whole(self) -> int:
        """All of it."""
        return self.server + self.ledger


def price(python: Path, requests: int, *, stream: bool = False, without: str = "") -> Price:
    """Two runs of different length, so what is not of a request does not count."""
    with tempfile.TemporaryDirectory(prefix="modelport-instructions-") as name:
        short, long = (
            counted(Path(name) / str(n), n * requests, stream=stream, without=without, python=python) for n in (1, 2)
        )
    loop, server = ((long[i] - short[i]) // requests for i in (0, 1))
    ships = not {"journal", "ledger"} & set(without.split(","))
    return Price(loop, server, shipping.instructions(python) if ships else 0)


def counted(folder: Path, requests: int, *, stream: bool, without: str, python: Path) -> tuple[int, int]:
    """Instructions of one run from its first request to its last: of the loop's thread, and of all threads."""
    folder.mkdir()
    port = servers.free_port()
    parts = [part for part in without.split(",") if part and part != "quota"]
    limits = servers.UNLIMITED if "quota" in without else servers.GENEROUS
    with servers.running([str(servers.compiled() / "mock"), "-p", "0"], stdout=subprocess.PIPE) as mock:
        assert mock.stdout is not None
        config = folder / "modelport.yaml"
        config.write_text(CONFIG.format(port=port, folder=folder, mock=int(mock.stdout.readline()), limits=limits))
        start = ["-m", "bench.switches", ",".join(["ledger", *parts]), "--", "serve", "--config", str(config)]
        environment = {"PYTHONDONTWRITEBYTECODE": "1"}
        command = counters.serving([str(python), *start], folder)
        with servers.serving(command, port, folder, environment=environment) as process:
            load(port, folder, WARMING_REQUESTS, stream)
            with counters.between(process.pid, folder) as found:
                load(port, folder, requests, stream)
            process.kill()
    return found.loop, found.whole


def load(port: int, folder: Path, requests: int, stream: bool) -> None:
    """So many requests, and not one of them lost."""
    (folder / "body").write_bytes(body(stream))
    command = [str(servers.compiled() / "lg"), "-p", str(port), "-u", "/v1/chat/completions"]
    command += ["-b", str(folder / "body"), "-H", f"Authorization: Bearer {servers.KEY}"]
    command += ["-c", str(CONNECTIONS), "-d", "3600", "-w", "0", "-n", str(requests), *(["-s"] if stream else [])]
    result = json.loads(subprocess.check_output(command))
    if result["errors"] or result["statuses"].get("200", 0) < requests:
        raise SystemExit(f"bench: the run had errors: {result}")


def main() -> None:
    """Prints one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m bench.instructions", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--requests", type=int, default=default_requests(), help="fewer are faster and less exact")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--without", default="", help="parts to leave out: journal, ledger, metrics, quota")
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    wanted = parser.parse_args()
    found = price(wanted.python, wanted.requests, stream=wanted.stream, without=wanted.without)
    facts = {"scenario": "stream" if wanted.stream else "whole", "without": wanted.without}
    figures = {"loop": found.loop, "server": found.server, "ledger": found.ledger, "whole": found.whole}
    print(json.dumps({**facts, "counted_by": counters.mechanism(), "requests": wanted.requests, **figures}))


def default_requests() -> int:
    """As many as are counted within minutes."""
    return PERF_REQUESTS if counters.mechanism() == "perf" else CALLGRIND_REQUESTS


if __name__ == "__main__":
    main()
