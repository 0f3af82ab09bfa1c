"""The base of absolute links. A forged `Host` must not send a client's next request, with its token, elsewhere."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

AUTHORITY: Final = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")


def link_base(public_url: str | None, scheme: str, host: str | None, local_address: str | None) -> str | None:
    """`https://host` without a slash at the end. Without `public_url`, from `Host` if that is loopback or the address
    that the connection came in at; else None."""
    if public_url is not None:
        return public_url.rstrip("/")
    if host is None or AUTHORITY.fullmatch(host) is None:
        return None
    name = urlsplit(f"//{host}").hostname or ""
    return f"{scheme}://{host}" if name == "localhost" or is_own_address(name, local_address) else None


def is_own_address(name: str, local_address: str | None) -> bool:
    """A loopback address, or the one that the connection came in at."""
    try:
        address = address_of(name)
        return address.is_loopback or (local_address is not None and address == address_of(local_address))
    except ValueError:
        return False


def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address; one of IPv4 is the same where a socket of IPv6 has it. Raises ValueError."""
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
