"""Roles, the permissions that each of them gives, and the scope of a grant."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from msgspec import Struct

from modelport.core.operations import Operation


class Role(StrEnum):
    """What a caller can be."""

    INFERENCE_USER = "Inference User"
    DEPLOYMENT_CONTRIBUTOR = "Deployment Contributor"
    USAGE_READER = "Usage Reader"
    ADMINISTRATOR = "Administrator"


class Permission(StrEnum):
    """What a route demands of a caller that is known."""

    INFER = "infer"
    """Ask deployments."""
    READ_ACCOUNT = "read account"
    """Read what an ARM client needs to find its way: subscription, account, the API's description."""
    LIST_MODELS = "list models"
    """Read which deployments there are and what they can do."""
    READ_DEPLOYMENTS = "read deployments"
    """Read how deployments are configured."""
    WRITE_DEPLOYMENTS = "write deployments"
    READ_CATALOGUE = "read catalogue"
    """Read what a deployment can name: models, policies, content filters."""
    READ_USAGE = "read usage"
    READ_METRICS = "read metrics"
    """Read figures about all projects together: metrics, quota."""
    READ_AUDIT = "read audit"
    MANAGE_KEYS = "manage keys"
    """Keys, the account's pair of keys, and role assignments."""
    MANAGE = "manage"
    """Everything else: providers, models, projects, prices, policies, filters."""


PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.INFERENCE_USER: frozenset({Permission.READ_ACCOUNT, Permission.INFER, Permission.LIST_MODELS}),
    Role.DEPLOYMENT_CONTRIBUTOR: frozenset(
        {
            Permission.READ_ACCOUNT,
            Permission.LIST_MODELS,
            Permission.READ_DEPLOYMENTS,
            Permission.WRITE_DEPLOYMENTS,
            Permission.READ_CATALOGUE,
        }
    ),
    Role.USAGE_READER: frozenset({Permission.READ_ACCOUNT, Permission.READ_USAGE, Permission.READ_METRICS}),
    Role.ADMINISTRATOR: frozenset(Permission),
}


class AzureRole(Struct, frozen=True):
    """A role definition of Azure, and the role that it is here."""

    id: str
    name: str
    role: Role


AZURE_ROLES: Final = (
    AzureRole("a97b65f3-24c7-4388-baec-2e87135dc908", "Cognitive Services User", Role.INFERENCE_USER),
    AzureRole("5e0bd9bd-7b93-4f28-af87-19fc36ad61bd", "Cognitive Services OpenAI User", Role.INFERENCE_USER),
    AzureRole("53ca6127-db72-4b80-b1b0-d745d6d5456d", "Azure AI User", Role.INFERENCE_USER),
    AzureRole("64702f94-c441-49e6-a78b-ef80e0188fee", "Azure AI Developer", Role.INFERENCE_USER),
    AzureRole("25fbc0a9-bd7c-42a3-aa1a-3b75d497ee68", "Cognitive Services Contributor", Role.DEPLOYMENT_CONTRIBUTOR),
    AzureRole("bba48692-92b0-4667-a9ad-c31c7b334ac2", "Cognitive Services Usages Reader", Role.USAGE_READER),
    AzureRole("8e3af657-a8ff-443c-a75c-2fe8c4bcb635", "Owner", Role.ADMINISTRATOR),
)
"""Azure's Contributor may not assign roles, and its Cognitive Services OpenAI Contributor is two roles of ours: neither
is here."""
ROLE_IDS: Final[Mapping[Role, str]] = {found.role: found.id for found in reversed(AZURE_ROLES)}
"""The Azure role definition that stands for each role in ARM's answers: the first one."""
ALIASES: Final[Mapping[str, Role]] = {
    **{role.value.lower(): role for role in Role},
    **{found.id: found.role for found in AZURE_ROLES},
    **{found.name.lower(): found.role for found in AZURE_ROLES},
}
"""Role names and Azure's names and ids for them, in lower case."""


def azure_role_named(text: str) -> AzureRole | None:
    """The definition of this Azure name, Azure id or role name, whatever the case."""
    wanted = text.strip().lower()
    exact = (found for found in AZURE_ROLES if wanted in (found.id, found.name.lower()))
    of_role = (found for found in AZURE_ROLES if wanted == found.role.value.lower())
    return next(exact, next(of_role, None))


def role_named(text: str) -> Role | None:
    """The role of this name, Azure name or Azure id, whatever the case."""
    return ALIASES.get(text.strip().lower())


class Grant(Struct, frozen=True):
    """A role within a scope."""

    role: Role
    deployments: tuple[str, ...] = ("*",)
    """Name patterns (fnmatch, lower case)."""
    operations: frozenset[Operation] | None = None
    """None: all."""
    project: str | None = None
    """An Inference User's calls are booked with it; a Usage Reader reads its usage alone."""

    @property
    def is_unscoped(self) -> bool:
        """Whether it covers every deployment."""
        return "*" in self.deployments

    def gives(self, permission: Permission) -> bool:
        """Whether the role has this permission. Metrics are about all projects: not for the reader of one."""
        if permission is Permission.READ_METRICS and self.role is Role.USAGE_READER and self.project is not None:
            return False
        return permission in PERMISSIONS[self.role]

    def covers(self, deployment: str | None, operation: Operation | None = None) -> bool:
        """Whether a deployment of this name, and an operation, are in scope. None: any."""
        if operation is not None and self.operations is not None and operation not in self.operations:
            return False
        if deployment is None or self.is_unscoped:
            return True
        name = deployment.lower()
        return any(fnmatchcase(name, pattern) for pattern in self.deployments)


def scope_fault(grant: Grant) -> tuple[str, str] | None:
    """The part of a scope that means nothing for the role, and why: a scope that is not enforced must not be accepted.
    None: every part has a meaning."""
    is_narrow = grant.deployments != ("*",)
    if grant.role is not Role.INFERENCE_USER and grant.operations is not None:
        return "operations", f"only an Inference User is limited to operations, not a role {grant.role.value}"
    if grant.role in (Role.ADMINISTRATOR, Role.USAGE_READER) and is_narrow:
        return "deployments", f"the role {grant.role.value} is not limited to deployments"
    return None
