"""Changes that take long: they are answered before they end, with links under which they are followed."""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from modelport.admin.arm.errors import ArmNotFound, encode
from modelport.admin.arm.scope import LOCATION, Routes, Scope
from modelport.admin.endpoint import Answer, json_answer
from modelport.admin.resources import moment
from modelport.core.clock import Clock
from modelport.core.errors import InternalError, ModelportError
from modelport.core.roles import Permission

SYNCHRONOUS_SECONDS: Final = 5.0
"""A change that takes no longer is answered with its result."""
RETRY_AFTER: Final = (b"retry-after", b"1")
"""Without it the SDK asks again after 30 s, and 0 means the same."""
MAX_OPERATIONS: Final = 1024
"""The oldest ones that have ended are forgotten first."""


class Operation(Struct, frozen=True, kw_only=True):
    """One change."""

    id: str
    task: asyncio.Task[Answer]
    started_us: int
    ended_us: list[int]
    """One entry, when it has ended."""


class Operations:
    """The changes of this process. A restart forgets them: what they have changed is in the store."""

    def __init__(self, clock: Clock, synchronous_seconds: float = SYNCHRONOUS_SECONDS) -> None:
        self._clock = clock
        self._synchronous_seconds = synchronous_seconds
        self._known: OrderedDict[str, Operation] = OrderedDict()

    @property
    def count(self) -> int:
        """Of those that are remembered."""
        return len(self._known)

    def add(self, routes: Routes) -> None:
        """Where a change is followed."""
        routes.add("GET", f"{LOCATION}/operations/{{operation}}", self._status, Permission.READ_DEPLOYMENTS)
        routes.add("GET", f"{LOCATION}/operationResults/{{operation}}", self._result, Permission.READ_DEPLOYMENTS)

    async def answered(
        self, scope: Scope, change: Coroutine[Any, Any, Answer], under_way: Callable[[], Answer]
    ) -> Answer:
        """The change's answer, or, where it takes long, `under_way` with links. Raises what the change raises."""
        operation = self._started(change)
        status_url = scope.operations_url("operations", operation.id)
        seconds = self._synchronous_seconds if status_url is not None else None
        await asyncio.wait({operation.task}, timeout=seconds)
        if operation.task.done():
            self._known.pop(operation.id, None)
            return operation.task.result()
        assert status_url is not None
        answer = under_way()
        links = [(b"azure-asyncoperation", status_url.encode()), RETRY_AFTER]
        if answer.status == 202 and (result_url := scope.operations_url("operationResults", operation.id)) is not None:
            links.append((b"location", result_url.encode()))
        return structs.replace(answer, headers=(*answer.headers, *links))

    def _started(self, change: Coroutine[Any, Any, Answer]) -> Operation:
        ended: list[int] = []

        async def timed() -> Answer:
            try:
                return await change
            finally:
                ended.append(self._now_us())

        task = asyncio.create_task(timed())
        # Without this, an operation that no client asks about would be logged as a fault of ours.
        task.add_done_callback(error_of)
        operation = Operation(id=secrets.token_hex(16), task=task, started_us=self._now_us(), ended_us=ended)
        self._known[operation.id] = operation
        for known in list(self._known.values())[: max(0, len(self._known) - MAX_OPERATIONS)]:
            if known.task.done():
                del self._known[known.id]
        return operation

    async def _status(self, scope: Scope) -> Answer:
        operation = self._found(scope)
        found = {
            "id": scope.request.path,
            "name": operation.id,
            "startTime": moment(operation.started_us),
            "endTime": moment(operation.ended_us[0]) if operation.ended_us else None,
        }
        if not operation.task.done():
            return json_answer({**found, "status": "InProgress"}, 200, RETRY_AFTER)
        error = error_of(operation.task)
        if error is None:
            return json_answer({**found, "status": "Succeeded"})
        told = msgspec.json.decode(encode(error, None).body)
        return json_answer({**found, "status": "Failed", "error": told["error"]})

    async def _result(self, scope: Scope) -> Answer:
        operation = self._found(scope)
        if operation.task.done():
            return operation.task.result()
        url = scope.operations_url("operationResults", operation.id)
        links = [(b"location", url.encode())] if url is not None else []
        return Answer(b"", content_type=None, headers=(*links, RETRY_AFTER), status=202)

    def _found(self, scope: Scope) -> Operation:
        """Raises ArmNotFound."""
        found = self._known.get(scope.names["operation"])
        if found is None:
            raise ArmNotFound("There is no such operation, or the server has restarted.", code="OperationNotFound")
        return found

    def _now_us(self) -> int:
        return int(self._clock.now() * 1_000_000)


def error_of(task: asyncio.Task[Answer]) -> ModelportError | None:
    """What a change that has ended was refused with."""
    if task.cancelled():
        return InternalError()
    error = task.exception()
    return error if error is None or isinstance(error, ModelportError) else InternalError()
