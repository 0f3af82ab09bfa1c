"""What is measured: a mock upstream, nginx as the floor, modelport in front of the same mock."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
KEY = "bench-" + secrets.token_hex(13)

NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  client_body_buffer_size 128k;
  keepalive_requests 1000000000;
  upstream mock {{ server 127.0.0.1:{mock}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
  server {{
    listen 127.0.0.1:{stream_port};
    proxy_buffering off;
    location / {{ proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  }}
}}
"""

MODELPORT = """
server: {{port: {port}, data_dir: {folder}/data}}
telemetry: {{log_level: warning}}
providers:
  mock: {{type: openai_compatible, base_url: "http://127.0.0.1:{mock}/v1"}}
deployments:
  bench:
    model: {{format: Custom, name: bench, version: "1"}}
    provider: mock
    limits: {limits}
    default: true
"""
UNLIMITED = "{tokens_per_minute: null, requests_per_minute: null}"
GENEROUS = "{tokens_per_minute: 1000000000000, requests_per_minute: 1000000000}"


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
            subprocess.run([compiler, "-O2", "-Wall", "-o", str(target), str(source), "-lm"], check=True)
    return folder


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    process = subprocess.Popen(command, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def mock(*options: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The mock upstream and its port."""
    with running([str(compiled() / "mock"), "-p", "0", *options], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())


@contextmanager
def nginx(mock_port: int, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """nginx as a plain proxy: the process, its port, and the port that does not buffer."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    if not Path(program).exists():
        raise SystemExit("bench: nginx is missing; on Debian: apt-get install nginx-light")
    folder.mkdir(parents=True, exist_ok=True)
    port, stream_port = free_port(), free_port()
    text = NGINX.format(folder=folder, mock=mock_port, port=port, stream_port=stream_port)
    if os.geteuid() == 0:
        text = "user root;" + text
    (folder / "nginx.conf").write_text(text)
    with running([program, "-c", str(folder / "nginx.conf"), "-p", str(folder)], stderr=subprocess.DEVNULL) as process:
        await_port(port)
        yield process, port, stream_port


@contextmanager
def modelport(mock_port: int, folder: Path, limits: str = GENEROUS) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """modelport in front of the mock, features on: key, quota, journal, metrics."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "modelport.yaml"
    config.write_text(MODELPORT.format(port=port, folder=folder, mock=mock_port, limits=limits))
    with serving(["--config", str(config)], port) as process:
        yield process, port


@contextmanager
def serving(arguments: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`modelport serve`, once it is ready."""
    command = [sys.executable, "-m", "modelport", "serve", *arguments]
    environment = {**os.environ, "MODELPORT_API_KEY": KEY}
    with running(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        await_port(port, path="/health/ready", process=process)
        yield process


def await_port(port: int, path: str | None = None, process: subprocess.Popen[bytes] | None = None) -> None:
    """Until something listens there, and, with a path, answers 200."""
    for _ in range(600):
        if process is not None and process.poll() is not None:
            raise SystemExit(f"bench: the server ended with {process.returncode}")
        try:
            if path is None:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"bench: nothing answers on port {port}")
