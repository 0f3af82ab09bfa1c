"""The part of the vocabulary that says which deployments may be made: policies, as `policies.NAME`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from modelport.config.section import Count, Name, Section, Word, refuse

Patterns = Annotated[tuple[Word, ...], Field(max_length=1000)]


class DeploymentPatterns(Section):
    """Patterns with `*` and `?`, without regard to case. Absent: nothing is said of it."""

    models: Patterns | None = None
    """Of the model's name."""
    publishers: Patterns | None = None
    """Of the model's publisher; its format where none is written."""
    formats: Patterns | None = None
    skus: Patterns | None = None
    """Of the capacity type: `*Provisioned*`."""
    providers: Patterns | None = None
    """Of the provider's name or type; each target counts."""
    regions: Patterns | None = None
    """Of the provider's `region`; `server.region` for a model that runs here."""


class DeploymentPolicySettings(Section):
    """Which deployments may be made or changed."""

    allow: DeploymentPatterns = DeploymentPatterns.model_construct()
    """What is not among the patterns of a list is disallowed."""
    deny: DeploymentPatterns = DeploymentPatterns.model_construct()
    """What is among them is disallowed."""
    max_capacity: Count | None = None
    """Units of `sku.capacity`."""
    required_tags: Annotated[tuple[Word, ...], Field(max_length=50)] = ()
    """Tags that a deployment must have."""
    content_filter_at_least: Name | None = None
    """A content filter: a deployment's must block all that this one blocks."""
    effect: Literal["deny", "audit"] = "deny"
    """`audit` takes the change and notes it in the audit."""

    @model_validator(mode="after")
    def _says_something(self) -> DeploymentPolicySettings:
        lists = (self.allow, self.deny)
        rules = (self.max_capacity, self.content_filter_at_least, self.required_tags)
        if not any(rules) and not any(part.model_fields_set for part in lists):
            raise refuse("has no rule: allow, deny, max_capacity, required_tags or content_filter_at_least")
        return self
