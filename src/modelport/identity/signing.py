"""The keys that sign tokens, and the set that verifiers fetch. RS256 alone, as Entra."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from modelport.identity.identities import IdentityFault, replace_private

KEY_BITS: Final = 2048


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key. `published_at`: unix seconds at which it came into the set."""

    kid: str
    private: rsa.RSAPrivateKey
    published_at: float

    @property
    def public_jwk(self) -> dict[str, Any]:
        """As verifiers get it."""
        members = jwt.algorithms.RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {"kty": "RSA", "use": "sig", "kid": self.kid, "alg": "RS256", "n": members["n"], "e": members["e"]}


class SigningKeys:
    """The key that signs now, those before it whose tokens still count, and the one after it.

    A new key is published for half of `rotate_seconds` before it signs, so that a verifier knows it in time. Keys are
    stored in `file`, so that tokens outlive a restart.
    """

    def __init__(
        self, file: Path, now: Callable[[], float], *, token_seconds: float, rotate_seconds: float | None = None
    ) -> None:
        """Reads the keys, or makes the first one. Raises IdentityFault, OSError."""
        self._file = file
        self._now = now
        self._token_seconds = token_seconds
        self._rotate_seconds = rotate_seconds
        self._keys = _read(file)
        if not self._keys:
            self._publish()

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A token with these claims."""
        key = self._signing()
        return jwt.encode(dict(claims), key.private, algorithm="RS256", headers={"kid": key.kid})

    def key_set(self) -> dict[str, Any]:
        """The JWKS document."""
        return {"keys": [key.public_jwk for key in self._keys]}

    def rotate_if_due(self) -> bool:
        """Publishes the next key where it is time, and drops those whose last token has expired; whether the set has
        changed."""
        now, before = self._now(), [key.kid for key in self._keys]
        if self._rotate_seconds is not None and now >= self._keys[-1].published_at + self._rotate_seconds:
            self._publish()
        # Until a key's successor signs, and then for the life of a token, the key is needed.
        until = [later.published_at + self._lead_seconds + self._token_seconds for later in self._keys[1:]]
        self._keys = [key for key, end in zip(self._keys, [*until, now + 1], strict=True) if now < end]
        changed = before != [key.kid for key in self._keys]
        if changed:
            self._write()
        return changed

    @property
    def _lead_seconds(self) -> float:
        return (self._rotate_seconds or 0) / 2

    def _signing(self) -> SigningKey:
        latest = self._now() - self._lead_seconds
        return next((key for key in reversed(self._keys) if key.published_at <= latest), self._keys[0])

    def _publish(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
        self._keys.append(SigningKey(secrets.token_urlsafe(16), key, self._now()))
        self._write()

    def _write(self) -> None:
        stored = [{"kid": key.kid, "pem": _pem(key.private), "published_at": key.published_at} for key in self._keys]
        replace_private(self._file, json.dumps(stored).encode())


def _pem(key: rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _read(file: Path) -> list[SigningKey]:
    try:
        stored = json.loads(file.read_text("ascii"))
        found = []
        for entry in stored:
            private = serialization.load_pem_private_key(entry["pem"].encode(), None)
            assert isinstance(private, rsa.RSAPrivateKey)
            found.append(SigningKey(str(entry["kid"]), private, float(entry["published_at"])))
        return found
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError):
        raise IdentityFault(f"{file} holds no signing keys; delete it, and the next start makes one") from None
