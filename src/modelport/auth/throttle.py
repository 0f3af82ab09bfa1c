"""How often an address may fail to authenticate. Who shows a valid credential that is known is never asked."""

from __future__ import annotations

import ipaddress
import math
from typing import Final

KNOWN_ADDRESSES: Final = 8192
"""Beyond this the address whose last failure is the oldest is forgotten."""
NETWORK_BITS: Final = 64
"""A caller with IPv6 has a whole network of addresses."""


class FailureThrottle:
    """A bucket of attempts for each address: it is full at first, and fills up again within a minute."""

    def __init__(self, per_minute: int | None) -> None:
        """None: no limit."""
        self.per_minute = per_minute
        self._buckets: dict[str, tuple[float, float]] = {}
        """What was left, and when (unix seconds)."""

    def seconds(self, address: str | None, now: float) -> int:
        """How long the address has to wait; 0: it may try."""
        if self.per_minute is None:
            return 0
        missing = 1.0 - self._left(network_of(address), now)
        return math.ceil(missing * 60 / self.per_minute) if missing > 0 else 0

    def failed(self, address: str | None, now: float) -> None:
        """One attempt less."""
        if self.per_minute is None:
            return
        key = network_of(address)
        left = self._left(key, now) - 1.0
        self._buckets.pop(key, None)  # the newest comes last
        if len(self._buckets) >= KNOWN_ADDRESSES:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = (max(0.0, left), now)

    def _left(self, key: str, now: float) -> float:
        assert self.per_minute is not None
        left, then = self._buckets.get(key, (float(self.per_minute), now))
        return min(float(self.per_minute), left + max(0.0, now - then) * self.per_minute / 60)


def network_of(address: str | None) -> str:
    """What shares a bucket with this address."""
    if address is None or ":" not in address:
        return address or ""
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found, NETWORK_BITS), strict=False))
