"""The secrets key: seals what the control plane stores, and is the source of the key that hashes callers' keys."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final

SEALED_BYTES: Final = 12
"""Of a nonce; the rest of a sealed text is the ciphertext."""


class SealBroken(Exception):
    """A sealed text was changed, was moved, or belongs to another secrets key."""


class Sealer:
    """AES-256-GCM. A sealed text can be opened only with the same key, at the place that it was sealed for."""

    def __init__(self, secret: str) -> None:
        """`secret`: any text; what is needed is derived from it."""
        self._key = _derived(secret, b"modelport secrets")
        self.salt = _derived(secret, b"modelport keys")
        """The key of callers' hashes."""
        self.fingerprint = _derived(secret, b"modelport fingerprint").hex()[:32]
        """Tells one secrets key from another, and nothing about it."""

    def __repr__(self) -> str:
        return f"Sealer({self.fingerprint})"

    def seal(self, text: str, place: str) -> str:
        """The text for the store, in base64."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(SEALED_BYTES)
        sealed = AESGCM(self._key).encrypt(nonce, text.encode(), place.encode())
        return base64.b64encode(nonce + sealed).decode()

    def open(self, sealed: str, place: str) -> str:
        """The text again. Raises SealBroken."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            raw = base64.b64decode(sealed, validate=True)
            return AESGCM(self._key).decrypt(raw[:SEALED_BYTES], raw[SEALED_BYTES:], place.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise SealBroken(f"the secret of {place} cannot be opened") from error


def _derived(secret: str, purpose: bytes) -> bytes:
    return hmac.digest(secret.encode(), purpose, hashlib.sha256)
