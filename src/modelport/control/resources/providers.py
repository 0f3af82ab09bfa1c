"""Providers: where models run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from modelport.control.resources.rules import Everything, Rules, User, is_same, mapping


def users(name: str, body: Mapping[str, Any], everything: Everything) -> Iterator[User]:
    """Deployments and catalogue entries that name it."""
    for deployment, found in everything.get("deployments", {}).items():
        targets = found.get("targets")
        named = [found.get("provider"), *(mapping(t).get("provider") for t in (targets or ()))]
        if any(is_same(provider, name) for provider in named):
            yield "deployments", deployment
    for model, found in everything.get("models", {}).items():
        if is_same(found.get("provider"), name):
            yield "models", model


RULES: Final = Rules(
    kind="providers",
    singular="provider",
    description="Where models run: an address with its credential, or an engine of this server.",
    users=users,
    has_secrets=True,
)
