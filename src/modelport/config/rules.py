"""Defaults and rules of settings that `settings` and `client` share."""

from __future__ import annotations

import re
from typing import Final

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8080
DEFAULT_DATA_DIR: Final = "~/.local/share/modelport"
DEFAULT_REGION: Final = "local"
MAX_PORT: Final = 65_535
MAX_KEYS: Final = 64
SECRETS_KEY_CHARACTERS: Final = 32
REGION_PATTERN: Final = r"^[!-~]([ -~]{0,62}[!-~])?$"
_REGION: Final = re.compile(REGION_PATTERN)
_HOST_NAME: Final = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9])?")


def is_host(value: str) -> bool:
    """Whether this is an IP address or a host name."""
    if _HOST_NAME.fullmatch(value) is not None:
        return True
    import ipaddress

    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def network_fault(value: str) -> str | None:
    """Why this is no network, and no address, of clients that are known; None if it is one."""
    import ipaddress

    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        return "is neither an address nor a network such as 10.0.0.0/8"
    if not network.prefixlen:
        return "is every address there is"
    if getattr(network.network_address, "ipv4_mapped", None) is not None:
        return "is an address of IPv4; write it as one"
    if ipaddress.ip_address(value.partition("/")[0]) != network.network_address:
        return f"is an address inside a network; write {network} for all of it, or the address alone"
    return None


def is_region(value: str) -> bool:
    """Whether an answer's head can hold it."""
    return _REGION.fullmatch(value) is not None


def is_path(value: str) -> bool:
    """Whether a file can have this name."""
    return bool(value) and "\0" not in value


def tls_fault(self_signed: bool, cert: object, key: object) -> str | None:
    """Why these do not make one way to do TLS, or None."""
    if (cert is None) != (key is None):
        return "needs both cert and key"
    if self_signed and cert is not None:
        return "has both self_signed and cert; keep one of them"
    return None
