"""Keys: kept as keyed hashes, found by hash, so neither memory nor a snapshot holds one."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

from modelport.auth import anonymous
from modelport.core.catalog import Snapshot
from modelport.core.identity import Credential, Identified, KeyEntry
from modelport.core.ports.stages import Refusal

JWT_BEGINS: Final = "eyJ"
"""What every JWT begins with: `{"` in base64."""


def fresh_salt() -> bytes:
    """A hashing key for one process's life: digests are worthless outside of it."""
    return secrets.token_bytes(32)


def digest(salt: bytes, key: str) -> bytes:
    """The keyed hash of a key as shown."""
    return hmac.digest(salt, key.encode("utf-8", "surrogateescape"), hashlib.sha256)


def authenticate(credential: Credential, snapshot: Snapshot, now: float) -> Identified | Refusal:
    """Whose key it is. Any valid key among those shown is enough, in whichever header.

    Looking up a keyed hash takes the same time whatever the key: nothing of a stored key is compared with the caller's.
    """
    reason = "unknown_key"
    for shown in credential.shown:
        value = shown.value
        entry: KeyEntry | None = snapshot.keys.get(digest(snapshot.key_salt, value))
        if entry is not None and (entry.expires_at is None or now < entry.expires_at):
            return Identified(entry.principal, entry.expires_at)
        if entry is not None:
            reason = f"expired_key: {entry.principal.key_id}"
    return anonymous.refusal(snapshot, reason)
