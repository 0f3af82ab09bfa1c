"""`modelport identity serve` as a process, for tests that need its tokens."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests import warm_start


@dataclass(frozen=True)
class RunningIssuer:
    """An issuer that runs, and the environment that it printed."""

    data_dir: Path
    environment: dict[str, str]
    log: Path
    pid: int

    def ask(
        self, address: str, method: str, path: str, headers: dict[str, str], body: str | None = None
    ) -> tuple[int, Any]:
        """One request to it: status and document."""
        parts = urlsplit(address)
        assert parts.hostname is not None
        context = ssl.create_default_context(cafile=self.environment["SSL_CERT_FILE"])
        connection = (
            http.client.HTTPSConnection(parts.hostname, parts.port, context=context, timeout=30)
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
        )
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def client(self, *names: str) -> dict[str, str]:
        """This process's environment with these variables of the issuer (none named: all), and no other of Azure's."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "IDENTITY_"))}
        wanted = (*names, "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE") if names else tuple(self.environment)
        return {**inherited, **{name: self.environment[name] for name in wanted}}


@contextlib.contextmanager
def issuing(data_dir: Path, *arguments: str) -> Iterator[RunningIssuer]:
    """An issuer with this data directory; ended at the end."""
    log = data_dir.parent / "issuer.log"
    given = ["identity", "serve", "--data-dir", str(data_dir), "--port", "0", "--managed-port", "0"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MODELPORT_", "AZURE_"))}
    command = [*given, *arguments, "--print-env", "json"]
    with log.open("wb") as stderr, warm_start.start(command, environ, stderr.fileno()) as process:
        try:
            assert process.stdout is not None
            printed = ""
            while not printed.endswith("}\n"):
                line = process.stdout.readline().decode()
                assert line, log.read_text()
                printed += line
            yield RunningIssuer(data_dir, json.loads(printed), log, process.pid)
        finally:
            process.terminate()
            assert process.wait(30) == 0
