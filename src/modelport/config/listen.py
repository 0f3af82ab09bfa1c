"""Where it is safe to listen, given how callers are let in."""

from __future__ import annotations

import ipaddress

from modelport.config.settings import Settings


def unsafe_listening(settings: Settings) -> str | None:
    """Why this host must not be listened on, or None."""
    host = settings.server.host
    if is_loopback(host):
        return None
    if settings.auth.anonymous:
        return f"{host} is reachable from other machines, and auth.anonymous lets everybody in; use 127.0.0.1, or keys"
    if not settings.auth.keys:
        return f"{host} is reachable from other machines, and the key was made here; set MODELPORT_API_KEY or auth.keys"
    return None


def is_loopback(host: str) -> bool:
    """Can only this machine reach it? A name other than localhost may resolve to anything, so it counts as outside."""
    if host.lower() in ("localhost", "localhost.localdomain", "ip6-localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
