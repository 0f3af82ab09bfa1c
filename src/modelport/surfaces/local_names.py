"""Which names an anonymous server answers to.

A page on any web site can make a browser send requests to this machine, also under a name of its own that resolves to
127.0.0.1 (DNS rebinding). Without credentials, only `Host` and `Origin` tell such a request from the operator's.
"""

from __future__ import annotations

import ipaddress

from modelport.core.excerpts import excerpt
from modelport.surfaces.options import Options

REMEDY = "or use keys instead of auth.anonymous"


def refusal_of(host: bytes | None, origin: bytes | None, options: Options) -> str | None:
    """Why an anonymous server does not answer; None when it does. No `Host`: a client of HTTP/1.0, hence no browser."""
    name = hostname(host) if host is not None else "localhost"
    if not is_loopback(name) and name not in options.allowed_hosts:
        return (
            f"This server lets everybody in and therefore answers to names of its own machine only, not to "
            f"'{excerpt(name)}'. Add that name to server.allowed_hosts, {REMEDY}."
        )
    if origin is None or host is None:
        return None
    page = origin.decode("latin-1").strip()
    is_same = page.lower().partition("://")[2] == host.decode("latin-1").strip().lower()
    if is_same or page in options.cors_origins or "*" in options.cors_origins:
        return None
    return (
        f"This server lets everybody in and therefore refuses pages of other origins, as '{excerpt(page)}'. "
        f"Add that origin to server.cors_origins, {REMEDY}."
    )


def hostname(host: bytes) -> str:
    """The name in a Host field, without port, brackets and the root's dot, in lower case."""
    text = host.decode("latin-1").strip().lower()
    name = text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]
    return name.removesuffix(".")


def is_loopback(name: str) -> bool:
    """`localhost`, 127.0.0.0/8 and ::1."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
