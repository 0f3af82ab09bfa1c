"""A Redis for tests: the one that is named, or a process of our own on a free port."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HOW_TO_GET = "no Redis: `apt-get install redis-server`, or name one in MODELPORT_TEST_REDIS_URL"
START_SECONDS = 20.0


@dataclass
class RedisServer:
    """A process of our own, which a test may kill and start again. It keeps nothing on disk."""

    directory: Path
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Listening when it returns; on the same port as before, if there was one."""
        program = shutil.which("redis-server")
        if program is None:
            skip_or_fail()
        if not self.port:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
        command = [str(program), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [*command, "--dir", str(self.directory)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "redis-server did not start"
                time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL: it is gone at once, with everything that it knew."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def skip_or_fail() -> None:
    """Where everything must be checked, a missing Redis is a failure."""
    if os.environ.get("MODELPORT_CI"):
        pytest.fail(HOW_TO_GET)
    pytest.skip(HOW_TO_GET)


def named_url() -> str | None:
    """The Redis that the environment names."""
    return os.environ.get("MODELPORT_TEST_REDIS_URL")
