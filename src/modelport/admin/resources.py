"""`/admin/v1/{kind}[/{name}]`: the control plane's objects as plain JSON, in the words of the configuration file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, Protocol, cast

from modelport.admin.endpoint import AdminRequest, Answer, Endpoint, json_answer
from modelport.control.access import ScopedObjects
from modelport.control.resources import RESOURCES
from modelport.control.resources.keys import SLOTS
from modelport.core.errors import BadRequest, Forbidden, MalformedBody
from modelport.core.ports.control import Actor, Body, Conditions, ControlPlane, Kind, Put, Resource
from modelport.core.roles import Permission

SETTINGS: Final = "settings"
SHOWN: Final = ("name", "kind", "origin", "place", "etag", "created_at", "changed_at", "last_used_at")
"""What an answer has beside `settings`; in a request it is passed over, so that an answer can be sent back."""


class Keys(ControlPlane, Protocol):
    """What this API wants beyond the port."""

    async def regenerate(self, actor: Actor, name: str, slot: str) -> Put: ...


class LastUses(Protocol):
    """When each key was used last, by its id in lower case (`name/key1`)."""

    async def last(self) -> Mapping[str, int]:
        """In microseconds of unix time."""
        ...

    async def forget(self, key_ids: Iterable[str]) -> None:
        """Their values are new, or gone."""
        ...


def endpoints(plane: Keys, uses: LastUses) -> Sequence[Endpoint]:
    """All kinds, and the rotation of keys."""
    found = [endpoint for kind in RESOURCES for endpoint in of_kind(plane, cast(Kind, kind), uses)]

    async def rotate(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        slot = slot_of(request)
        made = await plane.regenerate(request.actor, names["name"], slot)
        await uses.forget([f"{made.resource.name}/{slot}".lower()])
        return put_answer(made)

    async def test_policy(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        return json_answer({"value": await plane.test_policy(names["name"], settings_of(request))})

    async def audit(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        query = request.query
        entries = await plane.audit(since_of(query.get("since")), query.get("kind"), query.get("name"))
        return json_answer({"value": entries})

    async def account_keys(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        check_is_private(request)
        return json_answer(await plane.account_keys(request.actor))

    async def rotate_account_key(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        check_is_private(request)
        return json_answer(await plane.regenerate_account_key(request.actor, slot_of(request)))

    return [
        *found,
        Endpoint(
            method="POST",
            path="/admin/v1/keys/{name}/regenerate",
            answer=rotate,
            permission=Permission.MANAGE_KEYS,
            summary="A new value for one of the two keys; the old one is refused from now on.",
            takes="slot",
            gives={200: "keys.object"},
        ),
        Endpoint(
            method="POST",
            path="/admin/v1/policies/{name}/test",
            answer=test_policy,
            permission=Permission.MANAGE,
            summary="Which deployments would not keep such a policy. Changes nothing.",
            takes="policies.put",
            gives={200: "policy_violations"},
        ),
        Endpoint(
            method="GET",
            path="/admin/v1/audit",
            answer=audit,
            permission=Permission.READ_AUDIT,
            summary="Who has changed what.",
            query=("since", "kind", "name"),
            gives={200: "audit"},
        ),
        Endpoint(
            method="POST",
            path="/admin/v1/account/list_keys",
            answer=account_keys,
            permission=Permission.MANAGE_KEYS,
            summary="The account's pair of keys. Over TLS alone.",
            gives={200: "account_keys"},
        ),
        Endpoint(
            method="POST",
            path="/admin/v1/account/regenerate_key",
            answer=rotate_account_key,
            permission=Permission.MANAGE_KEYS,
            summary="A new value for one of the account's keys. Over TLS alone.",
            takes="slot",
            gives={200: "account_keys"},
        ),
    ]


def of_kind(plane: ControlPlane, kind: Kind, uses: LastUses) -> Sequence[Endpoint]:
    """List, get, put, patch and delete."""

    async def last_uses() -> Mapping[str, int]:
        return await uses.last() if kind == "keys" else {}

    def scoped(request: AdminRequest) -> ScopedObjects:
        return ScopedObjects(plane, request.principal)

    async def list_(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        found, used = await scoped(request).list(kind), await last_uses()
        return json_answer({"value": [{**shown(resource), **used_at(resource, used)} for resource in found]})

    async def get(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        resource = await scoped(request).get(kind, names["name"])
        return json_answer({**shown(resource), **used_at(resource, await last_uses())}, 200, *etag(resource))

    async def put(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        return put_answer(
            await scoped(request).put(request.actor, kind, names["name"], settings_of(request), conditions(request))
        )

    async def patch(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        return put_answer(
            await scoped(request).patch(request.actor, kind, names["name"], settings_of(request), conditions(request))
        )

    async def delete(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        await scoped(request).delete(request.actor, kind, names["name"], conditions(request))
        if kind == "keys":
            await uses.forget(key_ids(names["name"]))
        return Answer(b"", content_type=None, status=204)

    rules, path = RESOURCES[kind], f"/admin/v1/{kind}/{{name}}"
    one = rules.singular
    return [
        Endpoint(
            method="GET",
            path=f"/admin/v1/{kind}",
            answer=list_,
            permission=rules.reads,
            summary=f"Every {one}: the file's, those that are built in, and those made here.",
            gives={200: f"{kind}.list"},
        ),
        Endpoint(
            method="GET",
            path=path,
            answer=get,
            permission=rules.reads,
            summary=f"One {one}.",
            gives={200: f"{kind}.object"},
        ),
        Endpoint(
            method="PUT",
            path=path,
            answer=put,
            permission=rules.writes,
            summary=f"Makes or replaces a {one}. The same once more changes nothing.",
            takes=f"{kind}.put",
            gives={200: f"{kind}.object", 201: f"{kind}.object"},
            is_conditional=True,
        ),
        Endpoint(
            method="PATCH",
            path=path,
            answer=patch,
            permission=rules.writes,
            summary=f"Changes a part of a {one} (JSON merge patch).",
            takes="patch",
            gives={200: f"{kind}.object"},
            is_conditional=True,
        ),
        Endpoint(
            method="DELETE",
            path=path,
            answer=delete,
            permission=rules.writes,
            summary=f"Removes a {one} that nothing uses.",
            gives={204: None},
            is_conditional=True,
        ),
    ]


def slot_of(request: AdminRequest) -> Literal["key1", "key2"]:
    """The body's `key`. Raises BadRequest."""
    match request.json().get("key"):
        case "key1":
            return "key1"
        case "key2":
            return "key2"
        case _:
            raise BadRequest("`key` is key1 or key2.", target="key")


def check_is_private(request: AdminRequest) -> None:
    """Keys are shown over TLS alone. Raises Forbidden."""
    if request.scheme != "https":
        raise Forbidden("Keys are shown over https alone: use server.tls, or `modelport serve --tls-self-signed`.")


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


def key_ids(name: str) -> list[str]:
    """Of both keys of an entry."""
    return [f"{name}/{slot}".lower() for slot in SLOTS]


def used_at(resource: Resource, uses: Mapping[str, int]) -> dict[str, dict[str, str | None]]:
    """`last_used_at` of an entry of keys, by slot; without the slots that were never used or hold no key."""
    if resource.kind != "keys":
        return {}
    pairs = zip(SLOTS, key_ids(resource.name), strict=True)
    known = {slot: uses[key_id] for slot, key_id in pairs if resource.body.get(slot) is not None and key_id in uses}
    return {"last_used_at": {slot: moment(time_us) for slot, time_us in known.items()}}


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
