"""The part of the vocabulary that says who may use what: keys, projects, prices."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from modelport.config.budgets import BudgetSettings, Currency
from modelport.config.deployments import Limit, OnStoreOutage
from modelport.config.roles import RoleName, grant_of
from modelport.config.secrets import Secret, is_sendable
from modelport.config.section import Count, FilePath, Moment, Name, Section, Word, described, refuse
from modelport.core.operations import Operation
from modelport.core.roles import Grant, Role


def _sendable(secret: Secret) -> Secret:
    if not is_sendable(secret):
        raise refuse(f"the key from {secret.origin} holds a character that cannot be sent in a header")
    return secret


Key = Annotated[Secret, AfterValidator(_sendable)]


class ProjectSettings(Section):
    """Whose keys, budgets and costs belong together."""

    budget: BudgetSettings | None = None


class KeyLimitSettings(Section):
    """What one key may use, whatever the deployment."""

    tokens_per_minute: Limit = "default"
    requests_per_minute: Limit = "default"
    concurrent_requests: Annotated[Count | None, described("a whole number from 1, or null (unlimited)")] = None
    """Calls at the same time; `null`: unlimited."""
    on_store_outage: OnStoreOutage | None = None
    """What happens to calls with this key while the shared store is gone; absent: `quota.on_store_outage`."""


class KeySettings(Section):
    """A caller's two keys, so that one can be replaced while the other works, and what they open."""

    key1: Key | None = None
    key2: Key | None = None
    """Replace one while callers use the other."""
    role: RoleName | None = Role.INFERENCE_USER
    """What the key opens; `deployments` and `operations` limit it. `null`: only what `role_assignments` give it."""
    project: Name | None = None
    """A name from `projects`. A Usage Reader sees its usage alone."""
    expires: Moment | None = None
    """A date or time (UTC unless it says otherwise) from which neither key is valid."""
    deployments: tuple[Word, ...] = ("*",)
    """Name patterns with `*` and `?`."""
    operations: tuple[Operation, ...] | None = None
    """Absent: all."""
    limits: KeyLimitSettings = KeyLimitSettings.model_construct()
    """Beside the deployments' own; both keys share them. `default` is unlimited here."""
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    """The share of what comes free while calls wait for room."""
    budget: BudgetSettings | None = None
    explain: bool = False
    """Whether calls with `x-modelport-explain: true` are answered with what they would do, as administrators' are."""

    @model_validator(mode="after")
    def _opens_something(self) -> KeySettings:
        if self.key1 is None and self.key2 is None:
            raise refuse("has neither key1 nor key2")
        self.grant  # noqa: B018  raises
        return self

    @property
    def grant(self) -> Grant | None:
        """What it opens by itself."""
        if self.role is None:
            if self.deployments != ("*",) or self.operations is not None:
                raise refuse("role: without one, deployments and operations limit nothing")
            return None
        return grant_of(self.role, self.deployments, self.operations, self.project)


class PriceSettings(Section):
    """What tokens cost."""

    file: FilePath | None = None
    """A price list; no list is ever fetched."""
    currency: Currency = "USD"
    unpriced: Literal["allow", "deny", "estimate"] = "allow"
    """What a budget of money does with a call of unknown price: nothing, refuse it, or count an upper estimate."""
