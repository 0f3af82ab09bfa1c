"""The public keys of an issuer (JWKS), and the verification of a signature with one of them. No I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK, PyJWS

from modelport.auth.oidc.tokens import Refused, Token

MOST_BYTES: Final = 1024 * 1024
MOST_KEYS: Final = 1024
RSA_BITS: Final = range(2048, 16_385)
KINDS: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
"""The `kty` of a key, by the beginning of the algorithm that it is for."""


class UnusableKeySet(Exception):
    """The document is no set of keys; the text says why."""


class SigningKey:
    """One public key. It is built when a signature is verified with it for the first time."""

    __slots__ = ("_built", "_members", "thumbprint")

    def __init__(self, members: dict[str, Any]) -> None:
        self._members = members
        self._built: dict[str, PyJWK] = {}
        self.thumbprint = hashlib.sha256(msgspec.json.encode(members, order="deterministic")).digest()

    def fits(self, algorithm: str) -> bool:
        """Whether signatures of this algorithm can be its own: the key decides, and not the token alone."""
        members, operations = self._members, self._members.get("key_ops")
        return (
            members.get("kty") == KINDS.get(algorithm[:2])
            and members.get("use") in (None, "sig")
            and members.get("alg") in (None, algorithm)
            and (operations is None or (isinstance(operations, list) and "verify" in operations))
            and "d" not in members  # the private half: anyone can sign with what is published
        )

    def verify(self, token: Token) -> None:
        """Raises Refused."""
        algorithm = token.algorithm
        try:
            key = self._built.get(algorithm)
            if key is None:
                key = PyJWK.from_dict(self._members, algorithm=algorithm)
                if isinstance(key.key, RSAPublicKey) and key.key.key_size not in RSA_BITS:
                    raise Refused("signature")
                self._built[algorithm] = key
            PyJWS(algorithms=[algorithm]).decode_complete(token.text, key, algorithms=[algorithm])
        except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, RecursionError):
            raise Refused("signature") from None


class KeySet:
    """The keys that an issuer publishes at one moment."""

    def __init__(self, keys: Sequence[dict[str, Any]]) -> None:
        self._by_id: dict[str | None, list[SigningKey]] = {}
        for members in keys:
            id = members.get("kid")
            self._by_id.setdefault(id if isinstance(id, str) else None, []).append(SigningKey(members))
        self.thumbprints = frozenset(key.thumbprint for found in self._by_id.values() for key in found)

    @classmethod
    def read(cls, document: bytes) -> KeySet:
        """From a JWKS document. Raises UnusableKeySet."""
        if len(document) > MOST_BYTES:
            raise UnusableKeySet(f"it is longer than {MOST_BYTES} bytes")
        try:
            found = msgspec.json.decode(document)
        except (ValueError, msgspec.MsgspecError, RecursionError):
            raise UnusableKeySet("it is no JSON") from None
        keys = found.get("keys") if isinstance(found, dict) else None
        if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
            raise UnusableKeySet("it has no list `keys`")
        if len(keys) > MOST_KEYS:
            raise UnusableKeySet(f"it has more than {MOST_KEYS} keys")
        public = [key for key in keys if key.get("kty") in KINDS.values()]
        if not public:
            raise UnusableKeySet("it has no public key")
        return cls(public)

    def find(self, token: Token) -> SigningKey | None:
        """The key that a token names. One that names none is verified with the only key, if there is only one."""
        if token.key_id is None and len(self.thumbprints) == 1:
            named = [key for found in self._by_id.values() for key in found]
        else:
            named = self._by_id.get(token.key_id, [])
        return next((key for key in named if key.fits(token.algorithm)), None)
