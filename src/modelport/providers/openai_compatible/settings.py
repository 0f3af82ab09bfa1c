"""What an operator may say about an OpenAI-compatible upstream."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol, runtime_checkable
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from modelport.providers.openai_compatible.endpoints import ENDPOINTS

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e\t]*")
_RESERVED_HEADERS: Final = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding"}
)


@runtime_checkable
class Revealing(Protocol):
    """A secret of the configuration, whatever its type."""

    def reveal(self) -> str:
        """The value."""
        ...


def refusal(what: str) -> PydanticCustomError:
    """A reason that repeats no secret, so that the configuration's check may show it."""
    return PydanticCustomError("refused", "{what}", {"what": what})


def _revealed(value: Any) -> Any:
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


def _path(value: str) -> str:
    if not value.startswith("/") or any(char.isspace() for char in value):
        raise refusal("must start with / and hold no space")
    return value


HeaderText = Annotated[SecretStr, BeforeValidator(_revealed), AfterValidator(_sendable)]
Url = Annotated[str, AfterValidator(_url)]
UrlPath = Annotated[str, AfterValidator(_path)]


class Paths(BaseModel):
    """Where the operations are, below `base_url`; `{model}` stands for the upstream's name of the model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chat: UrlPath | None = None
    completions: UrlPath | None = None
    embeddings: UrlPath | None = None
    image_embeddings: UrlPath | None = None


class Settings(BaseModel):
    """The keys beside `type: openai_compatible`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    host: str | None = None
    """A known host: its address and habits. `base_url` and the other keys win over it."""
    base_url: Url | None = None
    unix_socket: Path | None = None
    """Connects here; the path of `base_url` is kept."""
    api_key: HeaderText | None = None
    auth: Literal["bearer", "api-key"] | None = None
    """How the key is sent: `Authorization: Bearer` or the `api-key` header."""
    headers: dict[str, HeaderText] = Field(default_factory=dict)
    organization: HeaderText | None = None
    paths: Paths = Paths()
    api_version: Annotated[str, Field(pattern=r"^[0-9A-Za-z.-]{1,40}$")] | None = None
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] | None = None
    stream_usage: bool | None = None
    """Ask for `stream_options.include_usage`?"""
    embeddings_format: Literal["base64", "float"] | None = None
    verify_tls: bool = True
    ca_file: Path | None = None
    proxy: Annotated[SecretStr, BeforeValidator(_revealed)] | None = None

    @model_validator(mode="after")
    def _is_somewhere(self) -> Settings:
        if self.host is not None and self.host not in ENDPOINTS:
            raise refusal(f"host {self.host!r} is not known; known: {', '.join(ENDPOINTS)}; or give base_url")
        known = ENDPOINTS[self.host].base_url if self.host is not None else None
        if self.base_url is None and known is None:
            raise refusal("base_url is missing")
        for name in self.headers:
            if _HEADER_NAME.fullmatch(name) is None or name.lower() in _RESERVED_HEADERS:
                raise refusal(f"headers: {name!r} cannot be set")
        return self
