"""An issuer of tokens for tests, which can do everything that a broken or hostile one can."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

AUDIENCE: Final = "https://cognitiveservices.azure.com"
MANAGEMENT: Final = "https://management.azure.com"
TENANT: Final = "0f1a2b3c-4d5e-6f70-8192-a3b4c5d6e7f8"
ROLES: Final = [
    {"claim": "roles", "value": "Inference User", "role": "Inference User"},
    {"claim": "roles", "value": "Administrator", "role": "Administrator"},
]


@cache
def private_key(name: str) -> rsa.RSAPrivateKey:
    """Made once for all tests of a process: it takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@cache
def curve_key(name: str) -> ec.EllipticCurvePrivateKey:
    """On P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def jwk(kid: str, **members: Any) -> dict[str, Any]:
    """The public half of the RSA key of this name, as a key set has it."""
    found = jwt.algorithms.RSAAlgorithm.to_jwk(private_key(kid).public_key(), as_dict=True)
    return {"kty": "RSA", "use": "sig", "kid": kid, "n": found["n"], "e": found["e"], **members}


def claims_of(issuer: str, **more: Any) -> dict[str, Any]:
    """An application with the role Inference User, for an hour. A claim that is None is left out."""
    now = int(time.time())
    claims = {
        "iss": issuer,
        "aud": AUDIENCE,
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "oid": "11111111-2222-3333-4444-555555555555",
        "sub": "11111111-2222-3333-4444-555555555555",
        "appid": "99999999-8888-7777-6666-555555555555",
        "idtyp": "app",
        "tid": TENANT,
        "roles": ["Inference User"],
        **more,
    }
    return {name: value for name, value in claims.items() if value is not None}


def signed(claims: Mapping[str, Any], kid: str | None = "one", *, key: Any = None, algorithm: str = "RS256") -> str:
    """A token. `key` None: the RSA key of the name `kid`."""
    headers = {"kid": kid} if kid is not None else {}
    return jwt.encode(dict(claims), key or private_key(kid or "one"), algorithm=algorithm, headers=headers)


class TokenIssuer:
    """Discovery and keys on loopback, over plain http. `url` is its `iss`."""

    def __init__(self, path: str = f"/{TENANT}/") -> None:
        self.keys: list[dict[str, Any]] = [jwk("one")]
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        """Instead of what a path would answer: status, headers, body."""
        self.fetches: list[str] = []
        """The path of each request."""
        self.path = path
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return self.base + self.path

    @property
    def key_fetches(self) -> int:
        """How often the key set was asked for."""
        return self.fetches.count("/keys")

    def entry(self, **more: Any) -> dict[str, Any]:
        """For `auth.oidc`."""
        return {"issuer": self.url, "audiences": [AUDIENCE, "https://ml.azure.com"], "roles": ROLES, **more}

    def token(self, kid: str | None = "one", **claims: Any) -> str:
        """A good one, but for what is changed."""
        return signed(claims_of(self.url, **claims), kid)

    def close(self) -> None:
        """It is down: connections are refused."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        if path in self.answers:
            return self.answers[path]
        if path.endswith("/.well-known/openid-configuration"):
            described = {"issuer": self.url, "jwks_uri": f"{self.base}/keys"}
            return 200, {}, json.dumps(described).encode()
        if path == "/keys":
            return 200, {}, json.dumps({"keys": self.keys}).encode()
        return 404, {}, b"{}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetches.append(self.path)
                status, headers, body = issuer._answer(self.path)
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        return Handler


@contextlib.contextmanager
def issuing(path: str = f"/{TENANT}/") -> Iterator[TokenIssuer]:
    """An issuer that is closed at the end."""
    issuer = TokenIssuer(path)
    try:
        yield issuer
    finally:
        issuer.close()
