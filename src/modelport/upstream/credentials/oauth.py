"""OAuth 2.0's client credentials grant (RFC 6749, 4.4), through the gateway's own transport."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any, Final, Literal
from urllib.parse import quote_plus, urlencode, urlsplit

import msgspec
from msgspec import Struct

from modelport.core.catalog import Timeouts
from modelport.core.errors import ModelportError
from modelport.core.ports.providers import Address, Transport, UpstreamRequest
from modelport.upstream.credentials.source import FETCH_SECONDS, AccessToken, TokenFault

ClientAuthentication = Literal["client_secret_post", "client_secret_basic"]
ANSWER_BYTES: Final = 65_536
DEFAULT_SECONDS: Final = 300.0
"""Of a token whose server does not say how long it is valid."""
LONGEST_SECONDS: Final = 86_400.0 * 30
WORDS_CHARACTERS: Final = 500
_TIMEOUTS: Final = Timeouts(connect=10.0, whole=FETCH_SECONDS)
_SENDABLE: Final = re.compile(r"[\x21-\x7e]{1,16384}")


class ClientCredentials(Struct, frozen=True):
    """An application at a token server. `more`: further fields of the request, such as its scope."""

    token_url: str
    client_id: str
    client_secret: str
    client_authentication: ClientAuthentication = "client_secret_post"
    more: Sequence[tuple[str, str]] = ()
    ca_file: str | None = None
    proxy: str | None = None
    verify_tls: bool = True

    def __repr__(self) -> str:
        return "ClientCredentials(…)"

    @property
    def address(self) -> Address:
        """Where the token server is."""
        parts = urlsplit(self.token_url)
        return Address(
            f"{parts.scheme}://{parts.netloc}", verify_tls=self.verify_tls, ca_file=self.ca_file, proxy=self.proxy
        )

    def request(self) -> UpstreamRequest:
        """What it is asked."""
        parts = urlsplit(self.token_url)
        form = [("grant_type", "client_credentials"), *self.more]
        headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Accept", "application/json")]
        if self.client_authentication == "client_secret_basic":
            pair = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"
            headers.append(("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}"))
        else:
            form += [("client_id", self.client_id), ("client_secret", self.client_secret)]
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return UpstreamRequest(path, urlencode(form).encode(), tuple(headers))


async def fetch_token(credentials: ClientCredentials, transport: Transport) -> AccessToken:
    """A token. Raises TokenFault."""
    try:
        async with transport.send(credentials.address, credentials.request(), _TIMEOUTS) as answer:
            return read_token(answer.status, await answer.body(ANSWER_BYTES))
    except ModelportError as error:
        raise TokenFault(f"the token server: {error.message}") from None


def read_token(status: int, body: bytes) -> AccessToken:
    """The token in an answer of a token server. Raises TokenFault."""
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise TokenFault(f"the token server answered {status} without a JSON object")
    if status != 200:
        words = ": ".join(str(found[key]) for key in ("error", "error_description") if found.get(key))
        raise TokenFault(f"the token server answered {status} {printable(words)}".rstrip())
    value, kind = found.get("access_token"), found.get("token_type", "Bearer")
    if not isinstance(value, str) or _SENDABLE.fullmatch(value) is None:
        raise TokenFault("the token server's answer holds no access_token that can be sent in a header")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise TokenFault(f"the token server issues tokens of type {printable(str(kind))}, and no Bearer tokens")
    return AccessToken(value, _seconds(found.get("expires_in")))


def printable(words: str) -> str:
    """A foreign text for one line of a log."""
    return "".join(char if char.isprintable() else " " for char in words[:WORDS_CHARACTERS])


def _seconds(given: object) -> float:
    """`expires_in`; some servers send it as text."""
    try:
        seconds = float(given) if isinstance(given, int | float | str) else DEFAULT_SECONDS
    except ValueError:
        seconds = DEFAULT_SECONDS
    if not seconds > 0:
        raise TokenFault("the token server issued a token that has expired")
    return min(seconds, LONGEST_SECONDS)
