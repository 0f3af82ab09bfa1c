"""Settings → the price book of a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from modelport.config.carried import read_carried
from modelport.config.deployments import InlineProviderSettings, ProviderSettings
from modelport.config.settings import Settings
from modelport.control.prices import Book


def price_book(
    settings: Settings,
    inline_name: Callable[[str], str],
    run_here: Collection[str],
    stored: Sequence[Mapping[str, Any]] = (),
) -> Book:
    """The operator's list over the carried one. `inline_name`: the runtime's name of a provider that is written in its
    deployment. `run_here`: the runtime's names of those whose workers are ours. `stored`: prices of the control plane,
    added to the list. Raises ConfigError."""
    given, own = settings.prices, None
    if given.file is not None:
        from modelport.config.prices import read_prices

        own, _ = read_prices(given.file, given.currency)
    if stored:
        from modelport.config.prices import with_prices

        own = with_prices(own, stored, given.currency)
    return Book(
        read_carried(),
        own,
        currency=given.currency,
        unpriced=given.unpriced,
        addresses=dict(addresses(settings, inline_name)),
        run_here=run_here,
    )


def addresses(settings: Settings, inline_name: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """Where each provider is, by the runtime's name of it: that is how we know who bills."""
    named: list[tuple[str, ProviderSettings]] = list(settings.providers.items())
    for name, deployment in settings.deployments.items():
        if isinstance(deployment.provider, InlineProviderSettings):
            named.append((inline_name(name), deployment.provider))
    for name, provider in named:
        address = provider.options().get("base_url")
        if isinstance(address, str):
            yield name, address
