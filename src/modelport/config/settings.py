"""The whole vocabulary of the configuration file, as one frozen tree.

All of it parses. What has no effect in this version is listed in `landed`, and refused there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from modelport.auth.oidc.issuers import audience_fault, issuer_fault
from modelport.config.budgets import BudgetsSettings
from modelport.config.content_filters import ContentFilterSettings, ListedBlocklist, SafetySettings
from modelport.config.deployment_policies import DeploymentPolicySettings
from modelport.config.deployments import (
    CatalogueEntry,
    DeploymentSettings,
    ExtraParameters,
    OnStoreOutage,
    ProviderSettings,
)
from modelport.config.policies import (
    Key,
    KeySettings,
    PriceSettings,
    ProjectSettings,
)
from modelport.config.roles import ClaimRuleSettings, RoleAssignmentSettings
from modelport.config.rules import (
    DEFAULT_DATA_DIR,
    DEFAULT_HOST,
    DEFAULT_PORT,
    DEFAULT_REGION,
    MAX_KEYS,
    MAX_PORT,
    REGION_PATTERN,
    SECRETS_KEY_CHARACTERS,
    tls_fault,
)
from modelport.config.secrets import Secret
from modelport.config.section import (
    FilePath,
    Host,
    Name,
    Network,
    Origin,
    Proxy,
    Seconds,
    Section,
    Url,
    Word,
    at_most,
    described,
    refuse,
)


class TlsSettings(Section):
    """How the listener is secured: a certificate of our own making, or yours."""

    self_signed: bool = False
    """Makes a certificate authority and a certificate in the data directory."""
    cert: FilePath | None = None
    """A PEM file with the certificate, and its chain after it."""
    key: FilePath | None = None
    """The PEM file with the certificate's private key, without a passphrase."""
    terminated_upstream: bool = False
    """A proxy in front of the server ends TLS, so tokens may come over plain http; nothing else may reach this port."""

    @model_validator(mode="after")
    def _is_one_way(self) -> TlsSettings:
        if (fault := tls_fault(self.self_signed, self.cert, self.key)) is not None:
            raise refuse(fault)
        return self

    @property
    def is_enabled(self) -> bool:
        """Does the listener speak TLS?"""
        return self.self_signed or self.cert is not None


class ServerLimits(Section):
    """Bounds of every request."""

    body_bytes: Annotated[int, Field(ge=1024, le=2**31)] = 20_971_520
    """More is answered 413."""
    header_bytes: Annotated[int, Field(ge=1024, le=2**20)] = 32_768
    """More is answered 431."""
    json_depth: Annotated[int, Field(ge=4, le=1000)] = 64
    """Objects and lists inside each other; more is answered 400."""
    json_containers: Annotated[int, Field(ge=64, le=2**20)] = 65_536
    """Objects and lists in one body; more is answered 400, as are twice as many names or eight times as many values."""
    request_seconds: Seconds = 600
    """For a whole call, and for running calls when the server ends."""
    header_seconds: Seconds = 20
    """How long a client may take for a request's head, and for its TLS handshake before that."""
    idle_seconds: Seconds = 30
    """How long a request's body may stand still while it arrives, and its answer while the client does not read it."""
    connections: Annotated[int, Field(ge=1, le=2**20)] = 8192
    """Connections of one process; more are answered 503. Never more than half of the open files that it may have."""


class ServerSettings(Section):
    """The listener and what holds for every deployment."""

    host: Host = DEFAULT_HOST
    """The address to listen on. One that is not loopback needs a key of your own."""
    port: Annotated[int, Field(ge=0, le=MAX_PORT)] = DEFAULT_PORT
    """0 takes a free one."""
    data_dir: FilePath = Field(default=Path(DEFAULT_DATA_DIR), validate_default=True)
    """Keys, journals, pulled weights."""
    tls: TlsSettings = TlsSettings.model_construct()
    workers: Annotated[int, Field(ge=1, le=1024)] = 1
    """Processes that serve."""
    region: Annotated[str, Field(pattern=REGION_PATTERN)] = DEFAULT_REGION
    """The `x-ms-region` of every answer."""
    allowed_hosts: Annotated[tuple[Host, ...], AfterValidator(at_most(100, "names"))] = ()
    """Names, without a port, that a server with `auth.anonymous` answers to besides those of loopback."""
    trusted_proxies: Annotated[tuple[Network, ...], AfterValidator(at_most(100, "networks"))] = ()
    """Addresses and networks (`10.0.0.0/8`) of the proxies in front of the server. The client of a request that one of
    them sends is the last address of its `X-Forwarded-For` that is none of these."""
    strict: bool = False
    """Refuses what the real service refuses, where we are lenient."""
    cors_origins: Annotated[tuple[Origin, ...], AfterValidator(at_most(100, "origins"))] = ()
    """Web pages that may call from a browser: `https://app.example`, or `*`."""
    default_content_filter: Name | None = None
    """The content filter of deployments that name none; absent: `Microsoft.DefaultV2` where the local classifier is
    installed (`pip install 'modelport[local]'`), else `Microsoft.Nill`, which filters nothing."""
    public_url: Url | None = None
    """`https://host` as callers see it, for the absolute links of Azure's management API."""
    limits: ServerLimits = ServerLimits.model_construct()


Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]


def _issuer(value: str) -> str:
    if (fault := issuer_fault(value)) is not None:
        raise refuse(fault)
    return value


def _audiences(value: tuple[str, ...]) -> tuple[str, ...]:
    for audience in value:
        if (fault := audience_fault(audience)) is not None:
            raise refuse(fault)
    return value


class OidcIssuer(Section):
    """An issuer whose tokens are accepted."""

    issuer: Annotated[Url, AfterValidator(_issuer)]
    """The token's `iss`; its keys are found below this address. For a tenant of Entra, either of its two issuers."""
    audiences: Annotated[tuple[Word, ...], Field(min_length=1), AfterValidator(_audiences)]
    """The token's `aud` is one of these; a slash at its end does not count. `https://management.azure.com` is no one of
    them: Azure's management API alone accepts it."""
    ca: FilePath | None = None
    """A PEM file with the authorities that the issuer's certificate may come from. Absent: those of SSL_CERT_FILE, else
    the system's."""
    proxy: Proxy | None = None
    """The HTTP proxy by which its description and its keys are fetched: an address, or `env:NAME` if that holds a
    password. Absent: none, whatever the environment says."""
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256",)
    """How its tokens are signed."""
    leeway: Annotated[float, Field(ge=0, le=600)] = 60
    """Seconds by which its clock and this one may differ."""
    roles: tuple[ClaimRuleSettings, ...] = ()
    """Who of its users and applications may do what; a token that no rule and no assignment fits may do nothing."""


class AuthSettings(Section):
    """Who may call."""

    keys: Annotated[tuple[Key, ...], AfterValidator(at_most(MAX_KEYS, "keys"))] = ()
    """The operator's keys, all valid at once. None: one is made at the first start."""
    anonymous: bool = False
    """Lets everybody in; on loopback addresses only."""
    oidc: Annotated[tuple[OidcIssuer, ...], AfterValidator(at_most(32, "issuers"))] = ()
    """Issuers whose tokens are accepted."""
    failures_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] | None = 300
    """Credentials that are not valid, from one address; more are answered 429 unless they are known. null: no limit."""


class EngineSettings(Section):
    """How models run on this machine."""

    slots: Annotated[int, Field(ge=1, le=64)] = 4
    """Answers that one model generates at the same time."""
    context: Annotated[int, Field(ge=256, le=2**24)] = 8192
    """Tokens of prompts and completions, shared by the slots."""
    threads: Annotated[
        Annotated[int, Field(ge=1, le=1024)] | Literal["auto"], described("auto or a whole number from 1")
    ] = "auto"
    """`auto`: the cores that the server may use."""
    queue: Annotated[int, Field(ge=0, le=65_536)] = 64
    """Calls that wait for a slot; more are answered 503."""
    load: Literal["start", "first_use"] = "start"
    """When weights are loaded."""
    idle_unload_seconds: Seconds | None = None
    """Frees a model's memory after this long without a call; null: never."""

    @model_validator(mode="after")
    def _slots_have_room(self) -> EngineSettings:
        if self.context // self.slots < 256:
            what = "is shared by the slots and leaves fewer than 256 tokens for each"
            raise refuse(f"a context of {self.context} {what} of {self.slots}")
        return self


class QuotaSettings(Section):
    """How limits are kept when several processes share them."""

    store: Literal["memory", "sqlite", "redis"] | None = None
    """`memory` of this server, `sqlite` in the data directory (it survives a restart), `redis` for several hosts.
    Absent: Redis where `redis_url` is set, else memory."""
    on_store_outage: OnStoreOutage = "local_cap"
    """What happens to calls while the shared store is slow or gone, where their limits say nothing of their own."""


class LedgerSettings(Section):
    """What becomes of calls that are in the ledger."""

    keep_journal_hours: Annotated[float, Field(ge=0)] | None = 24
    """A journal file whose every call is in the ledger is removed so long after its last line. None: never."""
    keep_days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    """Single calls are removed from the ledger so many days after they began; their sums stay. null: never."""


class ArmSettings(Section):
    """The names under which Azure's management SDK finds this account. Absent: any name is taken, and echoed."""

    subscription: Word | None = None
    resource_group: Word | None = None
    account: Word | None = None


class ControlSettings(Section):
    """How changes over the API are served."""

    stale_seconds: Seconds = 300
    """For so long calls are answered while the store cannot be reached; then they are answered 503."""
    arm: ArmSettings = ArmSettings.model_construct()


class TelemetrySettings(Section):
    """What the server tells about itself."""

    log: Literal["auto", "json", "text"] = "auto"
    """The form of a log line. `auto`: a short line for people on a terminal, JSON elsewhere."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines that are written."""
    public: bool = False
    """Shows `/metrics` without a credential."""
    otlp_endpoint: Url | None = None
    """Where traces are sent."""


def _long(secret: Secret) -> Secret:
    if len(secret.reveal()) < SECRETS_KEY_CHARACTERS:
        raise refuse(f"the key from {secret.origin} has fewer than {SECRETS_KEY_CHARACTERS} characters")
    return secret


class Settings(Section):
    """Everything that can be configured."""

    server: ServerSettings = Field(default_factory=ServerSettings)
    auth: AuthSettings = AuthSettings.model_construct()
    extra_parameters: ExtraParameters = "error"
    """What happens to unknown request fields when the caller sends no `extra-parameters` header."""
    providers: dict[Name, ProviderSettings] = Field(default_factory=dict)
    """Where models run, by the name that deployments use."""
    models: tuple[CatalogueEntry, ...] = ()
    """The catalogue: what can be deployed by name alone."""
    deployments: dict[Name, DeploymentSettings] = Field(default_factory=dict)
    """What callers can name as `model`. None: the embedded models, under their own names."""
    engine: EngineSettings = EngineSettings.model_construct()
    content_filters: dict[Name, ContentFilterSettings] = Field(default_factory=dict)
    """Content filter policies, by the name that deployments use."""
    blocklists: dict[Name, ListedBlocklist] = Field(default_factory=dict)
    """Lists of texts and patterns, by the name that policies use."""
    content_safety: SafetySettings = SafetySettings.model_construct()
    """Services that content filters ask."""
    projects: dict[Name, ProjectSettings] = Field(default_factory=dict)
    policies: dict[Name, DeploymentPolicySettings] = Field(default_factory=dict)
    """Rules over deployments, evaluated when one is created or changed over the API; the file's own are not judged."""
    keys: dict[Name, KeySettings] = Field(default_factory=dict)
    """Keys for inference, limited to deployments and operations."""
    role_assignments: dict[Name, RoleAssignmentSettings] = Field(default_factory=dict)
    """Roles of users, groups, applications and keys."""
    prices: PriceSettings = PriceSettings.model_construct()
    budgets: BudgetsSettings = BudgetsSettings.model_construct()
    quota: QuotaSettings = QuotaSettings.model_construct()
    control: ControlSettings = ControlSettings.model_construct()
    secrets_key: Annotated[Secret, AfterValidator(_long)] | None = None
    """Seals the secrets that are set over the API: at least 32 characters. Absent: one is made in the data directory;
    required with PostgreSQL, and the same for all servers of one database."""
    database_url: Secret | None = None
    """Where the control plane and the ledger live; absent: SQLite in the data directory."""
    ledger: LedgerSettings = LedgerSettings.model_construct()
    redis_url: Secret | None = None
    """Where a fleet's quota lives: `redis://host:6379/0`, `rediss://` with TLS, or `unix://`."""
    telemetry: TelemetrySettings = TelemetrySettings.model_construct()
