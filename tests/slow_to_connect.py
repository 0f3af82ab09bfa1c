"""A network for tests in which connecting takes its time and messages do not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def slow_to_connect(port: int, seconds: float) -> Iterator[SlowToConnect]:
    """In front of this port of this machine."""
    proxy = SlowToConnect(port, seconds)
    try:
        yield proxy
    finally:
        proxy.close()


class SlowToConnect:
    """Nothing passes a connection until it is this old. `connections` counts those that got so old."""

    def __init__(self, port: int, seconds: float) -> None:
        self._target = ("127.0.0.1", port)
        self._seconds = seconds
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            self._threads.append(threading.Thread(target=self._serve, args=(client,), daemon=True))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        time.sleep(self._seconds)
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        self._sockets.append(server)
        try:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:  # it was broken off meanwhile
            return
        self.connections += 1
        back = threading.Thread(target=passed, args=(server, client), daemon=True)
        back.start()
        passed(client, server)
        back.join()

    def break_all(self) -> None:
        """Ends all connections."""
        sockets, self._sockets = self._sockets, []
        for end in sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.break_all()
        for thread in self._threads:
            thread.join()
        self.break_all()


def passed(source: socket.socket, sink: socket.socket) -> None:
    """Everything, until one of them ends."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
