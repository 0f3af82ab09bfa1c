"""Accepts callers without a credential: for a laptop or a CI run, where the operator set `auth.anonymous`."""

from __future__ import annotations

from typing import Final

from modelport.core.catalog import Snapshot
from modelport.core.errors import Unauthenticated
from modelport.core.identity import ANONYMOUS, Credential, Identified
from modelport.core.ports.stages import Refusal

WRONG_KEY: Final = (
    "Access denied: this server takes callers without a credential, but it refuses a wrong key; send none, or one that "
    "it knows."
)


def authenticate(credential: Credential, snapshot: Snapshot, now: float) -> Identified | Refusal:
    """The anonymous principal, where the snapshot allows one and no credential is shown: a wrong or malformed one is
    refused, so that a mistake in a key is not taken for a caller without one."""
    is_without = not credential.shown and not credential.is_malformed
    return Identified(ANONYMOUS) if snapshot.anonymous and is_without else refusal(snapshot)


def refusal(snapshot: Snapshot, reason: str = "unknown_key") -> Refusal:
    """Of a key that is not valid. `reason`: for the log."""
    return Refusal(Unauthenticated(WRONG_KEY, reason=reason) if snapshot.anonymous else Unauthenticated(reason=reason))
