"""The part of the vocabulary that says which model is answered by whom: providers, catalogue, deployments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, Field, JsonValue, PlainSerializer, Tag, model_validator

from modelport.config.budgets import BudgetSettings
from modelport.config.secrets import Secret
from modelport.config.section import Count, Name, Seconds, Section, Version, Word, at_most, described, refuse

ExtraParameters = Literal["error", "drop", "pass-through"]
OnStoreOutage = Literal["local_cap", "refuse"]
SkuName = Literal[
    "GlobalStandard",
    "DataZoneStandard",
    "Standard",
    "GlobalProvisionedManaged",
    "DataZoneProvisionedManaged",
    "ProvisionedManaged",
    "GlobalBatch",
    "DataZoneBatch",
    "GlobalManagedCompute",
]
Limit = Annotated[Count | Literal["default"] | None, described("a whole number from 1, null (unlimited) or default")]


def masked(value: Any) -> Any:
    """A copy of plain data that can be shown: the mask in place of every Secret."""
    return _with_secrets_as(str, value)


def revealed(value: Any) -> Any:
    """A copy of plain data with every Secret replaced by its value."""
    return _with_secrets_as(Secret.reveal, value)


def _with_secrets_as(text: Callable[[Secret], str], value: Any) -> Any:
    match value:
        case Secret():
            return text(value)
        case Mapping():
            return {key: _with_secrets_as(text, item) for key, item in value.items()}
        case list() | tuple():
            return [_with_secrets_as(text, item) for item in value]
        case _:
            return value


class ProviderSettings(Section):
    """Where models run. Every key but `type` and `region` belongs to the adapter of that type."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, PlainSerializer(masked, when_used="json")]]

    type: Word
    """The adapter: a module of `modelport.providers`, an embedded engine, or an installed plug-in."""
    region: Word | None = None
    """Where it runs, for policies over deployments."""

    def options(self) -> dict[str, Any]:
        """What the adapter gets, secrets revealed: hand it on, print it never."""
        return {key: revealed(value) for key, value in (self.__pydantic_extra__ or {}).items()}


class InlineProviderSettings(ProviderSettings):
    """A provider written in its deployment."""

    model: Word | None = None
    """What the upstream calls the model; the deployment's `model.name` when absent."""


class ModelSettings(Section):
    """Which model this is, in Azure's words."""

    format: Word = "Custom"
    """The publisher's word: `OpenAI`, `Meta`, `Mistral AI`, `Cohere` …; `Custom` for a model of your own."""
    name: Word
    """The model's name; the profile of what it can do is found by it, and it is the `model` of every answer."""
    version: Version = "1"
    publisher: Word | None = None
    """Who made it, where that differs from `format`; `/info` prints it."""


class CatalogueEntry(ModelSettings):
    """A model that can be deployed by name alone."""

    provider: Name
    """A name from `providers`."""
    upstream_model: Word | None = None
    """What the provider calls the model; `name` when absent."""


class SkuSettings(Section):
    """The capacity type and how much of it."""

    name: SkuName = "GlobalStandard"
    capacity: Count = 1
    """Units. One is 1,000 tokens per minute for `OpenAI` models of the Standard types."""


class TargetSettings(Section):
    """One of several places that can answer."""

    provider: Name
    """A name from `providers`."""
    model: Word | None = None
    """What that provider calls the model; the deployment's `model.name` when absent."""
    priority: Annotated[int, Field(ge=0, le=1000)] = 0
    """Lower goes first; the next priority is asked when all of this one have failed before the first event."""
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    """The share among targets of one priority."""


class TimeoutSettings(Section):
    """How long a target may take, in seconds. Waiting counts as `queue` alone: the others begin after it."""

    connect: Seconds = 5
    queue: Seconds = 300
    """For a model that runs here to load, and for one of its slots; then 503."""
    first_event: Seconds = 60
    """Until the answer begins."""
    between_events: Seconds = 30
    """Of silence in a stream."""
    whole: Seconds = 600
    """For the whole answer."""


class LimitSettings(Section):
    """What a deployment may use. `null` is unlimited; `default` follows the SKU and the model's format."""

    tokens_per_minute: Limit = "default"
    requests_per_minute: Limit = "default"
    concurrent_requests: Annotated[Count | None, described("a whole number from 1, or null (unlimited)")] = None
    """Calls at the same time; `null`: unlimited."""
    wait_seconds: Annotated[float, Field(ge=0, le=3600)] = 0
    """How long a call waits for room before it is answered 429."""
    on_store_outage: OnStoreOutage | None = None
    """What happens to calls of this deployment while the shared store is gone; absent: `quota.on_store_outage`."""


Tags = Annotated[dict[Word, Annotated[str, Field(max_length=256)]], AfterValidator(at_most(50, "tags"))]


def _provider_form(value: Any) -> str:
    return "mapping" if isinstance(value, dict | ProviderSettings) else "name"


class DeploymentSettings(Section):
    """A name that callers use as `model`, and what stands behind it."""

    model: ModelSettings
    sku: SkuSettings = SkuSettings.model_construct()
    provider: (
        Annotated[
            Annotated[Name, Tag("name")] | Annotated[InlineProviderSettings, Tag("mapping")],
            Discriminator(_provider_form),
        ]
        | None
    ) = None
    """A name from `providers`, or a provider written here; absent: the catalogue's."""
    targets: Annotated[tuple[TargetSettings, ...], Field(min_length=1, max_length=64)] | None = None
    """Instead of `provider`, when several places can answer."""
    timeouts: TimeoutSettings = TimeoutSettings.model_construct()
    profile: dict[Word, JsonValue] = Field(default_factory=dict)
    """Overrides of what the model's family can do: `tools: supported`, `seed: unsupported` …"""
    model_type: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """What `/info` prints as `model_type`, instead of the operation's usual word."""
    answers_as: Literal["model", "deployment"] = "model"
    """Whose name is the `model` of an answer."""
    extra_parameters: ExtraParameters | None = None
    """Absent: the top-level `extra_parameters`."""
    content_filter: Name | None = None
    """A policy of `content_filters`, or one of the built-in ones; absent: `server.default_content_filter`."""
    limits: LimitSettings = LimitSettings.model_construct()
    spillover: Name | None = None
    """The deployment that takes over while this one is at its limit."""
    budget: BudgetSettings | None = None
    """What all its calls together may cost."""
    key_only: bool = False
    """Refuses tokens, as Azure's serverless endpoints do."""
    tags: Tags = Field(default_factory=dict)
    """Words of your own: `team: search`. Policies can require them."""
    default: bool = False
    """Answers on the root form, and wherever no model is named. At most one."""

    @model_validator(mode="after")
    def _one_way_to_name_a_provider(self) -> DeploymentSettings:
        if self.provider is not None and self.targets is not None:
            raise refuse("has both provider and targets; keep one of them")
        return self
