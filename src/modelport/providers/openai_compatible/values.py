"""Kinds of values in an OpenAI-compatible upstream's settings."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Protocol, runtime_checkable
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_core import PydanticCustomError

from modelport.core.proxies import proxy_fault

_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e\t]*")


@runtime_checkable
class Revealing(Protocol):
    """A secret of the configuration, whatever its type."""

    def reveal(self) -> str:
        """The value."""
        ...


def refusal(what: str) -> PydanticCustomError:
    """A reason that repeats no secret, so that the configuration's check may show it."""
    return PydanticCustomError("refused", "{what}", {"what": what})


def revealed(value: Any) -> Any:
    """A secret's value, and any other value as it is."""
    return value.reveal() if isinstance(value, Revealing) else value


def _sendable(value: SecretStr) -> SecretStr:
    if _HEADER_VALUE.fullmatch(value.get_secret_value()) is None:
        raise refusal("holds a character that cannot be sent in a header")
    return value


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise refusal("must be an http:// or https:// address")
    if parts.username is not None or parts.query or parts.fragment:
        raise refusal("must hold no user name, query or fragment; use api_key and api_version")
    return value


def _proxy(value: SecretStr) -> SecretStr:
    if (fault := proxy_fault(value.get_secret_value())) is not None:
        raise refusal(fault)
    return value


def _path(value: str) -> str:
    if not value.startswith("/") or any(char.isspace() for char in value):
        raise refusal("must start with / and hold no space")
    return value


HeaderText = Annotated[SecretStr, BeforeValidator(revealed), AfterValidator(_sendable)]
Url = Annotated[str, AfterValidator(_url)]
Proxy = Annotated[SecretStr, BeforeValidator(revealed), AfterValidator(_proxy)]
UrlPath = Annotated[str, AfterValidator(_path)]
