"""Which issuers an entry of `auth.oidc` stands for. A tenant of Entra has two, with the same keys: the registration of
the API that a token is for decides which of them its `iss` names."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

TENANT_PATH: Final = re.compile(r"/(?P<tenant>[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(/v2\.0)?/?")
V2_HOSTS: Final = {
    "login.microsoftonline.com": "login.microsoftonline.com",
    "login.windows.net": "login.microsoftonline.com",
    "sts.windows.net": "login.microsoftonline.com",
    "login.microsoftonline.us": "login.microsoftonline.us",
    "login.partner.microsoftonline.cn": "login.partner.microsoftonline.cn",
    "login.chinacloudapi.cn": "login.partner.microsoftonline.cn",
    "sts.chinacloudapi.cn": "login.partner.microsoftonline.cn",
}
"""The host of a cloud's second issuer, by each name that its authority has."""
V1_HOSTS: Final = {
    "login.microsoftonline.com": "sts.windows.net",
    "login.microsoftonline.us": "sts.windows.net",
    "login.partner.microsoftonline.cn": "sts.chinacloudapi.cn",
}
"""The host of the first issuer of the same cloud."""
MANAGEMENT: Final = "https://management.azure.com"
"""The audience of Azure's management API. Nothing else accepts it."""
DISCOVERY: Final = ".well-known/openid-configuration"


class IssuerNames(NamedTuple):
    """`accepted`: every `iss` of its tokens. `tenant`: in lower case; None where it is no tenant of Entra.
    `authorization_uri`: where clients sign in. `discovery`: the address of its description."""

    accepted: frozenset[str]
    tenant: str | None
    authorization_uri: str
    discovery: str


def names_of(issuer: str) -> IssuerNames:
    """For an `issuer` as it is configured. An issuer elsewhere whose path is a tenant id is taken for one in Entra's
    shape: the development issuer is one."""
    parts = urlsplit(issuer)
    found = TENANT_PATH.fullmatch(parts.path)
    if found is None:
        return IssuerNames(frozenset({issuer}), None, issuer.rstrip("/"), f"{issuer.rstrip('/')}/{DISCOVERY}")
    tenant = found["tenant"].lower()
    second = V2_HOSTS.get(parts.netloc.lower(), parts.netloc)
    first = V1_HOSTS.get(second, parts.netloc)
    accepted = frozenset({f"{parts.scheme}://{first}/{tenant}/", f"{parts.scheme}://{second}/{tenant}/v2.0"})
    authority = f"{parts.scheme}://{second}/{tenant}"
    return IssuerNames(accepted, tenant, authority, f"{authority}/v2.0/{DISCOVERY}")


def is_entra(issuer: str) -> bool:
    """Whether this is an authority of Microsoft's clouds."""
    return urlsplit(issuer).netloc.lower() in V2_HOSTS


def is_safe(url: str, *, may_be_local: bool = True) -> bool:
    """Whether what comes from this address comes from its host: https, or http on this machine if it `may_be_local`."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme == "http":
        try:
            return may_be_local and (host == "localhost" or ipaddress.ip_address(host).is_loopback)
        except ValueError:
            return False
    return parts.scheme == "https" and bool(host) and parts.username is None


def issuer_fault(issuer: str) -> str | None:
    """Why this URL cannot be an issuer, or None."""
    if not is_safe(issuer):
        return "is plain http to another machine, which anyone on the way could answer; use https"
    if is_entra(issuer) and names_of(issuer).tenant is None:
        return "names no tenant by its id: write https://login.microsoftonline.com/TENANT-ID/v2.0 with the GUID"
    return None


def audience_fault(audience: str) -> str | None:
    """Why this audience cannot be listed, or None."""
    if audience.rstrip("/") == MANAGEMENT:
        return f"{MANAGEMENT} opens /subscriptions without being listed, and nothing else"
    return None
