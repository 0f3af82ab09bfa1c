"""Models: the catalogue, what can be deployed by name alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from modelport.control.resources.rules import Everything, Rules, User, is_same, mapping
from modelport.core.roles import Permission


def users(name: str, body: Mapping[str, Any], everything: Everything) -> Iterator[User]:
    """Deployments without a provider of their own: those of the same format, name and version, and, where no other
    entry has this name, those of the same name."""
    model = str(body.get("name"))
    others = everything.get("models", {}).items()
    is_only = not any(is_same(found.get("name"), model) for other, found in others if not is_same(other, name))
    for deployment, found in everything.get("deployments", {}).items():
        has_own = found.get("provider") is not None or found.get("targets") is not None
        deployed = mapping(found.get("model"))
        if not has_own and (identity(deployed) == identity(body) or (is_only and is_same(deployed.get("name"), model))):
            yield "deployments", deployment


def identity(model: Mapping[str, Any]) -> tuple[str, str, str]:
    """What two entries cannot share."""
    found = (model.get("format", "Custom"), model.get("name"), model.get("version", "1"))
    return str(found[0]).lower(), str(found[1]).lower(), str(found[2]).lower()


RULES: Final = Rules(
    kind="models",
    singular="model",
    description="The catalogue: what can be deployed by the model's name alone.",
    users=users,
    reads=Permission.READ_CATALOGUE,
)
