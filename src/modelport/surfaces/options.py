"""What the operator decides about the doors."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from msgspec import Struct

from modelport.core.clock import Clock, SystemClock

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network


class Limits(Struct, frozen=True, kw_only=True):
    """What one request may cost us before we know whether it is worth anything."""

    body_bytes: int = 20 * 1024 * 1024
    json_depth: int = 64
    json_containers: int = 65_536
    request_seconds: float = 600.0
    """From the end of the request's head to the end of its answer."""
    idle_seconds: float = 30.0
    """How long the body may stand still while it arrives."""


class Options(Struct, frozen=True, kw_only=True):
    """Everything a door is built with, beside the gateway."""

    limits: Limits = Limits()
    cors_origins: tuple[str, ...] = ()
    """Origins that may read our answers in a browser; `*` is any. Empty: none."""
    allowed_hosts: frozenset[str] = frozenset()
    """Names besides loopback, in lower case, that a server answers to while it is anonymous."""
    region: str = "local"
    metrics_public: bool = False
    strict: bool = False
    """The real service's refusals where we are lenient: an absent api-version under /openai/deployments is 404."""
    tls_ends_before: bool = False
    """A proxy in front of the server ends TLS: what comes over plain http was not sent over it."""
    trusted_proxies: tuple[IpNetwork, ...] = ()
    """Whose `X-Forwarded-For` says where a request comes from."""
    clock: Clock = SystemClock()
