"""What an operator may say about an OpenAI-compatible upstream."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from modelport.providers.openai_compatible.credential import CredentialSettings
from modelport.providers.openai_compatible.endpoints import ENDPOINTS
from modelport.providers.openai_compatible.values import HeaderText, Proxy, Url, UrlPath, refusal

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_RESERVED_HEADERS: Final = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding"}
)


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
    credential: CredentialSettings | None = None
    """Instead of a key: an access token, sent as `Authorization: Bearer`."""
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
    proxy: Proxy | None = None

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
        if self.credential is not None:
            for name in ("api_key", "auth"):
                if getattr(self, name) is not None:
                    raise refusal(f"{name} beside credential: give one of them")
            if "authorization" in map(str.lower, self.headers):
                raise refusal("headers: 'authorization' beside credential: give one of them")
        return self
