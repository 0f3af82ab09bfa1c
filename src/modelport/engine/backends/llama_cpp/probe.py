"""Finds out whether the engine can follow a schema: one that it cannot compile it drops without a word."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import msgspec

from modelport.engine.backend import WorkerError
from modelport.engine.backends.llama_cpp.schemas import Constraint
from modelport.engine.backends.llama_cpp.slots import SlotQueue
from modelport.engine.local_http import LocalHttp, LocalHttpError, LocalHttpStatusError

_REMEMBERED_SCHEMAS = 256


class GrammarProbe:
    """Lets the engine make one token that no JSON text begins with: it can only come where the grammar was dropped."""

    def __init__(self, native: LocalHttp, queue: SlotQueue, impossible_token: int) -> None:
        self._native = native
        self._queue = queue
        self._impossible_token = impossible_token
        self._followed: dict[bytes, bool] = {}

    @classmethod
    async def open(cls, native: LocalHttp, queue: SlotQueue) -> GrammarProbe:
        """Looks for a character that is one token of this model."""
        for character in "?@#x=A":
            body = {"content": character, "parse_special": False, "add_special": False}
            tokens = (await native.call("POST", "/tokenize", body))["tokens"]
            if len(tokens) == 1:
                return cls(native, queue, tokens[0])
        raise RuntimeError("the vocabulary has no token for any of the usual characters")

    async def require_followed(self, constraint: Constraint) -> None:
        """Raises `invalid_schema` (422) if the engine would not follow the constraint's schema."""
        key = msgspec.json.encode(constraint.grammar_schema)
        if key not in self._followed:
            with self._queue.admit(1) as admission:
                async with admission.slot():
                    is_followed = await self._is_followed(constraint.engine_fields())
            if len(self._followed) >= _REMEMBERED_SCHEMAS:
                self._followed.pop(next(iter(self._followed)))
            self._followed[key] = is_followed
        if not self._followed[key]:
            fault = "the engine cannot follow it (an impossible range, an unusual pattern or format)"
            raise WorkerError(
                422, "invalid_schema", f"The schema in '{constraint.param}' cannot be used: {fault}.",
                param=constraint.param,
            )  # fmt: skip

    async def _is_followed(self, fields: dict[str, Any]) -> bool:
        body = {
            **fields,
            "prompt": [self._impossible_token],
            "n_predict": 1,
            "temperature": 0,
            "logit_bias": [[self._impossible_token, 1000]],
            "stream": True,
            "return_tokens": True,
        }
        try:
            async with aclosing(self._native.events("/completion", body)) as events:
                async for event in events:
                    if "error" in event:
                        return False
                    if event.get("tokens"):
                        return self._impossible_token not in event["tokens"]
        except LocalHttpStatusError:
            return False
        except LocalHttpError as error:
            raise WorkerError.failed() from error
        return True
