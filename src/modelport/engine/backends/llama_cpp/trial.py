"""Lets another process compile a grammar before the engine does: its bounds hold, and the worker goes on answering."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from modelport.engine.backend import WorkerError
from modelport.engine.backends.llama_cpp.schemas import invalid_schema

_REMEMBERED: Final = 1024
_ANSWER_SECONDS: Final = 60
_LINE_LIMIT_BYTES: Final = 65536
_PROCESS: Final = "modelport.engine.backends.llama_cpp.trial_process"


class GrammarTrial:
    """One trial at a time, each bounded; verdicts are remembered. The process starts with the first one."""

    def __init__(self, weights: Path) -> None:
        self._weights = weights
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._verdicts: dict[bytes, asyncio.Task[str | None]] = {}

    async def require_followed(self, grammars: Sequence[str], param: str) -> None:
        """Raises `invalid_schema` (422) if the engine would not follow the grammars, or not at a bearable cost."""
        line = msgspec.json.encode(grammars)
        key = hashlib.sha256(line).digest()
        verdict = self._verdicts.get(key)
        if verdict is None:
            verdict = self._verdicts[key] = asyncio.create_task(self._try_in_turn(line))
            if len(self._verdicts) > _REMEMBERED:
                self._verdicts.pop(next(iter(self._verdicts)))
        try:
            fault = await asyncio.shield(verdict)  # a caller that leaves does not end a trial
        except WorkerError:
            self._verdicts.pop(key, None)
            raise
        if fault is not None:
            raise invalid_schema(param, fault)

    async def close(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def _try_in_turn(self, line: bytes) -> str | None:
        async with self._turn:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    answer = await self._answer(line) or await self._answer(line)  # it may just have ended, being idle
                return msgspec.json.decode(answer, type=str | None)
            except (OSError, TimeoutError, msgspec.DecodeError) as error:
                await self.close()
                raise WorkerError.failed("The grammar could not be tried.") from error

    async def _answer(self, line: bytes) -> bytes:
        """The process's line; empty if it has ended."""
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", _PROCESS, str(self._weights),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                limit=_LINE_LIMIT_BYTES,
            )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(line + b"\n")
            await self._process.stdin.drain()
            answer = await self._process.stdout.readline()
        except ConnectionError:
            answer = b""
        if not answer:
            await self.close()
        return answer
