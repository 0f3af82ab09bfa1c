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
SECONDS_BETWEEN_LINES: Final = 10.0
"""Of calls that one address makes while its bucket is empty."""


class _Bucket(NamedTuple):
    """What was left at a moment, and when the bucket was last found empty, in unix seconds."""

    left: float
    at: float
    emptied_at: float
    logged_at: float = -math.inf
    """When a call that was refused for the empty bucket had its line, and how many had none since."""
    unlogged: int = 0


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
        if before is None:
            before = _Bucket(left, now, emptied_at)
        self._buckets[key] = before._replace(left=left, at=now, emptied_at=now if is_news else emptied_at)
        return is_news

    def unlogged(self, address: str | None, now: float) -> int | None:
        """Counts a call of an address that has to wait. How many before it had no line in the log, since its last one;
        None: this one needs none either."""
        key = network_of(address)
        bucket = self._buckets.get(key)
        if bucket is None:
            return 0
        is_due = not 0.0 <= now - bucket.logged_at < SECONDS_BETWEEN_LINES
        logged_at, unlogged = (now, 0) if is_due else (bucket.logged_at, bucket.unlogged + 1)
        self._buckets[key] = bucket._replace(logged_at=logged_at, unlogged=unlogged)
        return bucket.unlogged if is_due else None

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
