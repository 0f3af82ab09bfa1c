"""Safe? The stage before the model and the one after it. `Microsoft.Nill` filters nothing, so both let everything pass;
a policy that filters is refused by the configuration until its filters exist."""

from __future__ import annotations

from modelport.core.catalog import Deployment
from modelport.core.events import Event
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.requests import Request

NEUTRAL = "Microsoft.Nill"


def prompt(request: Request, deployment: Deployment) -> Refusal | NeedsWaiting[None] | None:
    """None: go on. A policy we do not know is never taken for a neutral one."""
    if deployment.content_filter == NEUTRAL:
        return None
    raise LookupError(f"no filter for policy {deployment.content_filter!r}")


class Completion:
    """The same for the answer: events in, events out."""

    def feed(self, events: list[Event]) -> list[Event]:
        """What may be passed on now."""
        return events

    def end(self) -> list[Event]:
        """What was held back."""
        return []
