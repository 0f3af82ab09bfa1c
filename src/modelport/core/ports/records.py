"""What the gateway needs of those to whom it tells what calls have become."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from modelport.core.operations import Operation
from modelport.core.record_forms import RecordForm
from modelport.core.usage import UsageRecord


class Journal(Protocol):
    """Append-only and local. Lines are with the kernel when `flush` returns: one `os.write` for all of them."""

    def open(self, record: UsageRecord) -> None:
        """The call holds a reservation (`record.reserved_tokens`)."""
        ...

    def close(self, record: UsageRecord) -> None:
        """The call has ended: its final record. A call that was refused before `open` has only this line."""
        ...

    def open_formed(self, id: str, form: RecordForm, values: bytes) -> None:
        """As `open`, with the record `form.filled(values)`: who makes many alike tells of what differs alone
        (gateway/forms.py)."""
        ...

    def close_formed(self, id: str, form: RecordForm, values: bytes) -> None:
        """As `close`, likewise."""
        ...

    def flush(self) -> None:
        """Writes every line queued since the last flush. Raises OSError (a full disk)."""
        ...


class UnknownCaller(Struct, frozen=True):
    """Whose call was refused because it showed no valid credential."""

    reason: str | None
    """Why, for the log."""
    address: str | None
    """Where it came from."""
    is_logged: bool = True
    """Whether the call has a line in the access log."""


class Observer(Protocol):
    """Metrics and the access line; cheap, never raises."""

    def call_started(self, operation: Operation, surface: str) -> None: ...

    def call_ended(self, record: UsageRecord, unknown: UnknownCaller | None = None) -> None:
        """`unknown`: of a call whose caller is."""
        ...

    def series(self, surface: str, operation: Operation, deployment: str) -> Series:
        """Where completed calls of one kind are told of, without a record of each being made."""
        ...


class Series(Protocol):
    """Calls of one surface, operation and deployment that are answered whole with a 200."""

    in_flight: int
    """How many are under way. Who counts one here does not tell `call_started` of it."""

    def completed(
        self, form: RecordForm, values: bytes, seconds: float, prompt: int, completion: int, reserved: int
    ) -> None:
        """As `call_ended` with the record `form.filled(values)`, and one less under way. All its tokens are of the two
        usual classes, and the first event came with the last."""
        ...
