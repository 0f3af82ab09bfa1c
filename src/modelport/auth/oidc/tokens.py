"""What a token says, and whether that is acceptable: everything about it but its signature. No I/O, no cryptography."""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from modelport.auth.oidc.issuers import MANAGEMENT
from modelport.core.errors import Unauthenticated
from modelport.core.excerpts import excerpt
from modelport.core.identity import Audience, TokenIssuer

FORM: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*")
"""One text for each token: decoders let padding and odd characters pass, and each text would be verified anew."""
MOST_SECONDS: Final = 2**63
UNAUTHORIZED: Final = (
    "Unauthorized. Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), "
    "or have expired."
)
"""Azure's words for every token that is refused."""
Reason = Literal[
    "malformed",
    "unknown_issuer",
    "algorithm",
    "expired",
    "not_yet_valid",
    "audience",
    "tenant",
    "claims",
    "unknown_key_id",
    "signature",
    "token_over_http",
]


class Token(Struct, frozen=True):
    """A token that was read, and not verified."""

    text: str
    algorithm: str
    key_id: str | None
    claims: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Token({self.algorithm!r})"


class Refused(Exception):
    """The token is not acceptable. `detail`: a sentence for its caller."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail

    @property
    def error(self) -> Unauthenticated:
        """What its caller gets."""
        message = f"{UNAUTHORIZED} {self.detail}" if self.detail else UNAUTHORIZED
        return Unauthenticated(message, reason=self.reason)


def read(text: str) -> Token:
    """The token's header and claims. Raises Refused."""
    parts = FORM.fullmatch(text)
    if parts is None:
        raise Refused("malformed")
    header, claims = _object(parts[1]), _object(parts[2])
    algorithm, key_id = header.get("alg"), header.get("kid")
    if not isinstance(algorithm, str) or not (key_id is None or isinstance(key_id, str)) or "crit" in header:
        raise Refused("malformed")
    return Token(text, algorithm, key_id, claims)


def _object(part: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(urlsafe_b64decode(part + "=" * (-len(part) % 4)), type=dict[str, Any])
    except (binascii.Error, ValueError, msgspec.MsgspecError, RecursionError):
        raise Refused("malformed") from None


def check_claims(token: Token, issuer: TokenIssuer, audience: Audience, now: float) -> float:
    """The moment from which the token no longer counts, in unix seconds. `issuer`: the one that its `iss` names.
    Raises Refused."""
    claims = token.claims
    if token.algorithm not in issuer.algorithms:
        raise Refused("algorithm", f"It is not signed by {' or '.join(sorted(issuer.algorithms))}.")
    expires, begins = _moment(claims, "exp"), _moment(claims, "nbf")
    if expires is None:
        raise Refused("claims")
    if now >= expires + issuer.leeway:
        raise Refused("expired", "It has expired: get a new one.")
    if begins is not None and now < begins - issuer.leeway:
        raise Refused("not_yet_valid", "It is not valid yet: compare the clocks.")
    if not is_for(claims, issuer, audience):
        wanted = [MANAGEMENT] if audience == "management" else sorted(issuer.audiences)
        raise Refused("audience", f"It is for {named(claims.get('aud'))}; here it has to be for {' or '.join(wanted)}.")
    if issuer.tenant is not None:
        tenant = claims.get("tid")
        if not isinstance(tenant, str) or tenant.lower() != issuer.tenant:
            raise Refused("tenant", f"It is of tenant {named(tenant)}.")
    if not any(isinstance(claims.get(name), str) and claims[name] for name in ("oid", "sub")):
        raise Refused("claims")
    return expires + issuer.leeway


def is_for(claims: Mapping[str, Any], issuer: TokenIssuer, audience: Audience) -> bool:
    """Whether the token was issued for this. The slash at the end of an address does not count."""
    found = claims.get("aud")
    listed = found if isinstance(found, list) else [found]
    given = {one.removesuffix("/") for one in listed if isinstance(one, str)}
    if audience == "management":
        return MANAGEMENT in given
    return not given.isdisjoint(issuer.audiences)


def named(value: object) -> str:
    """A claim of a token that may be anyone's, for a message."""
    return ascii(excerpt(value)) if isinstance(value, str) else "nothing that is one text"


def _moment(claims: Mapping[str, Any], name: str) -> float | None:
    """A claim in unix seconds; None where it is absent. Raises Refused."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MOST_SECONDS:
        raise Refused("claims")
    return float(value)
