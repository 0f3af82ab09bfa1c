"""What a content filter is: a stage before the model, and an object that every event of the answer passes.

`policy` is the deployment's content filter, by name. Neither stage blocks: what takes time is a NeedsWaiting, whose
`resume` gives the same stage's value. A call that ends meanwhile cancels `resume`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from modelport.core.events import Annotation, Event
from modelport.core.identity import Principal
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.requests import Request

Annotations = tuple[Annotation, ...]


class PromptFilter(Protocol):
    """Judges a request before any target is asked. The annotations go before the first event of the answer."""

    def __call__(
        self, policy: str, principal: Principal, request: Request
    ) -> Refusal | NeedsWaiting[Annotations] | Annotations: ...


class Cut(Struct, frozen=True):
    """The answer ends here: after these events every open choice gets the finish reason `content_filter`, and the
    target's work is stopped."""

    events: list[Event] = []


class CompletionFilter(Protocol):
    """Judges one answer. It gets each event once, counted already, and gives what the caller may have: the same events,
    none (it holds them back), annotations beside them, or a Cut. It is not fed while it waits, nor after a Cut.

    A Refusal that `resume` gives ends the answer with its error.
    """

    def feed(self, events: list[Event]) -> list[Event] | Cut | NeedsWaiting[list[Event] | Cut]: ...

    def end(self) -> list[Event] | Cut | NeedsWaiting[list[Event] | Cut]:
        """All events have been fed: gives what is still held back."""
        ...


class ContentFilter(Struct, frozen=True):
    """What stands behind the name of a policy. Without a `completion` filter, text may be relayed undecoded."""

    prompt: PromptFilter | None = None
    completion: Callable[[str, Principal, Request], CompletionFilter] | None = None
    """Makes one filter for each answer."""
