"""`python -m modelport.app.processes.nursery`: loads everything that a data-plane worker needs, once, and forks workers
from that. They share its memory, start in milliseconds, and all serve the configuration that it has read.

It runs no event loop and no thread, so that forking is safe. Orders come as lines of JSON on standard input, reports go
to standard output (`plan`). The end of standard input means that the owner is gone.
"""

from __future__ import annotations

import os
import selectors
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from modelport.app.configuration import UNLOADABLE, configure
from modelport.app.http_server import settle_memory
from modelport.app.processes import data_plane
from modelport.app.processes.data_plane import Inherited
from modelport.app.processes.plan import Order, Plan, Report, owned
from modelport.config.faults import ConfigError
from modelport.config.load import read
from modelport.config.preflight import problems
from modelport.config.secrets import Secret, stored_key
from modelport.config.settings import Settings
from modelport.config.sources import Flags
from modelport.config.tls import server_context, tls_files

REPORTS: Final = 1


def main() -> None:
    """The process."""
    orders = lines(0)
    plan = msgspec.json.decode(next(orders), type=Plan)
    close_all_but((0, 1, 2, plan.life, *plan.listeners))
    try:
        inherited = loaded(plan)
    except UNLOADABLE as error:
        report(Report(failed=str(error)))
        return
    report(Report(ready=owned(inherited.configuration.settings)))
    settle_memory()
    Nursery(msgspec.structs.replace(plan, environ={}), inherited).run()


def loaded(plan: Plan) -> Inherited:
    """Everything that workers have in common. Raises UNLOADABLE."""
    read_now = read(plan.config, plan.environ, Flags(**plan.flags))
    settings = read_now.settings
    if found := list(problems(settings)):
        raise ConfigError(read_now.fault(item.path, item.what) for item in found)
    files = tls_files(settings)
    return Inherited(
        configuration=configure(settings, generated_key(plan, settings)),
        context=server_context(files) if files is not None else None,
    )


def generated_key(plan: Plan, settings: Settings) -> Secret | None:
    """The operator's key that was made at the first start, where the configuration, as it is now, has none. Only the
    owner makes one. Raises OSError."""
    if settings.auth.keys or settings.auth.anonymous:
        return None
    if plan.key is not None:
        return Secret(plan.key, "the first start")
    stored = stored_key(settings.server.data_dir)
    return stored.secret if stored is not None else None


class Nursery:
    """Forks on order, and says who has ended."""

    def __init__(self, plan: Plan, inherited: Inherited) -> None:
        self._plan = plan
        self._inherited = inherited
        self._children: set[int] = set()
        self._is_ending = False

    def run(self) -> None:
        """Until the owner is gone, or has no more orders and the last worker has ended."""
        # Ctrl-C and the like are the owner's to hear; it gives orders.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        ended, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake)
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ)
            selector.register(ended, selectors.EVENT_READ)
            rest = b""
            while not (self._is_ending and not self._children):
                for key, _ in selector.select():
                    if key.fd == ended:
                        os.read(ended, 4096)
                        self._reap()
                        continue
                    data = os.read(0, 65536)
                    if not data:
                        return  # the workers see it, too
                    *orders, rest = (rest + data).split(b"\n")
                    for line in orders:
                        self._obey(msgspec.json.decode(line, type=Order))

    def _obey(self, order: Order) -> None:
        if order.end:
            self._is_ending = True
        if order.fork is not None:
            process_id = os.fork()
            if process_id == 0:
                self._become_worker(order.fork)
            self._children.add(process_id)
            report(Report(forked=process_id, listener=order.fork))

    def _become_worker(self, listener: int) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, REPORTS)  # what a library prints is no report
            os.close(null)
            code = data_plane.run(self._plan, self._inherited, listener)
        except BaseException:  # noqa: BLE001  the end of a process
            traceback.print_exc()
        finally:
            # Without the interpreter's own end: that is the nursery's.
            os._exit(code)

    def _reap(self) -> None:
        for process_id in list(self._children):
            with suppress(ChildProcessError):
                found, status = os.waitpid(process_id, os.WNOHANG)
                if found:
                    self._children.discard(process_id)
                    report(Report(ended=process_id, code=os.waitstatus_to_exitcode(status)))


def close_all_but(kept: tuple[int, ...]) -> None:
    """Copies of our own ends that were inherited would hide from the owner that we have ended."""
    for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if descriptor not in kept:
            with suppress(OSError):  # the one that the list was read from
                os.close(descriptor)


def lines(descriptor: int) -> Iterator[bytes]:
    """Lines as they come, none read ahead of its time."""
    line = b""
    while data := os.read(descriptor, 1):
        if data == b"\n":
            yield line
            line = b""
        else:
            line += data


def report(message: Report) -> None:
    """Tells the owner."""
    try:
        os.write(REPORTS, msgspec.json.encode(message) + b"\n")
    except OSError:
        sys.exit(1)  # nobody is left to report to


if __name__ == "__main__":
    main()
