"""The authenticator with a clock that a test moves, and a network that it answers for."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from msgspec.structs import replace

from modelport.auth.authenticate import Authentication
from modelport.auth.oidc.issuers import names_of
from modelport.core.catalog import Snapshot
from modelport.core.errors import ModelportError, UpstreamFailed
from modelport.core.identity import ClaimRule, Credential, Identified, Peer, Shown, TokenIssuer
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.roles import Grant, Role
from scripted_issuer import AUDIENCE, claims_of, jwk, signed

URL = "https://login.example/"
START = 1_700_000_000
RULE = ClaimRule("roles", "Inference User", Grant(Role.INFERENCE_USER))


def issuer(url: str = URL, **more: Any) -> TokenIssuer:
    names = names_of(url)
    usual = TokenIssuer(
        issuer=url,
        accepted=names.accepted,
        audiences=frozenset({AUDIENCE}),
        tenant=names.tenant,
        authorization_uri=names.authorization_uri,
        rules=(RULE,),
    )
    return replace(usual, **more)


def snapshot(*issuers: TokenIssuer, id: str = "s") -> Snapshot:
    return Snapshot(id=id, deployments={}, key_salt=b"salt", issuers=issuers or (issuer(),))


class World:
    """Clock and network."""

    def __init__(self, per_minute: int | None = None) -> None:
        self.seconds = 0.0
        self.keys: list[dict[str, Any]] = [jwk("one")]
        self.described: dict[str, Any] = {"issuer": URL, "jwks_uri": "https://login.example/keys"}
        self.is_down = False
        self.fetches = 0
        self.withdrawals = 0
        self.gate: asyncio.Event | None = None
        self.authentication = Authentication(self.fetch, self, per_minute)
        self.authentication.on_withdrawn = self.withdrawn

    def withdrawn(self) -> None:
        self.withdrawals += 1

    def now(self) -> float:
        return START + self.seconds

    def monotonic(self) -> float:
        return self.seconds

    async def fetch(self, url: str, ca_file: str | None, proxy: str | None, most_bytes: int) -> bytes:
        if url.endswith("/keys"):
            self.fetches += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.is_down:
            raise UpstreamFailed("connection refused")
        return json.dumps({"keys": self.keys} if url.endswith("/keys") else self.described).encode()

    def token(self, kid: str | None = "one", **claims: Any) -> str:
        now = int(self.now())
        return signed(
            claims_of(URL, **{"iat": now, "nbf": now, "exp": now + 3600, "jti": str(uuid.uuid4()), **claims}), kid
        )

    def asks(
        self, token: str, known: Snapshot, address: str = "10.0.0.1"
    ) -> Identified | Refusal | NeedsWaiting[Identified]:
        credential = Credential((Shown("authorization", "bearer", token),), peer=Peer(address))
        return self.authentication(credential, known, self.now())

    async def finds(self, token: str, known: Snapshot, address: str = "10.0.0.1") -> Identified | ModelportError:
        found = self.asks(token, known, address)
        if isinstance(found, NeedsWaiting):
            found = await found.resume()
        return found.error if isinstance(found, Refusal) else found

    async def reason(self, token: str, known: Snapshot, address: str = "10.0.0.1") -> str | None:
        found = await self.finds(token, known, address)
        return None if isinstance(found, Identified) else found.reason

    async def refetch(self) -> None:
        """As the background does."""
        tokens = self.authentication._tokens
        assert tokens is not None
        for keys in tokens.key_sets.all():
            await keys.fetch()


def played(scenario: Callable[[World], Awaitable[None]], per_minute: int | None = None, *issuers: TokenIssuer) -> None:
    async def play() -> None:
        world = World(per_minute)
        world.authentication.follow(issuers or (issuer(),), per_minute)
        try:
            await scenario(world)
        finally:
            await world.authentication.close()

    asyncio.run(play())
