"""Whose a token is. It is verified once, and remembered by its hash as long as it, its key and its issuer count."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from modelport.auth.oidc.key_sets import FetchDocument, KeySets
from modelport.auth.oidc.tokens import Refused, check_claims, is_for, named, read
from modelport.auth.roles import has_group_overage, principal_of
from modelport.core.catalog import Snapshot
from modelport.core.clock import Clock
from modelport.core.errors import Unavailable
from modelport.core.identity import Audience, Identified, Principal, TokenIssuer
from modelport.core.ports.stages import NeedsWaiting, Refusal

KNOWN_TOKENS: Final = 4096
KNOWN_BYTES: Final = 16 * 1024 * 1024
"""Of the tokens whose claims are remembered."""
UNREACHABLE_RETRY: Final = 2
"""Seconds."""
OVERAGE: Final = (
    "The user is in more groups than a token lists, so rules about groups do not count; "
    "assign app roles instead, or the user itself."
)

_logger = logging.getLogger("modelport.auth")


class Verified(Struct):
    """A token that was verified, without the token."""

    claims: Any
    issuer: TokenIssuer
    key: bytes
    """The thumbprint of the key that signed it."""
    expires_at: float
    size: int
    snapshot: Snapshot
    """The one that `principal` was found by."""
    principal: Principal


class TokenAuthenticator:
    """One for each process that serves calls."""

    def __init__(self, fetch: FetchDocument, clock: Clock) -> None:
        self.key_sets = KeySets(fetch, clock, self._withdrawn)
        self.on_withdrawn: Callable[[], None] = lambda: None
        """Called when keys count no longer: who was known by them must be identified again."""
        self._clock = clock
        self._known: dict[bytes, Verified] = {}
        self._bytes = 0

    def known(self, text: str, audience: Audience, snapshot: Snapshot, now: float) -> Identified | None:
        """Whose it is, if it was verified before."""
        found = self._known.get(hashed(text))
        if found is None or now >= found.expires_at:
            return None
        if found.snapshot is not snapshot:
            issuer = issuer_of(found.claims, snapshot)
            if issuer is None or replace(issuer, rules=()) != replace(found.issuer, rules=()):
                return None
            found.issuer, found.snapshot = issuer, snapshot
            found.principal = principal_by(found.claims, issuer, snapshot)
        if not is_for(found.claims, found.issuer, audience):
            return None
        return Identified(found.principal, found.expires_at)

    def verify(
        self, text: str, audience: Audience, snapshot: Snapshot, now: float, *, may_wait: bool = True
    ) -> Identified | Refusal | NeedsWaiting[Identified]:
        """Whose it is, by its signature. `may_wait`: whether keys may be fetched for it."""
        try:
            token = read(text)
            issuer = issuer_of(token.claims, snapshot)
            if issuer is None:
                raise Refused("unknown_issuer", f"Its issuer {named(token.claims.get('iss'))} is not accepted here.")
            expires_at = check_claims(token, issuer, audience, now)
            keys = self.key_sets.of(issuer)
            current = keys.current if keys is not None else None
            key = current.find(token) if current is not None else None
            if key is None:
                fetching = keys.fetch_for_unknown_key() if keys is not None and may_wait else None
                if fetching is not None:
                    return NeedsWaiting(partial(self._after_fetch, fetching, text, audience, snapshot))
                if current is None:
                    return Refusal(unreachable())
                raise Refused("unknown_key_id")
            key.verify(token)
        except Refused as refused:
            return Refusal(refused.error)
        principal = principal_by(token.claims, issuer, snapshot)
        self._remember(text, Verified(token.claims, issuer, key.thumbprint, expires_at, len(text), snapshot, principal))
        return Identified(principal, expires_at)

    async def _after_fetch(
        self, fetching: asyncio.Task[None], text: str, audience: Audience, snapshot: Snapshot
    ) -> Identified | Refusal:
        await asyncio.shield(fetching)
        found = self.verify(text, audience, snapshot, self._clock.now(), may_wait=False)
        assert not isinstance(found, NeedsWaiting)
        return found

    def _remember(self, text: str, verified: Verified) -> None:
        while self._known and (len(self._known) >= KNOWN_TOKENS or self._bytes + verified.size > KNOWN_BYTES):
            self._forget(next(iter(self._known)))
        digest = hashed(text)
        self._forget(digest)
        self._known[digest] = verified
        self._bytes += verified.size

    def _forget(self, digest: bytes) -> None:
        found = self._known.pop(digest, None)
        if found is not None:
            self._bytes -= found.size

    def _withdrawn(self, thumbprints: frozenset[bytes]) -> None:
        for digest in [digest for digest, found in self._known.items() if found.key in thumbprints]:
            self._forget(digest)
        self.on_withdrawn()


def hashed(text: str) -> bytes:
    """By which a token is remembered."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def issuer_of(claims: Any, snapshot: Snapshot) -> TokenIssuer | None:
    """The entry whose issuer the token names."""
    found = claims.get("iss")
    issuers: tuple[TokenIssuer, ...] = snapshot.issuers
    return next((issuer for issuer in issuers if isinstance(found, str) and found in issuer.accepted), None)


def principal_by(claims: Any, issuer: TokenIssuer, snapshot: Snapshot) -> Principal:
    """The claims' principal, and a word about groups that the token does not list."""
    principal = principal_of(claims, issuer.issuer, issuer.rules, snapshot)
    if not has_group_overage(claims):
        return principal
    _logger.warning("group_overage: %s is in more groups than its token lists; use app roles", principal.name)
    return replace(principal, advice=OVERAGE)


def unreachable() -> Unavailable:
    """For a token that nothing can be said about."""
    error = Unavailable("The keys of the token's issuer cannot be fetched now.", retry_after=UNREACHABLE_RETRY)
    error.reason = "issuer_unreachable"
    return error
