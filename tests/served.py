"""A real server process for tests, and a client that speaks to it in bytes: what SDKs hide is what is tested here."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import yaml
from tests import warm_start
from tests.warm_start import WarmProcess

from modelport.core.safety import NOTHING
from modelport.core.usage import UsageRecord
from modelport.stores.journal import ended_calls
from modelport.stores.journal.lines import Line, decode_line
from modelport.stores.journal.reading import parts
from modelport.stores.journal.writes import Write
from modelport.stores.sql.address import FILE_NAME, address_of
from modelport.stores.sql.database import open_for_writing

KEY = "operators-key-0f6a52"
SECRETS_KEY = "secrets-key-of-the-tests-0123456789abcdef"
"""What servers on PostgreSQL need."""
DEFAULT_FILTER = "MODELPORT_DEFAULT_CONTENT_FILTER"
"""Of most tests' servers `Microsoft.Nill`, so that not each of them starts a worker; empty: what operators have."""
WAIT_SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """One HTTP answer. `is_whole`: the body ended where its framing says that it does."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool = True

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)

    @property
    def chunks(self) -> list[Any]:
        """The JSON of each server-sent event, `[DONE]` aside."""
        events = [line[6:] for line in self.body.split(b"\n") if line.startswith(b"data: ")]
        return [json.loads(event) for event in events if event != b"[DONE]"]

    @property
    def usage(self) -> Any:
        """What the answer says was used, whole or streamed."""
        if not self.headers.get("content-type", "").startswith("text/event-stream"):
            return self.json.get("usage")
        return next((chunk["usage"] for chunk in reversed(self.chunks) if chunk.get("usage")), None)


@dataclass
class Served:
    """A running server."""

    process: subprocess.Popen[bytes] | WarmProcess
    url: str
    data_dir: Path
    log: Path
    key: str = KEY
    first_line: str = ""
    _connections: list[socket.socket] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        key: str | None = KEY,
        timeout_seconds: float = WAIT_SECONDS,
    ) -> Answer:
        """One request on a connection of its own. A body that is no bytes is sent as JSON."""
        sent = {"content-type": "application/json", "connection": "close"}
        if key is not None:
            sent["api-key"] = key
        sent |= headers or {}
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        with contextlib.closing(http.client.HTTPConnection(*self.address, timeout=timeout_seconds)) as connection:
            connection.putrequest(method, path, skip_host="host" in sent, skip_accept_encoding=True)
            for name, value in sent.items():
                connection.putheader(name, value)
            if data is not None:
                connection.putheader("content-length", str(len(data)))
            connection.endheaders()
            if data is not None:
                # A refusal may come, and the connection go, before all of it is sent.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.send(data)
            with connection.getresponse() as response:
                found = {name.lower(): value for name, value in response.getheaders()}
                try:
                    return Answer(response.status, found, response.read())
                except http.client.IncompleteRead as cut:
                    return Answer(response.status, found, cut.partial, is_whole=False)

    def chat(self, text: str = "Hello!", **fields: Any) -> Answer:
        """A chat completion on `/models`."""
        body = {"messages": [{"role": "user", "content": text}], **fields}
        return self.call("POST", "/models/chat/completions", body)

    def connect(self, timeout_seconds: float = WAIT_SECONDS) -> socket.socket:
        """A raw connection; use it as a context manager."""
        return socket.create_connection(self.address, timeout=timeout_seconds)

    def exchange(self, data: bytes, timeout_seconds: float = WAIT_SECONDS) -> bytes:
        """Sends raw bytes and reads until the server closes. The bytes should ask for that."""
        with self.connect(timeout_seconds) as connection:
            connection.sendall(data)
            return until_closed(connection)

    def head(self, method: str, path: str, length: int, **headers: str) -> bytes:
        """A raw request's head with a valid credential."""
        lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"api-key: {self.key}", f"content-length: {length}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def request(self, path: str, body: Any, **headers: str) -> bytes:
        """A raw POST with a valid credential."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.head("POST", path, len(data), **headers) + data

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        total = 0.0
        for line in self.call("GET", "/metrics", key=self.key).body.decode().splitlines():
            found = re.fullmatch(rf"{re.escape(name)}(?:\{{(.*)\}})? (\S+)", line)
            if found and all(f'{label}="{value}"' in (found[1] or "") for label, value in labels.items()):
                total += float(found[2])
        return total

    def journal(self) -> list[UsageRecord]:
        """The final record of every call so far."""
        return list(ended_calls(self.data_dir / "journal"))

    def stderr(self) -> str:
        """Everything logged so far."""
        return self.log.read_text("utf-8", "replace")

    def terminate(self) -> None:
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def ended(self) -> int:
        """Waits for the process to end; its exit code."""
        return self.process.wait(WAIT_SECONDS)

    def ready(self) -> None:
        """Waits until every deployment can answer: in each of several processes, which hear of it one by one, and each
        connection may be another's."""
        eventually(
            lambda: all(self.call("GET", "/health/ready").status == 200 for _ in range(8)), "the server is ready"
        )


class JournalTail:
    """Follows a journal as it grows."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._offsets: dict[Path, int] = {}
        self.lines: list[Line] = []

    def read(self) -> list[Line]:
        """All lines until now."""
        for path in sorted(self._directory.glob("*.jsonl")):
            with path.open("rb") as file:
                for part in parts(file, self._offsets.get(path, 0)):
                    if not isinstance(part, Write):
                        break  # it is being written
                    self.lines += [decode_line(line, part.forms) for line in part.lines]
                    self._offsets[path] = part.offset_bytes
        return self.lines

    def of(self, client_request_id: str, kind: str = "close") -> list[UsageRecord]:
        """The records of one call, by the id that its client gave it."""
        wanted = client_request_id.encode()
        lines = [line for line in self.read() if line.kind == kind and wanted in line.record]
        return [line.usage() for line in lines]


@contextlib.contextmanager
def serve(
    config: str | Mapping[str, Any], data_dir: Path, *, under: Sequence[str] | None = None, **environment: str
) -> Iterator[Served]:
    """`modelport serve` with this configuration, listening; killed at the end. `under` is a command that runs it, and
    may be empty: then too it is a process of its own, not a fork (`warm_start`), and makes its database itself."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = data_dir.parent / f"{data_dir.name}.yaml"
    text = config if isinstance(config, str) else yaml.safe_dump(dict(config))
    file.write_text(text, encoding="utf-8")
    log = data_dir.parent / f"{data_dir.name}.log"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MODELPORT_")}
    usual = {"MODELPORT_DATA_DIR": str(data_dir), "MODELPORT_API_KEY": KEY}
    if "default_content_filter" not in text:
        usual[DEFAULT_FILTER] = NOTHING
    environ = {**inherited, **usual, **environment}
    if under is None and "database_url" not in text and "MODELPORT_DATABASE_URL" not in environ:
        lend_database(data_dir)
    arguments = ["serve", "--config", str(file), "--port", "0"]
    with log.open("ab") as stderr, start(arguments, environ, stderr, under) as process:
        try:
            assert process.stdout is not None
            first_line = process.stdout.readline().decode()
            found = re.search(r"https?://\S+", first_line)
            assert found is not None, f"the server did not start: {first_line}{log.read_text('utf-8', 'replace')}"
            key = environment.get("MODELPORT_API_KEY", KEY)
            yield Served(process, found[0], data_dir, log, key=key, first_line=first_line)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()


def start(
    arguments: Sequence[str], environ: Mapping[str, str], stderr: IO[bytes], under: Sequence[str] | None
) -> subprocess.Popen[bytes] | WarmProcess:
    """Starts `modelport` in a session of its own."""
    if under is None:
        return warm_start.start(arguments, environ, stderr.fileno())
    return subprocess.Popen(
        [*under, sys.executable, "-m", "modelport", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=environ,
        start_new_session=True,
    )


def lend_database(data_dir: Path) -> None:
    """Gives a data directory without a database a new one. A server that migrates needs half a second of processor
    time for that."""
    path = data_dir / FILE_NAME
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(new_database())


@functools.cache
def new_database() -> bytes:
    """The file that the migrations make."""
    with tempfile.TemporaryDirectory() as directory:
        open_for_writing(address_of(None, Path(directory))).dispose()
        return Path(directory, FILE_NAME).read_bytes()


def until_closed(connection: socket.socket) -> bytes:
    """Everything that comes, until the server closes or resets."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
    return received


def until(connection: socket.socket, needle: bytes) -> bytes:
    """Reads until `needle` has come."""
    received = b""
    while needle not in received:
        data = connection.recv(65536)
        assert data, f"the server closed before {needle!r}: {received!r}"
        received += data
    return received


def eventually(condition: Any, what: str) -> None:
    """Waits for something that happens soon; a test that waits in vain says for what."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"this never came: {what}"
        time.sleep(0.02)


def is_running(process_id: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        status = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status != "Z"


def children_of(process_id: int) -> list[int]:
    """The processes that it started and that run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == process_id and fields[0] != "Z":
                found.append(int(path.parent.name))
    return found
