"""A call that is turned away before anything was taken: its record is queued, and the answer waits until that is
written, as any other."""

from __future__ import annotations

from modelport.core.errors import ModelportError
from modelport.gateway.call import Call
from modelport.gateway.facts import CallFacts, note_unauthenticated, record_refusal
from modelport.gateway.pipeline import ended_by
from modelport.lane.lane import Connection, Lane
from modelport.lane.reply import Reply


class Refused:
    """lane.Waiting towards the journal, lane.Serving towards its connection."""

    __slots__ = ("_connection", "_error", "_lane", "_reply")

    def __init__(self, lane: Lane, connection: Connection, reply: Reply, error: ModelportError) -> None:
        self._lane = lane
        self._connection = connection
        self._reply = reply
        self._error = error
        lane.gateway.running += 1
        lane.when_written(self)

    def written(self, failure: ModelportError | None) -> None:
        """lane.Waiting. A line that is not written stays queued: nothing was made that must be recorded first."""
        if not self._reply.response_complete:
            self._reply.refuse(self._error)
            self._over()

    def client_gone(self) -> None:
        """The connection is lost."""
        self._reply.abandoned()
        self._over()

    def sweep(self, now: float) -> None:
        """Nothing lasts here."""

    def stop(self) -> None:
        """It ends with this turn of the loop anyway."""

    def pause(self) -> None:
        """It is one write."""

    def resume(self) -> None:
        """It is one write."""

    def _over(self) -> None:
        self._lane.gateway.running -= 1
        self._connection.call_over(self._reply)


def stranger(lane: Lane, connection: Connection, reply: Reply, call: Call, error: ModelportError) -> Refused:
    """Turns away whom nobody knows."""
    note_unauthenticated(call, error, lane.pipeline.observer, lane.pipeline.clock)
    return Refused(lane, connection, reply, error)


def turned_away(
    lane: Lane, connection: Connection, reply: Reply, call: Call, facts: CallFacts, error: ModelportError
) -> Refused:
    """Turns away somebody who is known."""
    pipeline = lane.pipeline
    pipeline.observer.call_started(call.operation, call.surface)
    ending, status, code = ended_by(error, facts, None)
    record_refusal(facts, ending, status, code, pipeline.journal, pipeline.observer, pipeline.clock)
    return Refused(lane, connection, reply, error)
