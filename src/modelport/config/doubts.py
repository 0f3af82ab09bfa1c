"""What is valid and looks like a slip: `modelport check` and `modelport serve` warn of it."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from modelport.config.deployments import InlineProviderSettings
from modelport.config.embedded import embedded_models
from modelport.config.faults import Path
from modelport.config.section import shown
from modelport.config.settings import Settings
from modelport.config.spelling import did_you_mean

Finding = tuple[Path, str]

OPERATION_PATHS: Final = ("/chat/completions", "/images/embeddings", "/embeddings", "/completions", "/responses")


def doubts(settings: Settings, now: datetime | None = None) -> Iterator[Finding]:
    """Each with its place."""
    yield from _keys(settings, now or datetime.now(UTC))
    for name, provider in settings.providers.items():
        yield from _base_url(provider.__pydantic_extra__ or {}, ("providers", name, "base_url"))
    for name, deployment in settings.deployments.items():
        if isinstance(deployment.provider, InlineProviderSettings):
            given = deployment.provider.__pydantic_extra__ or {}
            yield from _base_url(given, ("deployments", name, "provider", "base_url"))


def _keys(settings: Settings, now: datetime) -> Iterator[Finding]:
    names = list(settings.deployments) or list(embedded_models())
    for name, key in settings.keys.items():
        if key.expires is not None and key.expires <= now:
            yield ("keys", name, "expires"), f"{key.expires.isoformat()} is over: neither key is valid any more"
        if key.key1 is not None and key.key1 == key.key2:
            yield ("keys", name, "key2"), "is the same key as key1, so neither can be replaced while the other works"
        for index, pattern in enumerate(key.deployments):
            if not any(fnmatch.fnmatchcase(known.lower(), pattern.lower()) for known in names):
                what = f"{shown(pattern)} matches no deployment{did_you_mean(pattern, names)}"
                yield ("keys", name, "deployments", index), what


def _base_url(provider: Mapping[str, Any], path: Path) -> Iterator[Finding]:
    base_url = provider.get("base_url")
    if not isinstance(base_url, str):
        return
    operation = next((end for end in OPERATION_PATHS if base_url.rstrip("/").endswith(end)), None)
    if operation is not None:
        yield path, f"is the address of one operation; leave out {operation!r}, which each call adds by itself"
