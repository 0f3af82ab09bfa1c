"""Gives the administration to the doors' router: whole subtrees of paths, answered here or by the owner's process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal

from modelport.admin import contentsafety, openapi, resources, usage
from modelport.admin.app import AdminApp
from modelport.admin.arm import table
from modelport.admin.arm.operations import Operations
from modelport.admin.arm.scope import Arm, ArmNames, ArmServer, CatalogueModel
from modelport.admin.endpoint import AdminRequest, Answer, Endpoint
from modelport.admin.errors import encode
from modelport.app import safety_explain
from modelport.app.configuration import Configuration
from modelport.app.control.opening import ControlPlaneOfServer
from modelport.app.owner import Ledger
from modelport.app.snapshot import BACKEND_OPERATIONS
from modelport.config.profiles import load_profiles
from modelport.control.plane import LocalControlPlane
from modelport.control.profiles import Profiles
from modelport.core.clock import Clock
from modelport.core.errors import ModelportError
from modelport.core.operations import Operation
from modelport.dialects.error_body import ErrorBody
from modelport.engine.weights.catalogue import CATALOGUE, Weights
from modelport.surfaces import contentsafety as of_contentsafety
from modelport.surfaces.asgi import Reply
from modelport.surfaces.door import Door, Route
from modelport.surfaces.exchange import Exchange
from modelport.surfaces.headers import RequestHead

SUBTREES: Final = ("/admin", contentsafety.LISTS, *(f"/{base}" for base in table.BASES))
METHODS: Final[tuple[Literal["GET", "POST", "PUT", "PATCH", "DELETE"], ...]] = ("GET", "POST", "PUT", "PATCH", "DELETE")
CREDENTIALS: Final = frozenset({b"api-key", b"authorization", b"ocp-apim-subscription-key", b"cookie"})

Handler = Callable[[AdminRequest], Awaitable[Answer]]


def admin_app(
    ledger: Ledger,
    current: Callable[[], Configuration],
    clock: Clock,
    control: ControlPlaneOfServer | None,
) -> AdminApp:
    """Every endpoint of the administration. `current`: what is served now. Without a control plane, the reports
    alone."""
    server = current().settings.server
    found: Sequence[Endpoint] = usage.endpoints(ledger, clock, account="modelport", region=server.region)
    if control is None:
        return AdminApp(found)

    def refuse(error: ModelportError, request: AdminRequest) -> ErrorBody:
        issuers = current().snapshot.issuers
        return encode(error, issuers[0].authorization_uri if issuers else None)

    plane = control.plane
    arm = arm_of(current, plane)
    of_admin = [*found, *resources.endpoints(plane, control.key_uses)]
    return AdminApp(
        [
            *of_admin,
            openapi.endpoint([*of_admin, safety_explain.DESCRIBED], described),
            *table.endpoints(arm, Operations(clock)),
            *contentsafety.endpoints(plane),
        ],
        {
            "admin": refuse,
            **dict.fromkeys(table.BASES, table.refusals(arm)),
            contentsafety.BASE: contentsafety.refuse,
        },
        plane.note_refusal,
    )


def described() -> Mapping[str, Any]:
    """The schemas of the objects; what makes them is imported at the first request."""
    from modelport.app.control.schemas import schemas

    return schemas()


def arm_of(current: Callable[[], Configuration], plane: LocalControlPlane) -> Arm:
    """What Azure's management API builds on."""
    profiles = load_profiles()

    def names() -> ArmNames:
        configured = current().settings.control.arm
        return ArmNames(
            subscription=configured.subscription, group=configured.resource_group, account=configured.account
        )

    return Arm(
        plane=plane,
        snapshot=lambda: current().snapshot,
        names=names,
        profile_of=profiles.of,
        built_in=tuple(built_in_model(weights, profiles) for weights in CATALOGUE.values()),
        server=lambda: ArmServer(current().settings.server.region, current().settings.server.public_url),
    )


def built_in_model(weights: Weights, profiles: Profiles) -> CatalogueModel:
    """A model that this server can run by itself."""
    model = weights.model
    profile = profiles.of(model.name)
    return CatalogueModel(
        format=model.format,
        name=model.name,
        version=model.version,
        publisher=model.publisher,
        operations=profile.operations if profile.known else BACKEND_OPERATIONS[weights.backend],
        context=profile.context,
        max_output=profile.max_output,
    )


def admin_routes(handler: Handler) -> list[Route]:
    """All subtrees of the administration, to be answered by `handler`: `admin_app`'s, or one that relays to it."""

    def refuse(error: ModelportError, head: RequestHead, operation: Operation | None) -> ErrorBody:
        return encode(error)

    door = Door(surface="admin", refuse=refuse)
    doors = {contentsafety.LISTS: of_contentsafety.DOOR}
    endpoint = answered_by(handler)
    return [
        Route(
            method=method,
            path=f"{base}/{{*}}",
            permission="endpoint",
            audience="management" if base.strip("/") in table.BASES else "inference",
            door=doors.get(base, door),
            endpoint=endpoint,
        )
        for base in SUBTREES
        for method in METHODS
    ]


def answered_by(handler: Handler) -> Callable[[Exchange], Awaitable[Reply]]:
    """The handler for an exchange."""

    async def answered(exchange: Exchange) -> Reply:
        answer = await handler(await request_of(exchange))
        return Reply(answer.body, answer.status, answer.content_type, answer.headers)

    return answered


async def request_of(exchange: Exchange) -> AdminRequest:
    """Who asks is found here: each process that serves knows the keys. Raises what reading a body raises."""
    head = exchange.head
    is_public = head.path.split("/")[1].lower() == table.PUBLIC
    principal = await (exchange.caller() if is_public else exchange.caller_of_endpoint())
    return AdminRequest(
        method=head.method,
        path=head.path,
        query=head.query,
        headers={
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in head.headers.items()
            if name not in CREDENTIALS
        },
        body=await exchange.body.read() if principal is not None else b"",
        scheme=exchange.scheme,
        source=head.peer.address,
        local_address=exchange.local_address,
        principal=principal,
    )
