"""Who is measured: a process, and the doors through which a load can reach it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import machines, servers

FLOOR = "nginx"
OURS = "modelport"
RELAY = "relay"
DIRECT = "direct"
V1 = "/v1/chat/completions"
AZURE = "/models/chat/completions?api-version=2024-05-01-preview"


@dataclass(frozen=True)
class Door:
    """Where to knock, and with what."""

    port: int
    path: str = V1
    headers: tuple[str, ...] = ()
    model: str = "bench"


@dataclass(frozen=True)
class Contender:
    """One row of a table. Without a process, it is the mock itself."""

    name: str
    doors: Mapping[str, Door]
    process: subprocess.Popen[bytes] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def pids(self) -> list[int]:
        """Every process whose time is this contender's."""
        return machines.tree(self.process.pid) if self.process is not None else []


def bearer(key: str) -> tuple[str, ...]:
    """The header that shows a key."""
    return (f"Authorization: Bearer {key}",)


def direct(above: servers.Upstream) -> Contender:
    """The mock without a gateway."""
    door = Door(above.port, headers=bearer(servers.KEY))
    return Contender(DIRECT, {"whole": door, "stream": door})


@contextmanager
def floor(above: servers.Upstream, folder: Path, core: int) -> Iterator[Contender]:
    """nginx, which reads nothing of what it passes on."""
    with servers.nginx(above, folder, core) as (running, stream_port, tls_port):
        headers = bearer(servers.KEY)
        doors = {
            "whole": Door(running.port, headers=headers),
            "stream": Door(stream_port, headers=headers),
            "tls": Door(tls_port, headers=headers),
            **{status: Door(running.port, f"/{status}", headers) for status in ("401", "404", "422", "429")},
        }
        yield Contender(FLOOR, doors, running.process)


@contextmanager
def ours(
    above: servers.Upstream, folder: Path, core: int, python: Path, name: str = OURS, **options: str
) -> Iterator[Contender]:
    """modelport; the options are those of `servers.modelport`. Key, quota, journal and metrics are on. The ledger's
    process, which has nothing to do with an answer, is not there unless it is asked for: niced as it is, on the one
    core that is measured it would take what nobody else wants, and be counted."""
    with servers.modelport(above, folder, core, python, **{"without": "ledger", **options}) as running:
        key = bearer(servers.KEY)
        doors = {
            "whole": Door(running.port, headers=key),
            "stream": Door(running.port, headers=key),
            "tls": Door(running.port, headers=key, model="bench-tls"),
            "401": Door(running.port, headers=bearer("wrong-" + servers.KEY)),
            "404": Door(running.port, headers=key, model="absent"),
            "422": Door(running.port, path=AZURE, headers=(f"api-key: {servers.KEY}",)),
            "429": Door(running.port, headers=key, model="bench-full"),
        }
        yield Contender(name, doors, running.process)


@contextmanager
def relay(above: servers.Upstream, folder: Path, core: int, python: Path) -> Iterator[Contender]:
    """The reference relay: the same checks, made the usual way."""
    folder.mkdir(parents=True, exist_ok=True)
    port = servers.free_port()
    command = [str(python), "-m", "bench.reference_relay", str(port), str(above.port), servers.KEY]
    with servers.running([*command, str(folder / "journal")], core, folder=servers.ROOT, log=folder / "log") as process:
        servers.await_port(port, process=process)
        key = bearer(servers.KEY)
        doors = {
            "whole": Door(port, headers=key),
            "stream": Door(port, headers=key),
            "401": Door(port, headers=bearer("wrong-" + servers.KEY)),
            "404": Door(port, headers=key, model="absent"),
        }
        yield Contender(RELAY, doors, process)


FEATURES: Mapping[str, Mapping[str, str]] = {
    OURS: {},
    "without quota": {"limits": servers.UNLIMITED},
    "without journal": {"without": "journal,ledger"},
    "without metrics": {"without": "metrics,ledger"},
    "without all three": {"limits": servers.UNLIMITED, "without": "journal,ledger,metrics"},
    "with the ledger": {"without": ""},
    "with access log": {"log_level": "info"},
}
"""Each differs from the first in one thing: what it costs is the difference."""


@contextmanager
def features(above: servers.Upstream, folder: Path, core: int, python: Path) -> Iterator[list[Contender]]:
    """One modelport for each set of features."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(ours(above, folder / name.replace(" ", "-"), core, python, name, **options))
            for name, options in FEATURES.items()
        ]
