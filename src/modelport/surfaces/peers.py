"""Who sends a request, and whether others can read what it sends."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from modelport.core.identity import Peer
from modelport.surfaces.options import IpAddress, IpNetwork, Options

FORWARDED_FOR: Final = b"x-forwarded-for"
MOST_HOPS: Final = 16
"""Of addresses behind each other that are trusted proxies."""
_PORT: Final = "(?::[0-9]{1,5})?"
_HOP: Final = re.compile(
    rf"[ \t]*(?:([0-9.]{{7,15}}){_PORT}|\[([0-9A-Fa-f:.]{{2,45}})\]{_PORT}|([0-9A-Fa-f:.]{{2,45}}))[ \t]*"
)
"""An address, perhaps with a port; one of IPv6 stands in brackets then."""


class Link(Struct, frozen=True):
    """A connection, as far as it says who sends its requests. Made by `link_of`."""

    peer: Peer = Peer()
    """The other end. Its address is the kernel's."""
    is_plain: bool = False
    """It has no TLS, and no proxy has ended TLS before it."""
    proxies: tuple[IpNetwork, ...] = ()
    """Whose word about other addresses counts; empty where the peer is none of them."""

    def client(self, fields: Mapping[bytes, bytes]) -> Peer:
        """Who sends a request with these header fields: the peer, or whom a trusted proxy has named. Reading
        X-Forwarded-For from its end, the first address that is no trusted proxy was written by one; what stands before
        it is the client's own words, and is not looked at."""
        forwarded = fields.get(FORWARDED_FOR) if self.proxies else None
        if forwarded is None:
            return self.peer
        is_local, client = True, ""
        for hop in reversed(forwarded.decode("latin-1").rsplit(",", MOST_HOPS)):
            address = address_of_hop(hop)
            if address is None:
                return replace(self.peer, is_exposed=self.is_plain)
            is_local, client = is_local and address.is_loopback, str(address)
            if not is_in(address, self.proxies):
                break
        return Peer(client, self.peer.is_exposed or (self.is_plain and not is_local))

    def is_exposed(self, fields: Mapping[bytes, bytes]) -> bool:
        """Whether others may read what a request with these fields sends."""
        return self.peer.is_exposed or (self.is_plain and bool(self.proxies) and self.client(fields).is_exposed)


def link_of(scheme: str, address: str | None, local_address: str | None, options: Options) -> Link:
    """`address`: of the other end; `local_address`: of this one. Both come from the kernel: a header such as
    `X-Forwarded-Proto` says whatever its sender likes."""
    is_plain = scheme != "https" and not options.tls_ends_before
    peer = Peer(address, is_plain and not (stays(address) and stays(local_address)))
    found = address_of(address) if options.trusted_proxies else None
    is_proxy = found is not None and is_in(found, options.trusted_proxies)
    return Link(peer, is_plain, options.trusted_proxies if is_proxy else ())


def stays(address: str | None) -> bool:
    """Whether what goes through this address does not leave the machine."""
    found = address_of(address)
    return found is not None and found.is_loopback


@lru_cache(1024)
def address_of(text: str | None) -> IpAddress | None:
    """An address of IPv4 in the clothes of IPv6 is one of IPv4. None: it is none."""
    try:
        found = ipaddress.ip_address(text or "")
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def address_of_hop(text: str) -> IpAddress | None:
    """One element of X-Forwarded-For."""
    found = _HOP.fullmatch(text)
    return None if found is None else address_of(found[1] or found[2] or found[3])


def is_in(address: IpAddress, networks: tuple[IpNetwork, ...]) -> bool:
    """Whether one of these networks has it."""
    return any(address in network for network in networks)
