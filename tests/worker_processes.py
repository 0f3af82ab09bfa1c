"""Finding one's way in a server of several processes, from outside: who is a worker, and whose connection is this."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from served import Served, children_of, eventually


def nursery_of(served: Served) -> int:
    """The process that forks workers."""
    return next(pid for pid in children_of(served.process.pid) if b"nursery" in command_of(pid))


def workers_of(served: Served) -> list[int]:
    """The processes that serve."""
    return sorted(children_of(nursery_of(served)))


def command_of(process_id: int) -> bytes:
    try:
        return Path(f"/proc/{process_id}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def all_of(served: Served) -> list[int]:
    """Every process of the server, the first one too."""
    found = [served.process.pid]
    for process_id in found:
        found += children_of(process_id)
    return found


def server_side(connection: socket.socket) -> str:
    """What /proc calls the other end of a connection to this machine."""
    ours, theirs = connection.getsockname()[1], connection.getpeername()[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[1].split(":")[1], 16) == theirs and int(fields[2].split(":")[1], 16) == ours:
            return f"socket:[{fields[9]}]"
    raise AssertionError("no such connection")


def worker_at(served: Served, connection: socket.socket) -> int:
    """The worker that holds the other end. The connection must have been answered once."""
    wanted = server_side(connection)
    for worker in workers_of(served):
        for descriptor in Path(f"/proc/{worker}/fd").iterdir():
            try:
                if str(descriptor.readlink()) == wanted:
                    return worker
            except (FileNotFoundError, ProcessLookupError):
                continue
    raise AssertionError("nobody holds this connection")


def alive(connection: socket.socket) -> int:
    """Asks for `/health/live`; the status."""
    connection.sendall(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
    received = b""
    while b'{"status":"ok"}' not in received:
        data = connection.recv(65536)
        assert data, f"closed after {received!r}"
        received += data
    found = re.match(rb"HTTP/1.1 (\d+)", received)
    assert found is not None
    return int(found[1])


def connections_to_each(served: Served) -> dict[int, socket.socket]:
    """A connection to each worker, which has been answered. The caller closes them."""
    found: dict[int, socket.socket] = {}
    workers = workers_of(served)

    def enough() -> bool:
        connection = served.connect()
        alive(connection)
        worker = worker_at(served, connection)
        if worker in found:
            connection.close()
        else:
            found[worker] = connection
        return set(found) >= set(workers)

    eventually(enough, "every worker accepts connections")
    return found
