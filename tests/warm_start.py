"""Starts `modelport` in a fork of a process that has imported it. All that follows the imports is what a process of its
own does, and a start needs a second of processor time less.

This module is both ends: imported, it starts that process and has it fork; run, it is that process. It has no thread
and no event loop, so that forking is safe.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Self

PRELOADED = (
    "modelport.cli.main",
    "modelport.cli.serve",
    "modelport.providers.openai_compatible.provider",
    "modelport.providers.scripted.provider",
)
MESSAGE_BYTES = 1 << 20


class WarmProcess:
    """A forked process, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, process_id: int, code: int, stdout: IO[bytes] | None) -> None:
        self.pid = process_id
        self.stdout = stdout
        self.returncode: int | None = None
        self._code = code
        """The end of a pipe; the exit code comes there."""

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self._read_code(0)

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the end; the exit code. Raises TimeoutExpired."""
        code = self._read_code(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("modelport", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Does nothing once it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.stdout is not None:
            self.stdout.close()
        self.wait()

    def _read_code(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._code], [], [], timeout)[0]:
            self.returncode = int(os.read(self._code, 16))
            os.close(self._code)
        return self.returncode


def start(arguments: Sequence[str], environ: Mapping[str, str], stderr: int, stdout: int | None = None) -> WarmProcess:
    """Runs `modelport ARGUMENTS` in a session of its own, without input. Its output goes to a pipe, or to `stdout`."""
    output, written = os.pipe() if stdout is None else (None, stdout)
    code, reported = os.pipe()
    order = json.dumps({"arguments": [*arguments], "environ": dict(environ), "directory": str(Path.cwd())})
    socket.send_fds(fork_server(), [order.encode()], [written, stderr, reported])
    process_id = int(fork_server().recv(16))
    os.close(reported)
    if output is None:
        return WarmProcess(process_id, code, None)
    os.close(written)
    return WarmProcess(process_id, code, os.fdopen(output, "rb"))


def run(arguments: Sequence[str], environ: Mapping[str, str], timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs `modelport ARGUMENTS` to its end. Raises TimeoutExpired."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        process = start(arguments, environ, stderr.fileno(), stdout.fileno())
        try:
            process.wait(timeout)
        finally:
            process.kill()
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess([*arguments], process.wait(), stdout.read(), stderr.read())


@functools.cache
def fork_server() -> socket.socket:
    """The socket of a process that forks; it ends with this process."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        command = [sys.executable, "-P", __file__, str(its.fileno())]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[its.fileno()],
            start_new_session=True,  # Ctrl-C is for the tests: they end what they have started
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def fork_on_order(orders: socket.socket) -> None:
    """Forks on order, and tells how each fork has ended. Returns in a fork only."""
    reported: dict[int, int] = {}
    """Where to write the exit code, by process id."""
    ended, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    with selectors.DefaultSelector() as selector:
        selector.register(orders, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == ended:
                    os.read(ended, 4096)
                    report_ended(reported)
                    continue
                message, descriptors, *_ = socket.recv_fds(orders, MESSAGE_BYTES, 3)
                if not message:
                    for process_id in reported:
                        os.kill(process_id, signal.SIGKILL)
                    os._exit(0)
                process_id = os.fork()
                if process_id == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    orders.close()
                    become(json.loads(message), descriptors)
                    for descriptor in (ended, wake, *descriptors, *reported.values()):
                        os.close(descriptor)
                    return
                os.close(descriptors[0])
                os.close(descriptors[1])
                reported[process_id] = descriptors[2]
                orders.send(b"%d" % process_id)


def become(order: dict[str, Any], descriptors: Sequence[int]) -> None:
    """Gives a fork what a process of its own would have been started with."""
    os.setsid()
    os.chdir(order["directory"])
    for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), *descriptors[:2])):
        os.dup2(descriptor, number)
    os.environ.clear()
    os.environ.update(order["environ"])
    sys.argv = ["modelport", *order["arguments"]]


def report_ended(reported: dict[int, int]) -> None:
    """Writes the exit code of each fork that has ended."""
    for process_id in list(reported):
        found, status = os.waitpid(process_id, os.WNOHANG)
        if found:
            descriptor = reported.pop(process_id)
            with contextlib.suppress(BrokenPipeError):
                os.write(descriptor, b"%d" % os.waitstatus_to_exitcode(status))
            os.close(descriptor)


if __name__ == "__main__":
    for name in PRELOADED:
        import_module(name)
    gc.collect()
    gc.freeze()
    fork_on_order(socket.socket(fileno=int(sys.argv[1])))
    import_module("modelport.cli.main").main()
