"""What each endpoint of this API gets: the control plane, the names in the path, and the base of absolute links."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal
from urllib.parse import quote

from msgspec import Struct

from modelport.admin.arm.errors import ArmNotFound
from modelport.admin.arm.links import link_base
from modelport.admin.endpoint import AdminRequest, Answer, Endpoint, Method, json_answer
from modelport.control.access import ScopedObjects
from modelport.control.resources.rules import is_same
from modelport.core.catalog import ModelProfile, Snapshot
from modelport.core.errors import BadRequest
from modelport.core.identity import TokenIssuer
from modelport.core.operations import Operation
from modelport.core.ports.control import ControlPlane
from modelport.core.roles import Permission

SUBSCRIPTION: Final = "/subscriptions/{subscription}"
PROVIDER: Final = "/providers/Microsoft.CognitiveServices"
GROUP: Final = f"{SUBSCRIPTION}/resourceGroups/{{group}}{PROVIDER}"
ACCOUNT: Final = f"{GROUP}/accounts/{{account}}"
LOCATION: Final = f"{SUBSCRIPTION}{PROVIDER}/locations/{{location}}"
NIL_ID: Final = "00000000-0000-0000-0000-000000000000"
"""The tenant and the subscription, where the configuration names none."""
UNNAMED: Final = "modelport"
"""Resource group and account in lists, where the configuration names none."""


class ArmNames(Struct, frozen=True, kw_only=True):
    """The names under which the account is found. None: any name."""

    subscription: str | None = None
    group: str | None = None
    account: str | None = None


class ArmServer(Struct, frozen=True):
    """Where this server is."""

    region: str
    public_url: str | None
    """`https://host` as callers see it; None: as each request says."""


class CatalogueModel(Struct, frozen=True, kw_only=True):
    """A model that can be deployed."""

    format: str
    name: str
    version: str
    publisher: str | None = None
    operations: frozenset[Operation] = frozenset()
    context: int | None = None
    """Tokens of prompt and completion together; None: not known."""
    max_output: int | None = None

    @property
    def identity(self) -> tuple[str, str, str]:
        """What two entries of a catalogue cannot share."""
        return self.format.lower(), self.name.lower(), self.version.lower()


class Arm(Struct, frozen=True, kw_only=True):
    """What this API builds on."""

    plane: ControlPlane
    snapshot: Callable[[], Snapshot]
    """What is served now."""
    names: Callable[[], ArmNames]
    profile_of: Callable[[str], ModelProfile]
    """What a model of this name can do."""
    built_in: Sequence[CatalogueModel]
    """Models that this server can run by itself."""
    server: Callable[[], ArmServer]

    @property
    def tenant(self) -> TokenIssuer | None:
        """The first issuer in Entra's shape: where Azure's clients sign in."""
        return next((issuer for issuer in self.snapshot().issuers if issuer.tenant is not None), None)

    @property
    def tenant_id(self) -> str:
        """Of the issuer; without one, the nil id."""
        return (self.tenant and self.tenant.tenant) or NIL_ID

    def base_of(self, request: AdminRequest) -> str | None:
        """`https://host`, without a slash at the end; None where the request's Host cannot be trusted."""
        return link_base(self.server().public_url, request.scheme, request.headers.get("host"), request.local_address)


class Scope(Struct, frozen=True):
    """One request at its place."""

    arm: Arm
    request: AdminRequest
    names: Mapping[str, str]
    """What stands in the places of the path, decoded."""

    @property
    def objects(self) -> ScopedObjects:
        """The control plane's objects, as this caller may use them."""
        return ScopedObjects(self.arm.plane, self.request.principal)

    @property
    def account_id(self) -> str:
        """The account's resource id, with the names as they were sent."""
        parts = ["subscriptions", self.names["subscription"], "resourceGroups", self.names["group"]]
        return "/" + "/".join([*parts, "providers", "Microsoft.CognitiveServices", "accounts", self.names["account"]])

    @property
    def base(self) -> str:
        """The base of absolute links. Raises BadRequest."""
        found = self.arm.base_of(self.request)
        if found is None:
            raise BadRequest("Links need an address: set server.public_url (`https://host`).", target="Host")
        return found

    def operations_url(self, collection: str, operation_id: str) -> str | None:
        """Where a change is followed; None where there is no base for links."""
        base = self.arm.base_of(self.request)
        if base is None:
            return None
        subscription, version = quote(self.names["subscription"], safe=""), self.request.query.get("api-version", "")
        place = f"/subscriptions/{subscription}{PROVIDER}/locations/{quote(self.arm.server().region)}/{collection}"
        return f"{base}{place}/{operation_id}" + (f"?api-version={quote(version, safe='')}" if version else "")

    def child(self, collection: str, name: str, properties: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """A resource below the account."""
        types = "/".join(collection.split("/")[::2])
        return {
            "id": f"{self.account_id}/{collection}/{name}",
            "name": name,
            "type": f"Microsoft.CognitiveServices/accounts/{types}",
            **more,
            "properties": dict(properties),
        }

    def not_found(self, collection: str, name: str) -> ArmNotFound:
        """What Azure says of a resource that is not there."""
        place = f"Microsoft.CognitiveServices/accounts/{self.names['account']}/{collection}/{name}"
        message = f"The Resource '{place}' under resource group '{self.names['group']}' was not found."
        return ArmNotFound(message, code="ResourceNotFound")


Handler = Callable[[Scope], Awaitable[Answer]]


class Routes:
    """Collects endpoints: all without regard to case, each checked for the names that are configured."""

    def __init__(self, arm: Arm) -> None:
        self._arm = arm
        self.endpoints: list[Endpoint] = []

    def add(self, method: Method, path: str, handler: Handler, permission: Permission | Literal["public"]) -> None:
        """One endpoint."""
        arm = self._arm

        async def answer(request: AdminRequest, names: Mapping[str, str]) -> Answer:
            check_names(arm.names(), names)
            return await handler(Scope(arm, request, names))

        self.endpoints.append(
            Endpoint(
                method=method,
                path=path,
                answer=answer,
                permission=permission,
                is_case_sensitive=False,
            )
        )


def check_names(configured: ArmNames, given: Mapping[str, str]) -> None:
    """Raises ArmNotFound where the configuration names another subscription, group or account."""
    for place, code, what in (
        ("subscription", "SubscriptionNotFound", "The subscription '{}' could not be found."),
        ("group", "ResourceGroupNotFound", "Resource group '{}' could not be found."),
        ("account", "ResourceNotFound", "The Resource 'Microsoft.CognitiveServices/accounts/{}' was not found."),
    ):
        wanted, found = getattr(configured, place), given.get(place)
        if wanted is not None and found is not None and not is_same(found, wanted):
            raise ArmNotFound(what.format(found), code=code)


def page(items: Sequence[Any]) -> Answer:
    """A list; all of it is one page."""
    return json_answer({"value": items, "nextLink": None})


def replacing(before: Mapping[str, Any], after: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The merge patch that makes `after` of `before`: null for every name that is to go, and for the whole."""
    if not after:
        return None
    return {**dict.fromkeys(name for name in before if name not in after), **after}
