"""Which quota the settings ask for: of this process alone, or one that several share."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Final

from modelport.app.runtime import ProviderFault
from modelport.app.snapshot import key_limits
from modelport.config.deployments import LimitSettings
from modelport.config.settings import Settings
from modelport.core.clock import Clock
from modelport.core.ports.quota import Quota
from modelport.core.ports.states import StoreState
from modelport.stores.allotments import Bank, SharedQuota
from modelport.stores.memory.quota import MemoryQuota

FILE: Final = "quota.sqlite"
OWNER_SECONDS: Final = 5.0
"""The owner of the workers is on the same machine, and its end is seen at once. Where it is only slow, calls had better
wait than be refused."""


def store_of(settings: Settings) -> str:
    """`memory`, `sqlite` or `redis`."""
    return settings.quota.store or ("redis" if settings.redis_url is not None else "memory")


def open_quota(settings: Settings, clock: Clock, owners: Bank | None = None, number: int = 0) -> Quota:
    """The quota of one process, which is worker `number`. `owners`: where it reaches the memory of its owner. Raises
    ProviderFault."""
    bank = open_bank(settings)
    if bank is not None:
        workers = settings.server.workers
        return SharedQuota(bank, clock, on_outage=settings.quota.on_store_outage, workers=workers, number=number)
    if owners is not None:
        return SharedQuota(owners, clock, on_outage="refuse", may_limits_declare=False, budget_seconds=OWNER_SECONDS)
    return MemoryQuota(clock)


def open_bank(settings: Settings) -> Bank | None:
    """The store that processes share; None: there is none. Nothing is connected yet. Raises ProviderFault."""
    match store_of(settings):
        case "sqlite":
            return sqlite_bank(settings)
        case "redis":
            return redis_bank(settings)
        case _:
            return None


def sqlite_bank(settings: Settings) -> Bank:
    """The bank in the data directory. The library is loaded only where it is wanted."""
    module = importlib.import_module("modelport.stores.sqlite_quota")
    bank: Bank = module.SqliteBank(settings.server.data_dir / FILE)
    return bank


def redis_bank(settings: Settings) -> Bank:
    """The bank at `redis_url`. The client library is loaded only where it is wanted."""
    if settings.redis_url is None:
        raise ProviderFault("quota.store: 'redis' needs a redis_url")
    try:
        module = importlib.import_module("modelport.stores.redis.quota")
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] != "redis":
            raise
        raise ProviderFault("redis_url: needs the `redis` extra: pip install 'modelport[redis]'") from None
    try:
        bank: Bank = module.RedisBank(settings.redis_url.reveal())
    except ValueError:
        raise ProviderFault("redis_url: begins with redis://, rediss:// or unix://") from None
    return bank


async def start_quota(quota: Quota) -> None:
    """Begins to keep its store told, where it has one. It is connected afterwards, or has had two seconds for it."""
    if isinstance(quota, SharedQuota):
        quota.start()
        await quota.opened()


async def close_quota(quota: Quota) -> None:
    """Leaves what it holds to others."""
    if isinstance(quota, SharedQuota):
        await quota.close()


def store_states(quota: Quota, settings: Settings) -> list[StoreState]:
    """How the store is: nothing where there is none."""
    if not isinstance(quota, SharedQuota):
        return []
    name = f"quota ({store_of(settings)})"
    if not quota.is_degraded:
        return [StoreState(name, "ready")]
    refusing = dict(outage_modes(settings))
    if refusing and all(refusing.values()):
        return [StoreState(name, "gone", "calls that find no room here are refused")]
    reason = "each process allows its share of the limits"
    refused = [where for where, is_refusing in refusing.items() if is_refusing]
    if refused:
        reason = f"{reason}; those of {', '.join(refused)} refuse calls that find no room here"
    return [StoreState(name, "degraded", reason)]


def outage_modes(settings: Settings) -> Iterator[tuple[str, bool]]:
    """Which limits there are, and whether they refuse calls while the store is gone."""
    otherwise = settings.quota.on_store_outage
    if not settings.deployments:
        yield "deployments", otherwise == "refuse"
    for name, deployment in settings.deployments.items():
        if is_limited(deployment.limits):
            yield f"deployments.{name}", (deployment.limits.on_store_outage or otherwise) == "refuse"
    for name, key in settings.keys.items():
        if key_limits(key.limits) is not None:
            yield f"keys.{name}", (key.limits.on_store_outage or otherwise) == "refuse"


def is_limited(limits: LimitSettings) -> bool:
    """Whether calls need the store at all."""
    given = (limits.tokens_per_minute, limits.requests_per_minute, limits.concurrent_requests)
    return any(limit is not None for limit in given)
