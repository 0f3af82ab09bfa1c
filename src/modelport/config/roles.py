"""The part of the vocabulary that gives roles: by the claims of tokens, and by assignment."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from modelport.config.section import Name, Section, Url, Word, at_most, described, refuse
from modelport.core.operations import Operation
from modelport.core.roles import Grant, Role, role_named, scope_fault

KINDS = ("user", "group", "application", "key")


def _role(value: object) -> Role:
    found = role_named(value) if isinstance(value, str) else None
    if found is None:
        raise refuse(f"is not one of {', '.join(Role)}, or Azure's name of one")
    return found


RoleName = Annotated[
    Role,
    BeforeValidator(_role),
    described("Inference User, Deployment Contributor, Usage Reader or Administrator"),
]
"""Azure's names are understood: Cognitive Services User, Cognitive Services Contributor and others."""
Patterns = Annotated[tuple[Word, ...], AfterValidator(at_most(100, "patterns"))]


def grant_of(
    role: Role, deployments: tuple[str, ...], operations: tuple[Operation, ...] | None, project: str | None
) -> Grant:
    """In our nouns. Raises ValueError for a scope that means nothing for the role."""
    patterns = tuple(pattern.lower() for pattern in deployments)
    grant = Grant(role, patterns, frozenset(operations) if operations is not None else None, project)
    if (fault := scope_fault(grant)) is not None:
        raise refuse(f"{fault[0]}: {fault[1]}")
    return grant


class ScopedRole(Section):
    """A role, and what it is limited to."""

    role: RoleName
    """Azure's names of it are understood as well."""
    deployments: Patterns = ("*",)
    """Name patterns with `*` and `?`; for Inference Users and Deployment Contributors."""
    operations: tuple[Operation, ...] | None = None
    """For Inference Users. Absent: all."""
    project: Name | None = None
    """A name from `projects`: an Inference User's calls are booked with it, a Usage Reader sees its usage alone."""

    @model_validator(mode="after")
    def _has_a_scope_that_counts(self) -> ScopedRole:
        self.grant  # noqa: B018  raises
        if self.project is not None and self.role not in (Role.INFERENCE_USER, Role.USAGE_READER):
            raise refuse(f"project: the role {self.role.value} is not limited to a project")
        return self

    @property
    def grant(self) -> Grant:
        """In our nouns."""
        return grant_of(self.role, self.deployments, self.operations, self.project)


class ClaimRuleSettings(ScopedRole):
    """What a claim of a token opens."""

    claim: Word
    """A claim of the token: `groups`, `roles`, `oid`, `realm_access.roles` …"""
    value: Word
    """What the claim is, or has in its list."""


class RoleAssignmentSettings(ScopedRole):
    """A role that is assigned to a user, a group, an application or a key; to one of them."""

    user: Word | None = None
    """The `oid` of a user or service principal in Entra; elsewhere the `sub`."""
    principal_type: Literal["User", "ServicePrincipal"] | None = None
    """What `user` is, as Azure's management API was given it; it is shown there, and changes nothing."""
    group: Word | None = None
    """A value of the token's `groups`."""
    application: Word | None = None
    """The id of an application that signs in as itself; users that sign in through it do not get the role."""
    key: Name | None = None
    """A name from `keys`."""
    issuer: Url | None = None
    """The `issuer` of the `auth.oidc` entry that it is about; to be named where there are several."""
    description: Annotated[str, Field(max_length=1024)] | None = None

    @model_validator(mode="after")
    def _is_of_one(self) -> RoleAssignmentSettings:
        if len(self.assignees) != 1:
            raise refuse("needs user, group, application or key, and only one of them")
        if self.key is not None and self.issuer is not None:
            raise refuse("issuer: a key has none")
        if self.principal_type is not None and self.user is None:
            raise refuse("principal_type: says what a user is; leave it out")
        return self

    @property
    def assignees(self) -> list[tuple[str, str]]:
        """Kind and value."""
        return [(kind, value) for kind in KINDS if (value := getattr(self, kind)) is not None]
