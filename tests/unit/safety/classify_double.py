"""A Classify that knows words instead of meanings."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from modelport.core.ports.safety import FilterOutageError

HEADS = ("hate", "sexual", "violence", "self_harm", "attack")


class WordClassify:
    """Gives a head the score that stands behind its name in the text, as in `violence=0.7`; else 0."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.attacks_asked: list[list[str]] = []
        self.is_down = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def scores(self, pieces: Sequence[str]) -> list[Mapping[str, float]]:
        self.asked.append(list(pieces))
        await self.gate.wait()
        if self.is_down:
            raise FilterOutageError("down")
        return [{head: said(head, piece) for head in HEADS} for piece in pieces]

    async def attack_scores(self, texts: Sequence[str]) -> list[float]:
        self.attacks_asked.append(list(texts))
        if self.is_down:
            raise FilterOutageError("down")
        return [said("guardian", text) for text in texts]


def said(head: str, text: str) -> float:
    return float(text.split(f"{head}=")[1][:4]) if f"{head}=" in text else 0.0
