"""The last uses of keys between memory and a store that may be away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modelport.app.key_uses import KeyUses
from modelport.core.ports.control import ControlStoreUnavailable
from modelport.stores.memory.control import MemoryControlStore


class At:
    """core.clock.Clock"""

    def now(self) -> float:
        return 100.0

    def monotonic(self) -> float:
        return 100.0


class Store:
    """app.key_uses.Store"""

    def __init__(self) -> None:
        self.inner = MemoryControlStore()
        self.is_away = False
        self.writes = 0

    def _check(self) -> None:
        if self.is_away:
            raise ControlStoreUnavailable("away")

    async def key_uses(self) -> Mapping[str, int]:
        self._check()
        return self.inner.key_uses()

    async def note_key_uses(self, uses: Mapping[str, int]) -> None:
        self._check()
        self.writes += 1
        self.inner.note_key_uses(uses)

    async def forget_key_uses(self, key_ids: Iterable[str]) -> None:
        self._check()
        self.inner.forget_key_uses(key_ids)


async def test_the_latest_time_is_known_before_and_after_it_is_written() -> None:
    store = Store()
    uses = KeyUses(store, At())
    uses.add({"Team/key1": 2.0, "team/key2": 3.0, "operator/1": 9.0, "https://issuer.example": 9.0})
    uses.add({"team/key1": 1.0})
    expected = {"team/key1": 2_000_000, "team/key2": 3_000_000}
    assert await uses.last() == expected
    assert store.writes == 0
    await uses.write()
    await uses.write()
    assert store.writes == 1
    assert await KeyUses(store, At()).last() == await uses.last() == expected


async def test_what_could_not_be_written_is_written_later() -> None:
    store = Store()
    uses = KeyUses(store, At())
    taken = [{"a/key1": 1.0}, {"a/key1": 2.0}]
    uses.take = lambda: taken.pop(0) if taken else {}
    store.is_away = True
    await uses.write()
    assert await uses.last() == {"a/key1": 2_000_000}
    store.is_away = False
    await uses.write()
    assert store.inner.key_uses() == {"a/key1": 2_000_000}


async def test_a_key_whose_value_is_new_was_never_used() -> None:
    store = Store()
    uses = KeyUses(store, At())
    uses.add({"a/key1": 1.0, "a/key2": 1.0})
    await uses.write()
    uses.add({"a/key1": 2.0})
    await uses.forget(["a/key1"])
    uses.add({"a/key1": 99.0})  # told late, by another process
    assert await uses.last() == {"a/key2": 1_000_000}
    store.is_away = True
    await uses.forget(["a/key2"])
    assert await uses.last() == {}
    uses.add({"a/key1": 101.0})
    assert await uses.last() == {"a/key1": 101_000_000}
