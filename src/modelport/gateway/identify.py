"""Who are you: Credential → Principal, or 401."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from modelport.core.catalog import Snapshot
from modelport.core.clock import Clock
from modelport.core.errors import Unauthenticated
from modelport.core.identity import Credential, Identified
from modelport.core.ports.stages import Authenticator, NeedsWaiting, Refusal

ABSENT: Final = "absent"
MALFORMED: Final = "malformed: the header is `api-key: KEY` or `Authorization: Bearer KEY`"


def identify(
    credential: Credential,
    snapshot: Snapshot,
    authenticators: Sequence[Authenticator],
    clock: Clock,
    refusal: Refusal | None = None,
) -> Identified | Refusal | NeedsWaiting[Identified]:
    """The first authenticator that knows the credential decides; one that has to wait is waited for before the next is
    asked. `refusal`: of an authenticator before these, whose error is the answer if these do not know the credential.
    """
    for place, authenticate in enumerate(authenticators):
        found = authenticate(credential, snapshot, clock.now())
        if isinstance(found, Identified):
            return found
        if isinstance(found, NeedsWaiting):
            rest = authenticators[place + 1 :]
            return NeedsWaiting(partial(_after_waiting, found, credential, snapshot, rest, clock, refusal))
        refusal = refusal or found
    if not credential.shown or refusal is None:
        refusal = Refusal(Unauthenticated(reason=MALFORMED if credential.is_malformed else ABSENT))
    if isinstance(refusal.error, Unauthenticated) and snapshot.issuers:
        refusal.error.authorization_uri = snapshot.issuers[0].authorization_uri
    return refusal


async def _after_waiting(
    waiting: NeedsWaiting[Identified],
    credential: Credential,
    snapshot: Snapshot,
    rest: Sequence[Authenticator],
    clock: Clock,
    refusal: Refusal | None,
) -> Identified | Refusal:
    found = await waiting.resume()
    if isinstance(found, Identified):
        return found
    outcome = identify(credential, snapshot, rest, clock, refusal or found)
    return await outcome.resume() if isinstance(outcome, NeedsWaiting) else outcome
