"""Tokens in the shapes of Entra, and the assertions that workload identity exchanges for them. No I/O."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import jwt

from modelport.identity.identities import Directory, Identity
from modelport.identity.signing import SigningKeys

ASSERTION_AUDIENCE: Final = "api://AzureADTokenExchange"
ASSERTION_SECONDS: Final = 3600
Proof = Literal["secret", "assertion", "managed"]
"""How the application showed who it is."""
_CLASSES: Final = {"secret": "1", "assertion": "2", "managed": "2"}
"""Entra's `appidacr` / `azpacr`."""


class Refused(Exception):
    """No token. `error` is OAuth's word, `code` Entra's number; the text goes to the caller."""

    def __init__(self, status: int, error: str, code: int, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.error = error
        self.code = code
        self.description = description


@dataclass(frozen=True, slots=True)
class Issued:
    """A token and what is said with it. Times in unix seconds."""

    token: str
    expires_at: int
    not_before: int
    seconds: int
    audience: str

    def __repr__(self) -> str:
        return f"Issued({self.audience!r}, {self.expires_at})"


class Issuer:
    """Issues tokens for the identities of a directory."""

    def __init__(
        self,
        directory: Directory,
        keys: SigningKeys,
        now: Callable[[], float],
        *,
        authority: str,
        token_seconds: int,
        version: Literal["1.0", "2.0"] = "1.0",
    ) -> None:
        """`authority`: `https://127.0.0.1:8443`, without a slash at its end."""
        self.directory = directory
        self.keys = keys
        self.authority = authority
        self.version = version
        self._now = now
        self._token_seconds = token_seconds

    @property
    def issuer(self) -> str:
        """The `iss` of every token."""
        return self.issuer_of(self.version)

    def issuer_of(self, version: str) -> str:
        """The `iss` of tokens of this version."""
        base = f"{self.authority}/{self.directory.tenant_id}/"
        return base if version == "1.0" else f"{base}v2.0"

    def issue(self, identity: Identity, audience: str, proof: Proof) -> Issued:
        """A token for a resource. Raises Refused."""
        if audience.rstrip("/").lower() == ASSERTION_AUDIENCE.lower():
            raise Refused(400, "invalid_scope", 70011, "An assertion is not issued as a token.")
        now = int(self._now())
        expires_at = now + self._token_seconds
        claims: dict[str, Any] = {
            "aud": audience,
            "iss": self.issuer,
            "iat": now,
            "nbf": now,
            "exp": expires_at,
            "idtyp": "app",
            "oid": identity.object_id,
            "sub": identity.object_id,
            "tid": self.directory.tenant_id,
            "uti": base64.urlsafe_b64encode(os.urandom(16)).rstrip(b"=").decode(),
            "ver": self.version,
        }
        if self.version == "1.0":
            claims |= {"appid": identity.client_id, "appidacr": _CLASSES[proof]}
        else:
            claims |= {"azp": identity.client_id, "azpacr": _CLASSES[proof]}
        if identity.roles:
            claims["roles"] = list(identity.roles)
        if identity.groups:
            claims["groups"] = list(identity.groups)
        return Issued(self.keys.sign(claims), expires_at, now, self._token_seconds, audience)

    def assertion(self, identity: Identity) -> str:
        """What the federated token file of an identity holds: it counts here, for this identity, for an hour."""
        now = int(self._now())
        claims = {
            "iss": self._federation,
            "sub": identity.object_id,
            "aud": ASSERTION_AUDIENCE,
            "iat": now,
            "nbf": now,
            "exp": now + ASSERTION_SECONDS,
        }
        return jwt.encode(claims, self.directory.assertion_key.reveal(), algorithm="HS256")

    def verify_assertion(self, identity: Identity, assertion: str) -> None:
        """Raises Refused unless `assertion` made this assertion for this identity and it has not expired.

        A key of its own signs assertions: no token, of this issuer or another, can be one."""
        try:
            claims = jwt.decode(
                assertion,
                self.directory.assertion_key.reveal(),
                algorithms=["HS256"],
                audience=ASSERTION_AUDIENCE,
                issuer=self._federation,
                options={
                    "require": ["exp", "nbf", "iss", "sub", "aud"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.PyJWTError:
            raise Refused(401, "invalid_client", 700027, "The assertion is not one that this issuer wrote.") from None
        if not claims["nbf"] <= self._now() < claims["exp"]:
            raise Refused(401, "invalid_client", 700024, "The assertion has expired; read its file again.")
        if claims["sub"] != identity.object_id:
            raise Refused(401, "invalid_client", 700213, "The assertion is another identity's.")

    @property
    def _federation(self) -> str:
        return f"{self.authority}/{self.directory.tenant_id}/federation"
