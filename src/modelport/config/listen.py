"""Where it is safe to listen, given how callers are let in."""

from __future__ import annotations

import ipaddress

from modelport.config.faults import Fault
from modelport.config.settings import Settings


def listen_faults(settings: Settings, key_is_generated: bool) -> tuple[Fault, ...]:
    """Why this host must not be listened on; empty when it may. The host may have come from anywhere, so no line."""
    host = settings.server.host
    if is_loopback(host):
        return ()
    if settings.auth.anonymous:
        what = f"{host} is reachable from other machines, and auth.anonymous lets everybody in; use 127.0.0.1, or keys"
    elif key_is_generated:
        what = f"{host} is reachable from other machines, and the key was made here; set MODELPORT_API_KEY or auth.keys"
    else:
        return ()
    return (Fault("server.host", None, "", what),)


def is_loopback(host: str) -> bool:
    """Can only this machine reach it? A name other than localhost may resolve to anything, so it counts as outside."""
    if host.lower() in ("localhost", "localhost.localdomain", "ip6-localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
