"""Who is at the other end of a connection, and whether others can read what it sends."""

from __future__ import annotations

import ipaddress

from modelport.core.identity import Peer
from modelport.surfaces.options import Options


def peer_of(scheme: str, address: str | None, local_address: str | None, options: Options) -> Peer:
    """`address`: of the other end; `local_address`: of this one. Addresses come from the kernel: a header such as
    `X-Forwarded-Proto` says whatever its sender likes."""
    is_exposed = scheme != "https" and not options.tls_ends_before and not (stays(address) and stays(local_address))
    return Peer(address, is_exposed)


def stays(address: str | None) -> bool:
    """Whether what goes through this address does not leave the machine."""
    if address is None:
        return False
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)
