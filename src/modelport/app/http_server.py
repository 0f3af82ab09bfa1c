"""The server that a process listens with: uvicorn's, with our protocol and our way of ending."""

from __future__ import annotations

import gc
import resource
import ssl
from typing import Final, TypeVar

import uvicorn

from modelport.app.build import Application
from modelport.config.settings import Settings
from modelport.lane.protocol import bound
from modelport.lane.server import Server

KEEP_ALIVE_SECONDS: Final = 75
BACKLOG: Final = 2048
MOST_FILES: Final = 65_536
COLLECTED_AT: Final = (5_000, 20, 20)
"""New containers before the collector looks for cycles among them. Plain calls make none; others do,
those that raise with their tracebacks, and so many of these are held until then."""

Kind = TypeVar("Kind", bound=Server)


def http_server(settings: Settings, application: Application, context: ssl.SSLContext | None, kind: type[Kind]) -> Kind:
    """A server for this application, ready for `serve(sockets=…)`."""
    limits = settings.server.limits
    config = uvicorn.Config(
        application.asgi,
        http=bound(
            limits.header_bytes,
            limits.header_seconds,
            application.lane,
            idle_seconds=limits.idle_seconds,
            connections=min(limits.connections, open_files() // 2),
        ),
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        backlog=BACKLOG,
        ssl_context_factory=(lambda *_: context) if context is not None else None,
    )
    return kind(
        config, application.gateway, drain_seconds=limits.request_seconds, handshake_seconds=limits.header_seconds
    )


def open_files() -> int:
    """How many files and sockets this process may have open, after asking for as many as it may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return wanted if soft == resource.RLIM_INFINITY else soft


def settle_memory() -> None:
    """What was made until now stays: the collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED_AT)
