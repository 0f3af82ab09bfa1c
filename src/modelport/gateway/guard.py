"""Safe? The stage before the model and the one after it. `Microsoft.Nill` filters nothing: both let everything pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from modelport.core.events import Annotation, ChoiceFinished, Event, FinishReason
from modelport.core.identity import Principal
from modelport.core.ports.filters import Annotations, CompletionFilter, ContentFilter, Cut
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.requests import Request

NEUTRAL = "Microsoft.Nill"
NO_FILTER = ContentFilter()


def filter_of(filters: Mapping[str, ContentFilter], policy: str) -> ContentFilter:
    """Raises LookupError for a policy that is not known: it is never taken for a neutral one."""
    found = filters.get(policy)
    if found is None:
        raise LookupError(f"no filter for policy {policy!r}")
    return found


def prompt(
    content_filter: ContentFilter, policy: str, principal: Principal, request: Request
) -> Refusal | NeedsWaiting[Annotations] | Annotations:
    """What the filter says of the request before a target is asked."""
    return () if content_filter.prompt is None else content_filter.prompt(policy, principal, request)


class Completion:
    """One answer on its way through the completion filter: events in, events out."""

    __slots__ = ("_annotations", "_choices", "_filter", "_finished", "_note", "is_cut", "waiting")

    def __init__(
        self,
        completion_filter: CompletionFilter | None = None,
        choices: int = 0,
        annotations: Annotations = (),
        note: Callable[[Annotation], None] | None = None,
    ) -> None:
        """`choices`: how many the request asks for. `annotations`: what the prompt stage said. `note`: called with each
        annotation of the completion."""
        self._note = note
        self._filter = completion_filter
        self._choices = choices
        self._annotations = annotations
        self._finished: set[int] = set()
        self.waiting: NeedsWaiting[list[Event] | Cut] | None = None
        """Await its `resume` and hand what that gives to `resumed`, before anything else is fed."""
        self.is_cut = False
        """The filter has ended the answer: every choice is finished, and the target's work should be stopped."""

    @property
    def is_filtered(self) -> bool:
        """Whether every event has to pass here."""
        return self._filter is not None

    def feed(self, events: list[Event]) -> list[Event]:
        """What may be passed on now."""
        if self.is_cut or not events:
            return []
        if self._filter is None:
            return self._annotated(events) if self._annotations else events
        return self._passed_on(self._filter.feed(events))

    def end(self) -> list[Event]:
        """What was held back and may be passed on now."""
        if self._filter is None or self.is_cut:
            return []
        return self._passed_on(self._filter.end())

    def resumed(self, outcome: list[Event] | Cut | Refusal) -> list[Event]:
        """What may be passed on after waiting. Raises the error of a Refusal."""
        self.waiting = None
        if isinstance(outcome, Refusal):
            raise outcome.error
        return self._passed_on(outcome)

    def _passed_on(self, outcome: list[Event] | Cut | NeedsWaiting[list[Event] | Cut]) -> list[Event]:
        if isinstance(outcome, NeedsWaiting):
            self.waiting = outcome
            return []
        events = outcome.events if isinstance(outcome, Cut) else outcome
        for event in events:
            if isinstance(event, ChoiceFinished):
                self._finished.add(event.choice)
            elif isinstance(event, Annotation) and self._note is not None:
                self._note(event)
        if isinstance(outcome, Cut):
            self.is_cut = True
            still_open = [choice for choice in range(self._choices) if choice not in self._finished]
            events = [*events, *(ChoiceFinished(FinishReason.CONTENT_FILTER, choice) for choice in still_open)]
        return self._annotated(events)

    def _annotated(self, events: list[Event]) -> list[Event]:
        """With what the prompt stage said, before the first event that is passed on."""
        annotations = self._annotations
        if not annotations or not events:
            return events
        self._annotations = ()
        return [*annotations, *events]
