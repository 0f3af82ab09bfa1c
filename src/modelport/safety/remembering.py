"""Keeps the scores of pieces and pictures that were judged a moment ago: a conversation sends its earlier messages
again, and two filters ask for the same text at once."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Generic, TypeVar

from modelport.core.ports.safety import Classify, ScoreImages

KEPT_PIECES: Final = 8192
"""About 5 MB."""
PIECES_AT_ONCE: Final = 64
"""Of one request to the judge: when a caller leaves, few more are judged for it."""
KEPT_IMAGES: Final = 1024
HASHED_AT_ONCE: Final = 65536
"""Characters of a picture; a longer one is hashed outside the loop."""

Score = TypeVar("Score")


class ScoreMemory(Generic[Score]):
    """Scores by a keyed hash of their text, the newest KEPT_PIECES: no text is kept."""

    def __init__(self, judge: Callable[[Sequence[str]], Awaitable[Sequence[Score]]]) -> None:
        self._judge = judge
        self._key = secrets.token_bytes(16)
        self._scores: OrderedDict[bytes, Score] = OrderedDict()
        self._running: dict[bytes, tuple[asyncio.Task[Sequence[Score]], int]] = {}
        """Which request brings a score, and where in its answer."""

    async def scores(self, texts: Sequence[str]) -> list[Score]:
        """Asks only for what is unknown, once however many callers ask. Raises what the judge raises.

        A caller that leaves does not end a request that others wait for.
        """
        found: list[Score] = []
        for at in range(0, len(texts), PIECES_AT_ONCE):
            found += await self._batch(texts[at : at + PIECES_AT_ONCE])
        return found

    async def _batch(self, texts: Sequence[str]) -> list[Score]:
        by_key = {self._hashed(text): text for text in texts}
        found = {key: self._touched(key) for key in by_key if key in self._scores}
        unknown = [key for key in by_key if key not in found and key not in self._running]
        if unknown:
            task = asyncio.ensure_future(self._judged([by_key[key] for key in unknown]))
            self._running.update((key, (task, at)) for at, key in enumerate(unknown))
            task.add_done_callback(lambda done: self._keep(unknown, done))
        for key, (task, at) in [(key, self._running[key]) for key in by_key if key not in found]:
            found[key] = (await asyncio.shield(task))[at]
        return [found[self._hashed(text)] for text in texts]

    async def _judged(self, texts: Sequence[str]) -> Sequence[Score]:
        return await self._judge(texts)

    def _keep(self, keys: Sequence[bytes], done: asyncio.Task[Sequence[Score]]) -> None:
        for key in keys:
            self._running.pop(key, None)
        if not done.cancelled() and done.exception() is None:
            self._scores.update(zip(keys, done.result(), strict=True))
            while len(self._scores) > KEPT_PIECES:
                self._scores.popitem(last=False)

    def _touched(self, key: bytes) -> Score:
        self._scores.move_to_end(key)
        return self._scores[key]

    def _hashed(self, text: str) -> bytes:
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=self._key).digest()


class RememberedClassify:
    """core.ports.safety.Classify over another one."""

    def __init__(self, classify: Classify) -> None:
        self.heads: ScoreMemory[Mapping[str, float]] = ScoreMemory(classify.scores)
        self.attacks: ScoreMemory[float] = ScoreMemory(classify.attack_scores)

    async def scores(self, pieces: Sequence[str]) -> list[Mapping[str, float]]:
        return await self.heads.scores(pieces)

    async def attack_scores(self, texts: Sequence[str]) -> list[float]:
        return await self.attacks.scores(texts)


class RememberedImages:
    """core.ports.safety.ScoreImages over another one. No picture is kept."""

    def __init__(self, score: ScoreImages) -> None:
        self._score = score
        self._key = secrets.token_bytes(16)
        self._scores: OrderedDict[bytes, float | None] = OrderedDict()

    async def __call__(self, image: str) -> float | None:
        is_short = len(image) <= HASHED_AT_ONCE
        key = self._hashed(image) if is_short else await asyncio.to_thread(self._hashed, image)
        if key not in self._scores:
            self._scores[key] = await self._score(image)
            if len(self._scores) > KEPT_IMAGES:
                self._scores.popitem(last=False)
        self._scores.move_to_end(key)
        return self._scores[key]

    def _hashed(self, image: str) -> bytes:
        return hashlib.blake2b(image.encode(), digest_size=16, key=self._key).digest()
