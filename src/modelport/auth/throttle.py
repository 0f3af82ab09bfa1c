"""How often an address may fail to authenticate. Who shows a valid credential that is known is never asked."""

from __future__ import annotations

import ipaddress
import math
from typing import Final, NamedTuple

KNOWN_ADDRESSES: Final = 8192
"""Beyond this the address whose last failure is the oldest is forgotten."""
NETWORK_BITS: Final = 64
"""A caller with IPv6 has a whole network of addresses."""


NEWS_SECONDS: Final = 60.0
"""An address whose bucket is empty is news again after this."""


class _Bucket(NamedTuple):
    """What was left at a moment, and when the bucket was last found empty, in unix seconds."""

    left: float
    at: float
    emptied_at: float


class FailureThrottle:
    """A bucket of attempts for each address: it is full at first, and fills up again within a minute."""

    def __init__(self, per_minute: int | None) -> None:
        """None: no limit."""
        self.per_minute = per_minute
        self._buckets: dict[str, _Bucket] = {}

    def seconds(self, address: str | None, now: float) -> int:
        """How long the address has to wait; 0: it may try."""
        if self.per_minute is None:
            return 0
        missing = 1.0 - self._left(self._buckets.get(network_of(address)), now)
        return math.ceil(missing * 60 / self.per_minute) if missing > 0 else 0

    def failed(self, address: str | None, now: float) -> bool:
        """One attempt less. Whether the bucket is empty by it, for the first time in a while."""
        if self.per_minute is None:
            return False
        key = network_of(address)
        before = self._buckets.pop(key, None)  # the newest comes last
        left = max(0.0, self._left(before, now) - 1.0)
        emptied_at = before.emptied_at if before is not None else -math.inf
        is_news = left < 1.0 and now - emptied_at >= NEWS_SECONDS
        if len(self._buckets) >= KNOWN_ADDRESSES:
            del self._buckets[next(iter(self._buckets))]
        self._buckets[key] = _Bucket(left, now, now if is_news else emptied_at)
        return is_news

    def _left(self, bucket: _Bucket | None, now: float) -> float:
        most = float(self.per_minute or 0)
        if bucket is None:
            return most
        return min(most, bucket.left + max(0.0, now - bucket.at) * most / 60)


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
