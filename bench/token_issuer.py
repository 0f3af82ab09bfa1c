"""An issuer whose tokens a benched server accepts: its description and its keys on loopback, and one token."""

from __future__ import annotations

import json
import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

AUDIENCE = "https://cognitiveservices.azure.com"
SECONDS = 86_400


class Issuer:
    """Runs until the process ends."""

    def __init__(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        members = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        documents: dict[str, Any] = {"/keys": {"keys": [{**members, "kid": "bench", "use": "sig"}]}}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(documents.get(self.path, {})).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}/bench"
        described = {"issuer": self.url, "jwks_uri": self.url.removesuffix("/bench") + "/keys"}
        documents["/bench/.well-known/openid-configuration"] = described
        threading.Thread(target=server.serve_forever, daemon=True).start()
        now = int(time.time())
        claims: dict[str, Any] = {"iss": self.url, "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + SECONDS}
        claims |= {
            "sub": "bench",
            "azp": "bench",
            "roles": ["Inference User"],
            "groups": [f"group-{n}" for n in range(20)],
        }
        self.token = jwt.encode(claims, key, algorithm="RS256", headers={"kid": "bench"})
        """About a kilobyte, as Entra's are."""


@cache
def issuer() -> Issuer:
    """The one of this process."""
    return Issuer()
