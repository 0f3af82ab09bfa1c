"""control.plane_ports.Forms: the configuration's schemas, and the secrets key."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from modelport.auth.api_key import digest
from modelport.config.content_filters import BlocklistSettings, ContentFilterSettings
from modelport.config.deployments import masked
from modelport.config.faults import ConfigError, Fault
from modelport.config.literals import LiteralError, understood_provider
from modelport.config.messages import Explainer
from modelport.config.secrets import MASK, Secret
from modelport.config.stored import STORED
from modelport.control.resources.keys import SLOTS
from modelport.core.ports.control import Body, InvalidResource
from modelport.stores.sealing import SealBroken, Sealer

KEY_BYTES: Final = 32
KEY_PREFIX: Final = "mp-"
"""Makes a key that is found somewhere recognisable."""
SEALED: Final = "$sealed"
HASH: Final = "$hash"


class ConfigForms:
    """For one server."""

    def __init__(self, sealer: Sealer, data_dir: Path) -> None:
        self._sealer = sealer
        self._data_dir = data_dir

    def understood(
        self,
        kind: str,
        given: Mapping[str, Any],
        kept: Mapping[str, Any] | None,
        before: Mapping[str, Any] | None,
    ) -> Body:
        """Forms"""
        if (reserved := next(reserved_names(given), None)) is not None:
            raise InvalidResource(f"{reserved}: the name is reserved.", [(reserved, "the name is reserved")])
        try:
            if kind == "providers":
                return understood_provider(given, kept, before, self._data_dir)
            if kind == "deployments" and isinstance(given.get("provider"), Mapping):
                provider = understood_provider(
                    given["provider"], provider_of(kept), provider_of(before), self._data_dir, "provider."
                )
                return {**given, "provider": provider}
        except LiteralError as error:
            raise InvalidResource(f"The {kind[:-1]} is not valid: {error}.", error.faults) from None
        if kind == "keys":
            return understood_key(given, kept)
        if (model := alone(kind)) is not None:
            check_alone(kind, model, given)
        return dict(given)

    def sealed(self, kind: str, name: str, body: Mapping[str, Any]) -> Body:
        """Forms"""
        found: Body = replaced(body, f"{kind}/{name.lower()}", self._sealed)
        return found

    def opened(self, kind: str, name: str, body: Mapping[str, Any]) -> Body:
        """Forms"""
        found: Body = replaced(body, f"{kind}/{name.lower()}", self._opened)
        return found

    def shown(self, body: Mapping[str, Any]) -> Body:
        """Forms"""
        found: Body = masked(body)
        return found

    def new_key(self) -> tuple[str, Secret]:
        """Forms"""
        value = random_key()
        return value, Secret(digest(self._sealer.salt, value).hex(), STORED, is_hash=True)

    def new_account_key(self) -> Secret:
        """Forms"""
        return Secret(random_key(), STORED)

    def revealed(self, secret: Any) -> str:
        """Forms"""
        value: str = secret.reveal()
        return value

    def _sealed(self, value: Any, place: str) -> Any:
        if not isinstance(value, Secret):
            return value
        return {HASH: value.reveal()} if value.is_hash else {SEALED: self._sealer.seal(value.reveal(), place)}

    def _opened(self, value: Any, place: str) -> Any:
        if not isinstance(value, Mapping) or len(value) != 1:
            return value
        if isinstance(found := value.get(HASH), str):
            return Secret(found, STORED, is_hash=True)
        if isinstance(found := value.get(SEALED), str):
            try:
                return Secret(self._sealer.open(found, place), STORED)
            except SealBroken as error:
                raise ConfigError([Fault(STORED, None, place.replace("/", "."), str(error))]) from error
        return value


def replaced(value: Any, place: str, leaf: Any) -> Any:
    """A copy; `leaf` says what stands for a value, and gets the place of each."""
    found = leaf(value, place)
    if found is not value:
        return found
    if isinstance(value, Mapping):
        return {key: replaced(item, f"{place}/{key}", leaf) for key, item in value.items()}
    if isinstance(value, list):
        return [replaced(item, f"{place}/{index}", leaf) for index, item in enumerate(value)]
    return value


def reserved_names(value: Any, place: str = "") -> Iterator[str]:
    """Where a body has a name that stands for a secret in the store."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in (SEALED, HASH):
                yield f"{place}{key}"
            yield from reserved_names(item, f"{place}{key}.")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from reserved_names(item, f"{place}{index}.")


def understood_key(given: Mapping[str, Any], kept: Mapping[str, Any] | None) -> Body:
    """A caller's keys: the values are those that were made here. null revokes one. Raises InvalidResource."""
    body = dict(given)
    for slot in SLOTS:
        value = body.pop(slot, MASK)
        if value not in (None, MASK):
            what = "the server makes the values of keys; leave it out"
            raise InvalidResource(f"The key is not valid: {slot}: {what}.", [(slot, what)])
        if value is not None and kept is not None and kept.get(slot) is not None:
            body[slot] = kept[slot]
    return body


def alone(kind: str) -> type[BaseModel] | None:
    """The schema of a kind that no other setting depends on: such objects are validated by themselves."""
    match kind:
        case "content_filters":
            return ContentFilterSettings
        case "blocklists":
            return BlocklistSettings
        case "prices":
            from modelport.config.prices import PriceEntry

            return PriceEntry
    return None


def check_alone(kind: str, model: type[BaseModel], given: Mapping[str, Any]) -> None:
    """Raises InvalidResource."""
    try:
        model.model_validate(dict(given))
    except ValidationError as error:
        explainer = Explainer(given, lambda path: (STORED, None))
        faults = [(fault.key, fault.what) for _, fault in explainer.explain(error, model)]
        told = "; ".join(f"{key}: {what}" if key else what for key, what in faults)
        raise InvalidResource(f"The {kind[:-1].replace('_', ' ')} is not valid: {told}.", faults) from None


def provider_of(body: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The provider that is written in a deployment."""
    found = body.get("provider") if body is not None else None
    return found if isinstance(found, Mapping) else None


def random_key() -> str:
    """256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
