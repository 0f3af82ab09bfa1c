"""The process that owns one model's weights. Started by the supervisor; ends with it, whatever happens to it.

`python -m modelport.engine.worker --backend NAME --options -` reads one line of JSON from standard input: `socket`,
`secret`, `idle_unload_seconds`, and the backend's own `options`. Standard input then stays open: its end means that the
gateway is gone. On standard output go lines of JSON, one per change of state; on standard error, lines for the log.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import importlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import uvicorn

from modelport.engine.worker_http import WorkerApp

EXIT_CANNOT_LOAD: Final = 3
EXIT_IDLE: Final = 4
_PR_SET_PDEATHSIG: Final = 1
_DRAIN_SECONDS: Final = 3600  # the supervisor decides how long to wait, and kills


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m modelport.engine.worker")
    parser.add_argument("--backend", required=True)
    parser.add_argument("--options", default="-", help="a file of JSON, or - for a line on standard input")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    logging.basicConfig(stream=os.fdopen(os.dup(2), "w", buffering=1), level=logging.INFO, format="%(message)s")
    if arguments.options == "-":
        given = json.loads(sys.stdin.readline())
        _die_with_parent()
    else:
        given = json.loads(Path(arguments.options).read_text(encoding="utf-8"))
    code = asyncio.run(_serve(arguments.backend, given, reports))
    # Without the interpreter's own end: native threads may still run, and nothing is left to save.
    os._exit(code)


def _die_with_parent() -> None:
    """Two ways at once: the kernel's signal, and the end of standard input (which also covers a gone grandparent)."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_exit_at_end_of_input, name="parent-watch", daemon=True).start()


def _exit_at_end_of_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


async def _serve(backend: str, given: dict[str, Any], reports: Any) -> int:
    app = WorkerApp(given["secret"])
    config = uvicorn.Config(
        app,
        uds=given["socket"],
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        server_header=False,
        date_header=False,
    )
    # It logs each cut stream as an error with a traceback, and traces may quote requests.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    server = _Server(config)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.end)
    serving = asyncio.create_task(server.serve())
    code = await _load(app, backend, given, reports)
    if code == 0:
        code = await _idle(app, server, given.get("idle_unload_seconds"), reports)
    server.end()
    await serving
    if app.backend is not None:
        await app.backend.close()
    return code


class _Server(uvicorn.Server):
    """Leaves the signals alone: uvicorn would raise them again at its end, before the backend is closed."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ended = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield

    def end(self) -> None:
        """Takes no new connections, and ends when those that are open have got their answers."""
        self.should_exit = True
        self.ended.set()


async def _idle(app: WorkerApp, server: _Server, idle_unload_seconds: float | None, reports: Any) -> int:
    """Returns when the worker is to end: it was told to, or has had nothing to do for too long."""
    while not server.ended.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(None if idle_unload_seconds is None else idle_unload_seconds / 4):
                await server.ended.wait()
        if idle_unload_seconds is not None and app.idle_seconds > idle_unload_seconds:
            # Said first, so that the gateway sends no request to a socket that is about to close.
            print(json.dumps({"state": "unloaded"}), file=reports)
            return EXIT_IDLE
    return 0


async def _load(app: WorkerApp, backend: str, given: dict[str, Any], reports: Any) -> int:
    """Opens the backend and reports how that went; an exit code if it cannot be."""
    try:
        module = importlib.import_module(f"modelport.engine.backends.{backend}")
        app.backend = await module.open({"directory": str(Path(given["socket"]).parent), **given["options"]})
    except Exception as error:  # noqa: BLE001  the end of the process: whatever it is, the supervisor must hear of it
        print(json.dumps({"state": "failed", "reason": _reason(error)}), file=reports)
        return EXIT_CANNOT_LOAD
    # What the native library prints from here on may quote requests (a grammar that it cannot read, for one).
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    print(json.dumps({"state": "ready", "facts": app.backend.facts()}), file=reports)
    return 0


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"the package {error.name!r} is not installed"
    return str(error) or type(error).__name__


if __name__ == "__main__":
    main()
