"""Whose a credential is: known keys and remembered tokens first, then the address's throttle, then signatures."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

from modelport.auth import anonymous, api_key
from modelport.auth.throttle import FailureThrottle
from modelport.core.catalog import Snapshot
from modelport.core.clock import Clock
from modelport.core.errors import TooManyFailures, Unauthenticated
from modelport.core.identity import Credential, Identified, TokenIssuer
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.ports.states import StoreState

if TYPE_CHECKING:
    from modelport.auth.oidc.authenticator import TokenAuthenticator
    from modelport.auth.oidc.key_sets import FetchDocument

_logger = logging.getLogger("modelport.auth")
OVER_HTTP: Final = (
    "Unauthorized. The access token was sent over plain http, where others can read it. Use https, and get a new token."
)
NO_TOKENS: Final = "Unauthorized. This server accepts keys, and no access tokens."


class Authentication:
    """core.ports.stages.Authenticator, for all kinds of credentials. One for each process that serves calls."""

    def __init__(self, fetch: FetchDocument, clock: Clock, failures_per_minute: int | None) -> None:
        self.throttle = FailureThrottle(failures_per_minute)
        self.failures: Counter[str] = Counter()
        """Refusals by the code of their reason."""
        self.on_withdrawn: Callable[[], None] = lambda: None
        """Called when keys of an issuer count no longer."""
        self._fetch = fetch
        self._clock = clock
        self._tokens: TokenAuthenticator | None = None

    def follow(self, issuers: Iterable[TokenIssuer], failures_per_minute: int | None) -> None:
        """What is configured now."""
        self.throttle.per_minute = failures_per_minute
        wanted = tuple(issuers)
        if self._tokens is None and wanted:
            from modelport.auth.oidc.authenticator import TokenAuthenticator  # with it comes cryptography

            self._tokens = TokenAuthenticator(self._fetch, self._clock)
            self._tokens.on_withdrawn = lambda: self.on_withdrawn()
        if self._tokens is not None:
            self._tokens.key_sets.follow(wanted)

    async def close(self) -> None:
        """Ends what runs in the background."""
        if self._tokens is not None:
            await self._tokens.key_sets.close()

    def states(self) -> list[StoreState]:
        """How the issuers are."""
        if self._tokens is None:
            return []
        return [
            StoreState(
                f"issuer {keys.source.issuer}", "ready" if keys.failure is None else "degraded", reason=keys.failure
            )
            for keys in self._tokens.key_sets.all()
        ]

    def __call__(
        self, credential: Credential, snapshot: Snapshot, now: float
    ) -> Identified | Refusal | NeedsWaiting[Identified]:
        found = api_key.authenticate(credential, snapshot, now)
        if isinstance(found, Identified):
            return found
        if not credential.shown:
            return anonymous.authenticate(credential, snapshot, now)
        text, tokens = token_in(credential), self._tokens
        if text is None:
            return self._counted(found, credential, now)
        if tokens is None or not snapshot.issuers:
            return self._counted(Refusal(Unauthenticated(NO_TOKENS, reason="tokens_not_accepted")), credential, now)
        if credential.peer.is_exposed:
            return self._noted(Refusal(Unauthenticated(OVER_HTTP, reason="token_over_http")))
        known = tokens.known(text, credential.audience, snapshot, now)
        if known is not None:
            return known
        if (throttled := self._throttled(credential, now)) is not None:
            return throttled
        outcome = tokens.verify(text, credential.audience, snapshot, now)
        if isinstance(outcome, NeedsWaiting):
            return NeedsWaiting(partial(self._after_waiting, outcome, credential))
        return self._counted(outcome, credential, now)

    async def _after_waiting(self, waiting: NeedsWaiting[Identified], credential: Credential) -> Identified | Refusal:
        return self._counted(await waiting.resume(), credential, self._clock.now())

    def _counted(self, outcome: Identified | Refusal, credential: Credential, now: float) -> Identified | Refusal:
        """A refusal is a failure of its address. Once it has too many, every refusal looks the same."""
        if isinstance(outcome, Refusal) and isinstance(outcome.error, Unauthenticated):
            if (throttled := self._throttled(credential, now)) is not None:
                return throttled
            if self.throttle.failed(credential.peer.address, now):
                what = "throttled: %s has shown %d credentials that are not valid; others are answered 429"
                _logger.warning(what, credential.peer.address, self.throttle.per_minute)
        return self._noted(outcome)

    def _throttled(self, credential: Credential, now: float) -> Refusal | None:
        seconds = self.throttle.seconds(credential.peer.address, now)
        if not seconds:
            return None
        refusal = Refusal(TooManyFailures(seconds, self.throttle.unlogged(credential.peer.address, now)))
        self._noted(refusal)
        return refusal

    def _noted(self, outcome: Identified | Refusal) -> Identified | Refusal:
        if isinstance(outcome, Refusal) and outcome.error.reason is not None:
            self.failures[outcome.error.reason.partition(":")[0]] += 1
        return outcome


def token_in(credential: Credential) -> str | None:
    """What looks like a token. A key can look like one only where it begins like one and has two dots."""
    return next((one.value for one in credential.shown if one.scheme == "bearer" and looks_like_token(one.value)), None)


def looks_like_token(value: str) -> bool:
    """Whether this has the form of a signed JWT."""
    return value.startswith(api_key.JWT_BEGINS) and value.count(".") == 2
