"""Models: the catalogue, what can be deployed by name alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from modelport.control.resources.rules import Everything, Rules, User, is_same, mapping


def users(name: str, body: Mapping[str, Any], everything: Everything) -> Iterator[User]:
    """Deployments without a provider of their own, unless another entry has the same model's name."""
    model = str(body.get("name"))
    others = everything.get("models", {}).items()
    if any(is_same(found.get("name"), model) for other, found in others if not is_same(other, name)):
        return
    for deployment, found in everything.get("deployments", {}).items():
        has_own = found.get("provider") is not None or found.get("targets") is not None
        if not has_own and is_same(mapping(found.get("model")).get("name"), model):
            yield "deployments", deployment


RULES: Final = Rules(
    kind="models",
    singular="model",
    description="The catalogue: what can be deployed by the model's name alone.",
    users=users,
)
