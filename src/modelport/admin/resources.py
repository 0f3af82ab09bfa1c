"""`/admin/v1/{kind}[/{name}]`: the control plane's objects as plain JSON, in the words of the configuration file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Protocol, cast

from modelport.admin.endpoint import AdminRequest, Answer, Endpoint, json_answer
from modelport.control.resources import RESOURCES
from modelport.control.resources.keys import SLOTS
from modelport.core.errors import BadRequest, MalformedBody
from modelport.core.ports.control import Actor, Body, Conditions, ControlPlane, Kind, Put, Resource

SETTINGS: Final = "settings"
SHOWN: Final = ("name", "kind", "origin", "place", "etag", "created_at", "changed_at")
"""What an answer has beside `settings`; in a request it is passed over, so that an answer can be sent back."""


class Keys(ControlPlane, Protocol):
    """What this API wants beyond the port."""

    async def regenerate(self, actor: Actor, name: str, slot: str) -> Put: ...


def endpoints(plane: Keys) -> Sequence[Endpoint]:
    """All kinds, and the rotation of keys."""
    found = [endpoint for kind in RESOURCES for endpoint in of_kind(plane, cast(Kind, kind))]

    async def rotate(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        slot = request.json().get("key")
        if slot not in SLOTS:
            raise BadRequest(f"`key` is one of {', '.join(SLOTS)}.", target="key")
        return put_answer(await plane.regenerate(request.actor, names["name"], slot))

    async def audit(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        query = request.query
        entries = await plane.audit(since_of(query.get("since")), query.get("kind"), query.get("name"))
        return json_answer({"value": entries})

    return [
        *found,
        Endpoint(method="POST", path="/admin/v1/keys/{name}/regenerate", answer=rotate),
        Endpoint(method="GET", path="/admin/v1/audit", answer=audit),
    ]


def of_kind(plane: ControlPlane, kind: Kind) -> Sequence[Endpoint]:
    """List, get, put, patch and delete."""

    async def list_(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        return json_answer({"value": [shown(resource) for resource in await plane.list(kind)]})

    async def get(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        resource = await plane.get(kind, names["name"])
        return json_answer(shown(resource), 200, *etag(resource))

    async def put(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        return put_answer(
            await plane.put(request.actor, kind, names["name"], settings_of(request), conditions(request))
        )

    async def patch(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        return put_answer(
            await plane.patch(request.actor, kind, names["name"], settings_of(request), conditions(request))
        )

    async def delete(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        await plane.delete(request.actor, kind, names["name"], conditions(request))
        return Answer(b"", content_type=None, status=204)

    one = f"/admin/v1/{kind}/{{name}}"
    return [
        Endpoint(method="GET", path=f"/admin/v1/{kind}", answer=list_),
        Endpoint(method="GET", path=one, answer=get),
        Endpoint(method="PUT", path=one, answer=put),
        Endpoint(method="PATCH", path=one, answer=patch),
        Endpoint(method="DELETE", path=one, answer=delete),
    ]


def settings_of(request: AdminRequest) -> Body:
    """The body's `settings`. Raises BadRequest."""
    body = request.json()
    settings = body.get(SETTINGS)
    for name in body:
        if name not in (SETTINGS, "secrets", *SHOWN):
            raise BadRequest(f"There is no field of this name; what is configured stands in `{SETTINGS}`.", target=name)
    if not isinstance(settings, dict):
        raise MalformedBody(f"The body has no object `{SETTINGS}`.", target=SETTINGS)
    return settings


def conditions(request: AdminRequest) -> Conditions:
    """The request's conditions."""
    return Conditions(request.headers.get("if-match"), request.headers.get("if-none-match"))


def put_answer(put: Put) -> Answer:
    """201 for what was made, 200 for what was changed."""
    body = shown(put.resource)
    if put.secrets:
        body["secrets"] = dict(put.secrets)
    return json_answer(body, 201 if put.created else 200, *etag(put.resource))


def shown(resource: Resource) -> dict[str, Any]:
    """An object as JSON."""
    found: dict[str, Any] = {
        "name": resource.name,
        "kind": resource.kind,
        "origin": resource.origin,
        "place": resource.place,
        "etag": resource.etag,
        "created_at": moment(resource.created_us),
        "changed_at": moment(resource.changed_us),
    }
    return {**{name: value for name, value in found.items() if value is not None}, SETTINGS: resource.body}


def moment(time_us: int | None) -> str | None:
    """RFC 3339."""
    if time_us is None:
        return None
    return datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def since_of(text: str | None) -> int:
    """Microseconds of unix time. Raises BadRequest."""
    if text is None:
        return 0
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest("since is a date or time, for example 2027-01-31T12:00:00Z.", target="since") from None
    return int((found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp() * 1_000_000)


def etag(resource: Resource) -> list[tuple[bytes, bytes]]:
    """The header."""
    return [] if resource.etag is None else [(b"etag", resource.etag.encode())]
