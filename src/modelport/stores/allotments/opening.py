"""Keeps the connection to a store open: made before the first call needs it, made again when it is lost, and not left
alone for so long that somebody on the way forgets it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from modelport.stores.allotments.bank import StoreGone

AGAIN_SECONDS: Final = 0.5
KEEP_SECONDS: Final = 20.0


class Opens(Protocol):
    """What is asked of a bank here."""

    async def open(self) -> None:
        """Ends when it can be asked without connecting first. Raises StoreGone."""
        ...


async def keep_open(bank: Opens, tried: Callable[[bool], None]) -> None:
    """Until it is cancelled. `tried` is told after each attempt whether the store is there."""
    while True:
        try:
            await bank.open()
            is_open = True
        except StoreGone:
            is_open = False
        tried(is_open)
        await asyncio.sleep(KEEP_SECONDS if is_open else AGAIN_SECONDS)
