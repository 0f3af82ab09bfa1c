"""How the gateway gets a token for an upstream: what an operator may say, and what is asked then."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from modelport.core.ports.providers import Address, Transport
from modelport.providers.openai_compatible.values import Url, refusal, revealed
from modelport.upstream.credentials import entra, oauth
from modelport.upstream.credentials.oauth import ClientAuthentication, ClientCredentials
from modelport.upstream.credentials.source import Fetch

Word = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,500}$")]
Words = Annotated[str, Field(pattern=r"^[\x20-\x7e]{1,2000}$")]
Kind = Literal["managed_identity", "workload_identity", "client_secret", "oauth"]
NEEDED: Final[dict[Kind, tuple[str, ...]]] = {
    "managed_identity": (),
    "workload_identity": (),
    "client_secret": ("tenant_id", "client_id", "client_secret"),
    "oauth": ("token_url", "client_id", "client_secret"),
}
POSSIBLE: Final[dict[Kind, tuple[str, ...]]] = {
    "managed_identity": ("client_id", "scope"),
    "workload_identity": ("tenant_id", "client_id", "scope"),
    "client_secret": ("scope", "authority"),
    "oauth": ("scope", "audience", "client_authentication"),
}


class CredentialSettings(BaseModel):
    """`credential` of a provider. `type`: Entra in three ways, or the client credentials grant of any token server."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    type: Kind
    tenant_id: Word | None = None
    client_id: Word | None = None
    client_secret: Annotated[SecretStr, BeforeValidator(revealed)] | None = None
    authority: Url | None = None
    """Where Entra is; absent: the public cloud."""
    token_url: Url | None = None
    scope: Words | None = None
    audience: Words | None = None
    client_authentication: ClientAuthentication | None = None

    @model_validator(mode="after")
    def _fits_its_type(self) -> CredentialSettings:
        needed, given = NEEDED[self.type], self.model_fields_set - {"type"}
        if missing := [name for name in needed if getattr(self, name) is None]:
            raise refusal(f"{missing[0]} is missing: the type {self.type} needs {', '.join(needed)}")
        if surplus := sorted(given.difference(needed, POSSIBLE[self.type])):
            raise refusal(f"{surplus[0]} is not for the type {self.type}")
        if self.type != "oauth" and not entra.is_installed():
            raise refusal("azure-identity is not installed; install modelport[entra]")
        return self


def fetch_of(settings: CredentialSettings, upstream: Address, transport: Transport) -> Fetch:
    """What asks for a token. The token server is reached as the upstream is: by its proxy, trusting its CA file."""
    secret = settings.client_secret.get_secret_value() if settings.client_secret is not None else None
    if settings.type != "oauth":
        credentials = entra.EntraCredentials(
            kind=settings.type,
            scope=settings.scope or entra.DEFAULT_SCOPE,
            tenant_id=settings.tenant_id,
            client_id=settings.client_id,
            client_secret=secret,
            authority=settings.authority,
            ca_file=upstream.ca_file,
            proxy=upstream.proxy,
        )
        return partial(entra.fetch_token, credentials)
    assert settings.token_url is not None and settings.client_id is not None and secret is not None
    more = {"scope": settings.scope, "audience": settings.audience}
    asked = ClientCredentials(
        token_url=settings.token_url,
        client_id=settings.client_id,
        client_secret=secret,
        client_authentication=settings.client_authentication or "client_secret_post",
        more=[(name, value) for name, value in more.items() if value is not None],
        ca_file=upstream.ca_file,
        proxy=upstream.proxy,
        verify_tls=upstream.verify_tls,
    )
    return partial(oauth.fetch_token, asked, transport)
