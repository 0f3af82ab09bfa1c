"""Everybody is somebody: for a laptop or a CI run where the operator asked for it (`auth.anonymous`)."""

from __future__ import annotations

from modelport.core.catalog import Snapshot
from modelport.core.errors import Unauthenticated
from modelport.core.identity import ANONYMOUS, Principal
from modelport.core.ports.stages import Refusal


def authenticate(shown: tuple[str, ...], snapshot: Snapshot, now: float) -> Principal | Refusal:
    """The anonymous principal, where the snapshot allows one."""
    return ANONYMOUS if snapshot.anonymous else Refusal(Unauthenticated())
