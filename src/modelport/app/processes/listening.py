"""Listening sockets of one address: one for each worker, all held by the owner.

The kernel spreads connections over sockets that share an address with SO_REUSEPORT. Since the owner holds them, the end
of a worker closes none: what waits in its queue is served by whoever comes next.
"""

from __future__ import annotations

import socket

from modelport.app.http_server import BACKLOG


def shared(listener: socket.socket, number: int) -> list[socket.socket]:
    """So many sockets for the address of `listener`, which is closed. It was bound alone: nobody else listens there,
    which SO_REUSEPORT would hide. Raises OSError."""
    family, kind, protocol = listener.family, listener.type, listener.proto
    address = listener.getsockname()
    listener.close()
    found: list[socket.socket] = []
    try:
        for _ in range(number):
            one = socket.socket(family, kind, protocol)
            found.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(address)
            one.listen(BACKLOG)
            one.setblocking(False)
    except OSError:
        for one in found:
            one.close()
        raise
    return found
