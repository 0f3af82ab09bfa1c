"""PostgreSQL's LISTEN: a change of another server is known at once, and not at the next look."""

from __future__ import annotations

from typing import Final

import psycopg

from modelport.core.ports.control import ControlStoreUnavailable
from modelport.stores.sql.connecting import CONNECT_SECONDS

CHANNEL: Final = "modelport_control"
"""The payload is the new version."""
GONE_MILLISECONDS: Final = 5_000


class Listener:
    """One connection. For one thread. Raises ControlStoreUnavailable, and is of no use then."""

    def __init__(self, url: str) -> None:
        try:
            self._connection = psycopg.connect(
                url.replace("postgresql+psycopg://", "postgresql://", 1),
                autocommit=True,
                connect_timeout=CONNECT_SECONDS,
                tcp_user_timeout=GONE_MILLISECONDS,
            )
            self._connection.execute(f"LISTEN {CHANNEL}")
        except psycopg.Error as error:
            raise gone(error) from error

    def wait(self, seconds: float) -> None:
        """Returns at a notification, or after `seconds`."""
        try:
            for _ in self._connection.notifies(timeout=seconds, stop_after=1):
                return
        except psycopg.Error as error:
            self.close()
            raise gone(error) from error

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()


def gone(error: psycopg.Error) -> ControlStoreUnavailable:
    """Without the driver's text, which may quote the address."""
    return ControlStoreUnavailable(f"the database cannot be listened to: {type(error).__name__}")
