"""Accepts callers without a credential: for a laptop or a CI run, where the operator set `auth.anonymous`."""

from __future__ import annotations

from modelport.core.catalog import Snapshot
from modelport.core.errors import Unauthenticated
from modelport.core.identity import ANONYMOUS, Credential, Identified
from modelport.core.ports.stages import Refusal


def authenticate(credential: Credential, snapshot: Snapshot, now: float) -> Identified | Refusal:
    """The anonymous principal, where the snapshot allows one and no credential is shown: a wrong or malformed one is
    refused, so that a mistake in a key is not taken for a caller without one."""
    is_without = not credential.shown and not credential.is_malformed
    return Identified(ANONYMOUS) if snapshot.anonymous and is_without else Refusal(Unauthenticated())
