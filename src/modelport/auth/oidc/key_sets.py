"""Key sets of issuers: found by discovery, fetched in the background, kept while an issuer is down."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Protocol

import msgspec

from modelport.auth.oidc.issuers import is_safe, names_of
from modelport.auth.oidc.keys import MOST_BYTES, KeySet, UnusableKeySet
from modelport.core.clock import Clock
from modelport.core.errors import ModelportError
from modelport.core.identity import TokenIssuer

REFRESH_SECONDS: Final = 300.0
"""A key that its issuer has withdrawn counts for so long at most, while the issuer answers."""
RETRY_SECONDS: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Between attempts while the issuer does not answer."""
UNKNOWN_KEY_SECONDS: Final = 5.0
"""A token with an unknown key id fetches the set anew, no more often than this."""
STALE_SECONDS: Final = 86_400.0
"""A set that cannot be fetched anew serves for so long."""

_logger = logging.getLogger("modelport.auth")


class FetchDocument(Protocol):
    """Fetches a JSON document over HTTP."""

    def __call__(self, url: str, ca_file: str | None, proxy: str | None, most_bytes: int) -> Awaitable[bytes]:
        """The body of a 200. Follows no redirect. Raises ModelportError for any other end."""
        ...


class Source(msgspec.Struct, frozen=True):
    """Where a key set comes from."""

    issuer: str
    ca_file: str | None
    proxy: str | None

    @classmethod
    def of(cls, issuer: TokenIssuer) -> Source:
        """That of an issuer's keys."""
        return cls(issuer.issuer, issuer.ca_file, issuer.proxy)


class IssuerKeys:
    """The key set of one issuer."""

    def __init__(
        self, source: Source, fetch: FetchDocument, clock: Clock, withdrawn: Callable[[frozenset[bytes]], None]
    ) -> None:
        """`withdrawn`: called with the thumbprints of the keys that count no longer."""
        self.source = source
        self.failure: str | None = None
        """Why the last fetch brought no set."""
        self._fetch = fetch
        self._clock = clock
        self._withdrawn = withdrawn
        self._names = names_of(source.issuer)
        self._set: KeySet | None = None
        self._fetched_at = -STALE_SECONDS
        self._asked_at = -UNKNOWN_KEY_SECONDS
        self._fetching: asyncio.Task[None] | None = None
        self._failures = 0

    @property
    def current(self) -> KeySet | None:
        """The set that counts; None: there is none yet, or it has not been fetched for too long."""
        if self._set is not None and self._clock.monotonic() - self._fetched_at >= STALE_SECONDS:
            self._replace(None)
        return self._set

    def fetch_for_unknown_key(self) -> asyncio.Task[None] | None:
        """A fetch that is shared by all who wait for it; None: the last one for an unknown key was a moment ago."""
        now = self._clock.monotonic()
        if self._fetching is None:
            if now - self._asked_at < UNKNOWN_KEY_SECONDS:
                return None
            self._asked_at = now
        return self.fetch()

    def fetch(self) -> asyncio.Task[None]:
        """The fetch that is under way, else a new one. It never raises."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch_now())
        return self._fetching

    async def keep(self) -> None:
        """Fetches the set again and again."""
        while True:
            await asyncio.shield(self.fetch())
            seconds = REFRESH_SECONDS
            if self.failure is not None:
                seconds = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS)) - 1]
            await asyncio.sleep(seconds)

    def withdraw(self) -> None:
        """None of its keys counts any longer, nor does a token that was verified by one."""
        self._replace(None)

    def close(self) -> None:
        """Ends a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()

    async def _fetch_now(self) -> None:
        try:
            found = await self._found()
        except Exception as error:  # noqa: BLE001  whatever an issuer answers, it is asked again
            is_known = isinstance(error, ModelportError | UnusableKeySet | ValueError)
            reason = str(error) if is_known else type(error).__name__
            state = "its tokens are answered 503" if self.current is None else "its last keys serve"
            if self.failure is None:
                _logger.warning("issuer %s gives no keys: %s; %s", self.source.issuer, reason, state)
            self.failure = reason
            self._failures += 1
        else:
            if self.failure is not None:
                _logger.warning("issuer %s gives keys again", self.source.issuer)
            self.failure, self._failures = None, 0
            self._fetched_at = self._clock.monotonic()
            self._replace(found)
        finally:
            self._fetching = None

    async def _found(self) -> KeySet:
        described = _object(await self._fetched(self._names.discovery))
        issuer, address = described.get("issuer"), described.get("jwks_uri")
        if not isinstance(issuer, str) or issuer not in self._names.accepted:
            raise UnusableKeySet(
                f"{self._names.discovery} describes the issuer {str(issuer)[:200]!r}; "
                "write auth.oidc[].issuer exactly so, slash included"
            )
        is_local = self.source.issuer.startswith("http:")
        if not isinstance(address, str) or not is_safe(address, may_be_local=is_local):
            raise UnusableKeySet("its jwks_uri is no https address")
        return KeySet.read(await self._fetched(address))

    def _fetched(self, url: str) -> Awaitable[bytes]:
        return self._fetch(url, self.source.ca_file, self.source.proxy, MOST_BYTES)

    def _replace(self, new: KeySet | None) -> None:
        before, self._set = self._set, new
        if before is not None:
            gone = before.thumbprints - (new.thumbprints if new is not None else frozenset())
            if gone:
                self._withdrawn(gone)


class KeySets:
    """Those of all issuers that are configured."""

    def __init__(self, fetch: FetchDocument, clock: Clock, withdrawn: Callable[[frozenset[bytes]], None]) -> None:
        self._fetch = fetch
        self._clock = clock
        self._withdrawn = withdrawn
        self._kept: dict[Source, tuple[IssuerKeys, asyncio.Task[None]]] = {}

    def follow(self, issuers: Iterable[TokenIssuer]) -> None:
        """Keeps the sets of these issuers, and no others."""
        wanted = set(map(Source.of, issuers))
        for source in self._kept.keys() - wanted:
            keys, task = self._kept.pop(source)
            task.cancel()  # a fetch that is under way may have callers that wait for it
            keys.withdraw()
        for source in wanted - self._kept.keys():
            keys = IssuerKeys(source, self._fetch, self._clock, self._withdrawn)
            self._kept[source] = keys, asyncio.create_task(keys.keep())

    def of(self, issuer: TokenIssuer) -> IssuerKeys | None:
        """The set of this issuer; None: it was removed meanwhile."""
        found = self._kept.get(Source.of(issuer))
        return found[0] if found is not None else None

    def all(self) -> list[IssuerKeys]:
        """Every set."""
        return [keys for keys, _ in self._kept.values()]

    async def close(self) -> None:
        """Ends all fetches."""
        kept = list(self._kept.values())
        self.follow(())
        for keys, task in kept:
            keys.close()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _object(document: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(document, type=dict[str, Any])
    except (ValueError, msgspec.MsgspecError, RecursionError):
        raise UnusableKeySet("its description is no JSON object") from None
