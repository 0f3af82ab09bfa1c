"""Who are you: Credential → Principal, or 401."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from modelport.core.catalog import Snapshot
from modelport.core.errors import Unauthenticated
from modelport.core.identity import Credential, Principal
from modelport.core.ports.stages import Authenticator, Refusal

ABSENT: Final = "no key"
MALFORMED: Final = "malformed: the header is `api-key: KEY` or `Authorization: Bearer KEY`"


def identify(
    credential: Credential, snapshot: Snapshot, authenticators: Sequence[Authenticator], now: float
) -> Principal | Refusal:
    """The first authenticator that knows one of the credentials shown decides. `now`: unix seconds, for expiry."""
    shown = credential.candidates()
    refusals: list[Refusal] = []
    for authenticate in authenticators:
        found = authenticate(shown, snapshot, now)
        if isinstance(found, Principal):
            return found
        refusals.append(found)
    if shown and refusals:
        return refusals[0]
    return Refusal(Unauthenticated(reason=MALFORMED if credential.is_malformed else ABSENT))
