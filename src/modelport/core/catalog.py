"""Models, what they can do, and the deployments that give them a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from modelport.core.budgets import Budget
from modelport.core.operations import Operation

ExtraParametersMode = Literal["error", "drop", "pass-through"]
OnStoreOutage = Literal["local_cap", "refuse"]
"""While the store that processes share is slow or gone: each allows its share of the limit, or lets nobody in."""


class Model(Struct, frozen=True):
    """A model as Azure names one. `format` is the publisher's family word: OpenAI, Meta, Mistral AI …"""

    format: str
    name: str
    version: str = "1"
    publisher: str | None = None

    @property
    def provider_name(self) -> str:
        """What `/info` prints as `model_provider_name`."""
        return self.publisher or self.format


class Sku(Struct, frozen=True):
    """The capacity type and how much of it."""

    name: str = "GlobalStandard"
    capacity: int = 1

    @property
    def is_batch(self) -> bool:
        """Nobody waits for the answer of such a deployment: its calls let others go first."""
        return self.name.endswith("Batch")


class Range(Struct, frozen=True):
    """Inclusive bounds of a numeric parameter."""

    minimum: float | None = None
    maximum: float | None = None


class ModelProfile(Struct, frozen=True, kw_only=True):
    """What a model family can do: data, not code (control/profiles/*.yaml). A model without one has `UNKNOWN_PROFILE`:
    nothing is refused or dropped by it.

    `parameters`: standard parameters by wire name → False (unsupported: 422, or dropped), True, or a Range.
    A parameter that is not listed is supported. `None` fields mean: not known, so not checked.
    """

    family: str
    known: bool = True
    operations: frozenset[Operation] = frozenset({Operation.CHAT_COMPLETIONS})
    parameters: Mapping[str, bool | Range] = msgspec.field(default_factory=dict)
    formats: frozenset[str] | None = None
    """`response_format` types it takes; None: not checked."""
    tools: bool | None = None
    extras: frozenset[str] = frozenset()
    """Extras that the family documents; for listing and for the engine, never a reason to refuse others."""
    unsupported_extras: frozenset[str] = frozenset()
    """Extras that are known not to work (an o1's `logprobs`): 422."""
    inputs: frozenset[str] | None = None
    """Part kinds it can read: text, image, audio; None: not checked."""
    system_role: Literal["native", "fold"] = "native"
    """`fold`: the system text goes in front of the first user turn."""
    safety_prompt: str | None = None
    """The system text that `safe_prompt` / `safe_mode` put in front (Mistral)."""
    reasoning: bool = False
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    context: int | None = None
    """Tokens of prompt and completion together."""
    max_output: int | None = None
    dimensions: tuple[int, ...] | None = None
    """Embedding sizes it can make, the default first; one entry: fixed."""
    dimensions_selectable: bool | None = None
    """May `dimensions` be asked for? None: not checked."""
    input_types: frozenset[str] | None = None
    encoding_formats: frozenset[str] | None = None
    max_inputs: int | None = None
    """Items in one embeddings call."""


UNKNOWN_PROFILE = ModelProfile(family="unknown", known=False, operations=frozenset(Operation))


class RateLimits(Struct, frozen=True):
    """What a deployment or key may use. None is unlimited."""

    tokens_per_minute: int | None = None
    requests_per_minute: int | None = None
    concurrent_requests: int | None = None
    wait_seconds: float = 0.0
    on_store_outage: OnStoreOutage | None = None
    """None: as is declared for all limits."""


class Timeouts(Struct, frozen=True):
    """How long a call waits for its target, in seconds. The others begin where `queue` ends."""

    connect: float = 5.0
    first_event: float = 60.0
    between_events: float = 30.0
    whole: float = 600.0
    queue: float = 300.0
    """For a model to load, and for a slot of a target that says when it begins."""


class Target(Struct, frozen=True):
    """One place that can answer: a provider, and what it calls the model. Lower priority goes first."""

    provider: str
    model: str
    priority: int = 0
    weight: int = 1
    max_tokens_name: Literal["max_tokens", "max_completion_tokens"] | None = None
    """What this model wants `max_tokens` to be called; None: the provider knows."""


class Deployment(Struct, frozen=True, kw_only=True):
    """A name that callers use: which model, from whom, under which limits."""

    name: str
    model: Model
    targets: tuple[Target, ...]
    profile: ModelProfile = UNKNOWN_PROFILE
    sku: Sku = Sku()
    limits: RateLimits = RateLimits()
    timeouts: Timeouts = Timeouts()
    extra_parameters: ExtraParametersMode = "error"
    """The mode when the caller sends no header."""
    model_type: str | None = None
    """What `/info` prints instead of the operation's usual word."""
    answers_as: Literal["model", "deployment"] = "model"
    content_filter: str = "Microsoft.Nill"
    spillover: str | None = None
    budget: Budget | None = None
    key_only: bool = False
    """Tokens are refused."""
    default: bool = False

    @property
    def answered_name(self) -> str:
        """`model` on the wire."""
        return self.name if self.answers_as == "deployment" else self.model.name


class Snapshot(Struct, frozen=True, kw_only=True):
    """One immutable, versioned view of everything that decides about a call. A call holds one from start to end."""

    id: str
    deployments: Mapping[str, Deployment]
    """By lower-case name."""
    version: int = 0
    """Of the control plane's objects in it; 0: there never were any."""
    is_stale: bool = False
    """The control plane's store has been away for too long: calls are refused."""
    keys: Mapping[bytes, Any] = msgspec.field(default_factory=dict)
    """KeyEntry by keyed hash of the key."""
    key_salt: bytes = b""
    issuers: tuple[Any, ...] = ()
    """The core.identity.TokenIssuers whose tokens are accepted."""
    role_assignments: Mapping[Any, Any] = msgspec.field(default_factory=dict)
    """What callers are given: core.identity.Assignee → core.roles.Grants."""
    project_budgets: Mapping[str, Budget] = msgspec.field(default_factory=dict)
    """Of the projects that have one."""
    default: str | None = None
    """The default deployment's lower-case name."""
    anonymous: bool = False
    reserve_tokens: int = 1024
    """Completion tokens reserved at a time for a call that names no `max_tokens`."""
    strict: bool = False
    default_content_filter: str = "Microsoft.Nill"
    """The policy of deployments that name none."""
    region: str = "local"
    prices: Any = None
    """The core.ports.money.PriceBook; None: nothing is priced."""

    def deployment(self, name: str) -> Deployment | None:
        """The deployment of this name, whatever its case."""
        return self.deployments.get(name.lower())

    @property
    def default_deployment(self) -> Deployment | None:
        """The one that answers at the root, and where nothing was named."""
        return self.deployments.get(self.default) if self.default is not None else None
