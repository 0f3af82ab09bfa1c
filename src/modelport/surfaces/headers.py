"""What a request's head says, in our words; and the headers that every response carries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final
from urllib.parse import parse_qsl, quote

import msgspec
from msgspec import Struct

from modelport.core.errors import (
    BadRequest,
    MethodNotAllowed,
    ModelportError,
    Unauthenticated,
    UnsupportedEncoding,
)
from modelport.core.excerpts import NAMES_SHOWN, excerpt
from modelport.core.identity import Credential, Peer, Shown
from modelport.core.limit_errors import BudgetExhausted, RateLimited
from modelport.core.quota import QuotaState
from modelport.dialects import fresh_ids
from modelport.dialects.error_body import ErrorBody
from modelport.surfaces.asgi import Headers, Scope
from modelport.surfaces.peers import FORWARDED_FOR, Link

EXTRA_PARAMETERS: Final = (b"extra-parameters", b"extra-params", b"unknown-parameters")
"""Spellings that clients send, in order of precedence: the specification's, the JavaScript document's, early SDKs'."""
EXTRA_PARAMETERS_MODES: Final = frozenset({"error", "drop", "pass-through"})

EXPLAIN: Final = b"x-modelport-explain"

DECISIVE: Final = (
    b"api-key",
    b"authorization",
    b"ocp-apim-subscription-key",
    *EXTRA_PARAMETERS,
    b"azureml-model-deployment",
    b"x-ms-model-mesh-model-name",
    b"origin",
    EXPLAIN,
)
"""All headers that decide what happens to an inference call, and who may read its answer. A caller is known again by
these and the URL alone (gateway/plan.py)."""

API_VERSION: Final = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?|preview|latest|v1")

UNKNOWN_LINK: Final = Link()
LISTS: Final = (b"content-encoding", FORWARDED_FOR)
"""Fields of which every line counts."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9._~-]*")
ECHOABLE: Final = re.compile(rb"[\x21-\x7e]{1,128}")
_MAX_LISTED_BYTES: Final = 2048


class RequestHead(Struct, frozen=True, kw_only=True):
    """A request without its body."""

    method: str
    path: str
    """As sent, still percent-encoded."""
    headers: dict[bytes, bytes]
    """As `fields_of` gives them."""
    query: dict[str, str] = msgspec.field(default_factory=dict)
    """The first value of each name; empty values are absent."""
    request_id: str
    """Ours, for this request alone."""
    link: Link = UNKNOWN_LINK
    """The connection that it came by."""

    @classmethod
    def of(cls, scope: Scope, link: Link = UNKNOWN_LINK) -> RequestHead:
        """Read from the server's scope."""
        query: dict[str, str] = {}
        if scope["query_string"]:
            for name, text in parse_qsl(scope["query_string"].decode("latin-1")):
                query.setdefault(name, text)
        raw_path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
        return cls(
            method=scope["method"],
            path=raw_path.decode("latin-1"),
            headers=fields_of(scope["headers"]),
            query=query,
            request_id=fresh_ids.uuid(),
            link=link,
        )

    def text(self, name: bytes) -> str | None:
        """One header's value; None when absent or empty."""
        value = self.headers.get(name, b"").strip()
        return value.decode("latin-1") if value else None

    @property
    def peer(self) -> Peer:
        """Who sends it."""
        return self.link.client(self.headers)

    @property
    def credential(self) -> Credential:
        """Every key or token shown."""
        headers = self.headers
        authorization = headers.get(b"authorization", b"").strip().decode("latin-1")
        scheme, _, token = authorization.partition(" ")
        bearer = token.strip(" \t") if scheme.lower() == "bearer" else ""
        found = (
            ("api-key", "", self.text(b"api-key")),
            ("authorization", "bearer", bearer),
            ("ocp-apim-subscription-key", "", self.text(b"ocp-apim-subscription-key")),
        )
        return Credential(
            shown=tuple(Shown(header, scheme, value) for header, scheme, value in found if value),
            is_malformed=not bearer and (bool(authorization) or b"api-key" in headers),
            peer=self.peer,
        )

    @property
    def client_request_id(self) -> str | None:
        """The caller's own id, where it can be echoed as it is."""
        value = self.headers.get(b"x-ms-client-request-id", b"").strip()
        return value.decode("ascii") if ECHOABLE.fullmatch(value) else None

    @property
    def extra_parameters(self) -> str | None:
        """What to do with unknown body fields. A known mode in its own spelling; anything else as sent."""
        for name in EXTRA_PARAMETERS:
            value = self.text(name)
            if value is not None:
                mode = value.lower().replace("_", "-")
                return mode if mode in EXTRA_PARAMETERS_MODES else value
        return None

    @property
    def explains(self) -> bool:
        """Whether it is only to be said what the call would do."""
        return self.headers.get(EXPLAIN, b"").strip().lower() == b"true"

    @property
    def api_version(self) -> str | None:
        """The `api-version` asked for. Raises BadRequest for what is no version."""
        version = self.query.get("api-version")
        if version is not None and API_VERSION.fullmatch(version) is None:
            raise BadRequest("API version not supported")
        return version

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for our word before it sends the body."""
        return self.headers.get(b"expect", b"").lower() == b"100-continue"

    @property
    def content_length(self) -> int | None:
        """The body's length, where it is announced."""
        value = self.headers.get(b"content-length", b"").strip()
        return int(value) if value.isdigit() else None

    @property
    def content_encoding(self) -> str | None:
        """How the body is encoded; None for a body as it is."""
        value = self.text(b"content-encoding")
        return None if value is None or value.lower() == "identity" else value


def fields_of(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """By lower-case name. The first of several wins; of LISTS, all are joined."""
    fields = dict(reversed(headers))
    if len(fields) != len(headers):
        for name in LISTS:
            if name in fields:
                fields[name] = b", ".join(value for found, value in headers if found == name)
    return fields


def common_headers(head: RequestHead, region: bytes) -> Headers:
    """What every response of ours carries."""
    request_id = head.request_id.encode()
    echoed = head.client_request_id
    return [
        (b"x-request-id", request_id),
        (b"apim-request-id", request_id),
        (b"x-ms-client-request-id", echoed.encode() if echoed else request_id),
        (b"x-ms-region", region),
        (b"x-content-type-options", b"nosniff"),
    ]


def error_headers(error: ModelportError, encoded: ErrorBody) -> Headers:
    """What a refusal adds: the dialect's own headers, and what every surface says of a used-up quota."""
    headers = {name.encode("ascii"): printable(value) for name, value in encoded.headers}
    headers.setdefault(b"x-ms-error-code", printable(encoded.code))
    if isinstance(error, BudgetExhausted) and error.retry_after is None:
        # OpenAI's clients would come again at once, Azure's only after a time that we name.
        headers[b"x-should-retry"] = b"false"
    elif encoded.status in (429, 503):
        seconds = max(1, error.retry_after or 1)
        headers.setdefault(b"retry-after", b"%d" % seconds)
        if encoded.status == 429:
            headers.setdefault(b"retry-after-ms", b"%d" % (1000 * seconds))
    else:
        # azure-core re-sends whatever carries it, even a 400.
        headers.pop(b"retry-after", None)
    if isinstance(error, RateLimited | BudgetExhausted):
        for name, value in [*_used_up(error), *quota_headers(error.quota or QuotaState())]:
            headers.setdefault(name, value)
    if isinstance(error, UnsupportedEncoding):
        headers.setdefault(b"accept-encoding", b"identity")
    if isinstance(error, Unauthenticated) and error.authorization_uri is not None:
        headers[b"www-authenticate"] = challenge(error.authorization_uri)
    if isinstance(error, MethodNotAllowed):
        headers.setdefault(b"allow", ", ".join(error.allow).encode())
    return list(headers.items())


def challenge(authorization_uri: str) -> bytes:
    """`WWW-Authenticate`: where a client gets a token."""
    return b'Bearer authorization_uri="%b"' % printable(authorization_uri).replace(b'"', b"%22")


def _used_up(error: RateLimited | BudgetExhausted) -> Headers:
    if isinstance(error, BudgetExhausted) or error.kind not in ("requests", "tokens") or error.limit is None:
        return []
    kind = error.kind.encode()
    # What is left is too little for this call; small clients read anything but 0 as an invitation.
    return [
        (b"x-ratelimit-limit-" + kind, b"%d" % error.limit),
        (b"x-ratelimit-remaining-" + kind, b"0"),
        (b"x-ratelimit-reset-" + kind, b"%d" % max(1, error.retry_after or 1)),
    ]


def quota_headers(quota: QuotaState) -> Headers:
    """What is left, where there are limits."""
    headers: Headers = []
    reset, reset_tokens = quota.reset_seconds, quota.reset_tokens_seconds
    for kind, limit, remaining, seconds in (
        (b"requests", quota.limit_requests, quota.remaining_requests, reset),
        (b"tokens", quota.limit_tokens, quota.remaining_tokens, reset if reset_tokens is None else reset_tokens),
    ):
        if limit is not None:
            headers.append((b"x-ratelimit-limit-" + kind, b"%d" % limit))
            headers.append((b"x-ratelimit-remaining-" + kind, b"%d" % max(0, remaining or 0)))
            headers.append((b"x-ratelimit-reset-" + kind, b"%d" % max(0, seconds)))
    return headers


def listed(names: Iterable[str]) -> bytes:
    """Names as one header value. They are the caller's own body keys, so anything may stand in them."""
    shown = islice(names, NAMES_SHOWN)
    return b", ".join(printable(excerpt(name)).replace(b",", b"%2C") for name in shown)[:_MAX_LISTED_BYTES]


def printable(text: str) -> bytes:
    """Text that may stand in a header: what is not plain ASCII is percent-encoded."""
    if _PLAIN.fullmatch(text):
        return text.encode("ascii")
    return quote(text, safe=" !#$&'()*+,-./:;<=>?@[]^_`{|}~").encode("ascii")
