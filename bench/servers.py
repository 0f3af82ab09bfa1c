"""What a run starts: the mock upstream, nginx, modelport in front of the mock. All of it ends with its block."""

from __future__ import annotations

import http.client
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench import machines

HERE = Path(__file__).parent
ROOT = HERE.parent
KEY = "bench-" + secrets.token_hex(13)
START_SECONDS = 120

NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 8192; }}
worker_rlimit_nofile 20000;
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  client_body_buffer_size 128k;
  keepalive_requests 1000000000;
{servers}
}}
"""
PROXY = """
  upstream {name} {{ server 127.0.0.1:{to}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} {listen};
    {options}
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_read_timeout 4000s;
    location / {{ proxy_pass {scheme}://{name}; }}
    location /401 {{ return 401 '{{"error":{{"code":"401","message":"Refused."}}}}'; }}
    location /404 {{ return 404 '{{"error":{{"code":"404","message":"Refused."}}}}'; }}
    location /422 {{ return 422 '{{"error":{{"code":"422","message":"Refused."}}}}'; }}
    location /429 {{ return 429 '{{"error":{{"code":"429","message":"Refused."}}}}'; }}
  }}
"""

MODELPORT = """
server: {{port: {port}, data_dir: {folder}/data, default_content_filter: Microsoft.Nill}}
telemetry: {{log_level: {log_level}}}
providers:
  mock: {{type: openai_compatible, base_url: "http://127.0.0.1:{mock}/v1"}}
  behind-tls: {{type: openai_compatible, base_url: "https://127.0.0.1:{tls}/v1", ca_file: {certificate}}}
deployments:
  bench:
    model: {{format: Custom, name: bench}}
    provider: mock
    limits: {limits}
    timeouts: {{first_event: 60, between_events: 600, whole: 3600}}
    default: true
  bench-tls:
    model: {{format: Custom, name: bench}}
    provider: behind-tls
    limits: {limits}
  bench-full:
    model: {{format: Custom, name: bench}}
    provider: mock
    limits: {{tokens_per_minute: 1000000, requests_per_minute: 1}}
"""
UNLIMITED = "{tokens_per_minute: null, requests_per_minute: null}"
GENEROUS = "{tokens_per_minute: 1000000000000, requests_per_minute: 1000000000}"


class DidNotStart(Exception):
    """A server that is to be measured is not there; says why."""


@dataclass(frozen=True)
class Running:
    """A server under the load: where it is, and which processes are its own."""

    process: subprocess.Popen[bytes]
    port: int


@dataclass(frozen=True)
class Upstream:
    """The mock, in the clear and behind TLS."""

    port: int
    tls_port: int
    certificate: Path
    processes: tuple[subprocess.Popen[bytes], ...]


def compiled() -> Path:
    """The folder with `mock` and `lg`, built by this machine's compiler when their sources are newer."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("bench: a C compiler is missing; on Debian: apt-get install gcc libc6-dev")
    folder = HERE / "bin"
    folder.mkdir(exist_ok=True)
    for name in ("mock", "lg"):
        source, target = HERE / "c" / f"{name}.c", folder / name
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            made = folder / f"{name}.{os.getpid()}"  # others may build it, or run it, at the same time
            subprocess.run([compiler, "-O2", "-Wall", "-o", str(made), str(source), "-lm"], check=True)
            made.replace(target)
    return folder


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    command: Sequence[str],
    core: int | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    log: Path | None = None,
    stdout: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process, on a core, that ends with the block: told first, after ten seconds killed, with all it started."""
    machines.end_with_children()
    with ExitStack() as stack:
        out = stack.enter_context(log.open("wb")) if log is not None else subprocess.DEVNULL
        if core is not None:
            stack.enter_context(machines.on_core(core))
        process = subprocess.Popen(
            command,
            stdout=stdout or out,
            stderr=out,
            env={**os.environ, **(environment or {})},
            cwd=folder,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def await_port(port: int, path: str | None = None, process: subprocess.Popen[bytes] | None = None) -> None:
    """Until something listens there, and, with a path, answers 200."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise DidNotStart(f"it ended with status {process.returncode}")
        try:
            if path is None:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.1)
    raise DidNotStart(f"nothing answers on its port after {START_SECONDS} s")


@contextmanager
def upstream(folder: Path, core: int) -> Iterator[Upstream]:
    """The mock on the load's core, and nginx before it for those who want TLS."""
    command = [str(compiled() / "mock"), "-p", "0"]
    with running(command, core, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        certificate, key = self_signed(folder)
        tls_port = free_port()
        options = f"ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_session_cache shared:s:1m; "
        front = PROXY.format(
            name="mock", to=port, port=tls_port, listen="ssl", scheme="http", options=options + "proxy_buffering off;"
        )
        with nginx_with(front, folder / "tls-front", core) as tls:
            await_port(tls_port, process=tls)
            yield Upstream(port, tls_port, certificate, (process, tls))


def self_signed(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody else trusts, and its key."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def nginx_program() -> str:
    """Where nginx is."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(program).exists():
        raise SystemExit("bench: nginx is missing; on Debian: apt-get install nginx-light")
    return program


@contextmanager
def nginx_with(servers: str, folder: Path, core: int) -> Iterator[subprocess.Popen[bytes]]:
    """One worker with these `server` blocks."""
    program = nginx_program()
    folder.mkdir(parents=True, exist_ok=True)
    text = NGINX.format(folder=folder, servers=servers)
    if os.geteuid() == 0:
        text = "user root;" + text
    (folder / "nginx.conf").write_text(text)
    command = [program, "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    with running(command, core, log=folder / "nginx.log") as process:
        yield process


@contextmanager
def nginx(above: Upstream, folder: Path, core: int) -> Iterator[tuple[Running, int, int]]:
    """The floor, a plain proxy: itself, the port that does not buffer, and the port whose upstream speaks TLS."""
    ports = free_port(), free_port(), free_port()
    tls = f"proxy_ssl_trusted_certificate {above.certificate}; proxy_ssl_verify on; proxy_ssl_name 127.0.0.1;"
    blocks = PROXY.format(name="mock", to=above.port, port=ports[0], listen="", scheme="http", options="")
    blocks += PROXY.format(
        name="stream", to=above.port, port=ports[1], listen="", scheme="http", options="proxy_buffering off;"
    )
    blocks += PROXY.format(name="tls", to=above.tls_port, port=ports[2], listen="", scheme="https", options=tls)
    with nginx_with(blocks, folder, core) as process:
        await_port(ports[0], process=process)
        yield Running(process, ports[0]), ports[1], ports[2]


@contextmanager
def modelport(
    above: Upstream,
    folder: Path,
    core: int,
    python: Path,
    limits: str = GENEROUS,
    log_level: str = "warning",
    without: str = "",
) -> Iterator[Running]:
    """modelport before the mock, with key, quota, journal and metrics. `without` names parts to leave out."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "modelport.yaml"
    config.write_text(
        MODELPORT.format(
            port=port,
            folder=folder,
            mock=above.port,
            tls=above.tls_port,
            certificate=above.certificate,
            limits=limits,
            log_level=log_level,
        )
    )
    start = ["-m", "bench.switches", without, "--"] if without else ["-m", "modelport"]
    command = [str(python), *start, "serve", "--config", str(config)]
    with serving(command, port, folder, core) as process:
        yield Running(process, port)


@contextmanager
def serving(
    command: Sequence[str],
    port: int,
    folder: Path,
    core: int | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A modelport, once it is ready."""
    given = {"MODELPORT_API_KEY": KEY, **(environment or {})}
    with running(command, core, given, folder=ROOT, log=folder / "server.log") as process:
        try:
            await_port(port, path="/health/ready", process=process)
        except DidNotStart as reason:
            said = (folder / "server.log").read_text(errors="replace").strip().splitlines()
            raise DidNotStart(f"{reason}: {said[-1] if said else 'it said nothing'}") from None
        yield process
