"""The embeddings worker as the safety filters see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from modelport.core.ports.safety import FilterOutageError
from modelport.engine.local_http import LocalHttp, LocalHttpError, LocalHttpStatusError
from modelport.engine.service import EngineWorker
from modelport.engine.supervisor import EngineUnavailableError, WorkerAddress

LOADING_SECONDS: Final = 20.0
"""How long a call waits for a worker that is still loading."""
ANSWER_SECONDS: Final = 30.0
NOTICED_SECONDS: Final = 1.0
"""Within which the end of a worker is noticed."""
ATTEMPTS: Final = 2
IMAGES_AT_A_TIME: Final = 4
"""Pictures that are on their way to the worker: it looks at one after the other, and each may have 27 MB."""


class WorkerClassify:
    """core.ports.safety.Classify, by one worker. `worker` finds it anew for each request, since a new configuration may
    have replaced it."""

    def __init__(self, worker: Callable[[], EngineWorker | None]) -> None:
        self._worker = worker
        self._sight = asyncio.Semaphore(IMAGES_AT_A_TIME)

    async def scores(self, pieces: Sequence[str]) -> Sequence[Mapping[str, float]]:
        answer = await self._ask("/v1/safety/scores", {"texts": pieces})
        return [dict(zip(answer["heads"], row, strict=True)) for row in answer["scores"]]

    async def attack_scores(self, texts: Sequence[str]) -> Sequence[float]:
        scores: Sequence[float] = (await self._ask("/v1/safety/attacks", {"texts": texts}))["scores"]
        return scores

    async def image_score(self, image: str) -> float | None:
        """core.ports.safety.ScoreImages"""
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._sight:
                body = msgspec.Raw(await asyncio.to_thread(msgspec.json.encode, {"image": image}))
                score: float | None = (await self._ask("/v1/safety/image", body))["score"]
        except TimeoutError as error:
            raise FilterOutageError("too many pictures wait for the worker that classifies") from error
        return score

    async def _ask(self, path: str, body: Any) -> Any:
        """Once more where the worker has died: judging twice does no harm."""
        worker = self._worker()
        if worker is None:
            raise FilterOutageError("no worker runs that could classify")
        died: WorkerAddress | None = None
        for _ in range(ATTEMPTS):
            try:
                address = await self._living(worker, died)
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await LocalHttp(address.socket_path, address.secret).call("POST", path, body)
            except EngineUnavailableError as error:
                raise FilterOutageError(str(error)) from error
            except TimeoutError as error:
                raise FilterOutageError(f"the worker that classifies is silent for {ANSWER_SECONDS:g} s") from error
            except LocalHttpStatusError as error:
                raise FilterOutageError(f"the worker that classifies answered {error.status}") from error
            except LocalHttpError:
                died = address
        raise FilterOutageError("the worker that classifies is gone")

    async def _living(self, worker: EngineWorker, died: WorkerAddress | None) -> WorkerAddress:
        """Where the worker is: not at the address of one that has died, which may not be noticed yet."""
        waited = 0.0
        while died is not None and worker.address == died and waited < NOTICED_SECONDS:
            await asyncio.sleep(NOTICED_SECONDS / 20)
            waited += NOTICED_SECONDS / 20
        return worker.address or await worker.ready(LOADING_SECONDS)
