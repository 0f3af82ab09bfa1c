"""Deployments: the same objects as `/admin/v1/deployments`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelport.admin.arm.deployment_bodies import settings_of, shown, sku_of, tags_of, under_way
from modelport.admin.arm.models import CAPACITY, SKUS, deployable
from modelport.admin.arm.operations import Operations
from modelport.admin.arm.scope import ACCOUNT, CatalogueModel, Routes, Scope, page, replacing
from modelport.admin.endpoint import Answer, json_answer
from modelport.admin.resources import conditions, etag
from modelport.control.resources.rules import mapping
from modelport.core.errors import BadRequest
from modelport.core.ports.control import Body, Put, Resource, ResourceNotFound
from modelport.core.roles import Permission

DEPLOYMENTS = f"{ACCOUNT}/deployments"
DEPLOYMENT = f"{DEPLOYMENTS}/{{deployment}}"


class Deployments:
    """The handlers."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def add(self, routes: Routes) -> None:
        """PUT, PATCH, GET, DELETE, the list, and the capacity types of one."""
        routes.add("GET", DEPLOYMENTS, self._list, Permission.READ_DEPLOYMENTS)
        routes.add("GET", DEPLOYMENT, self._get, Permission.READ_DEPLOYMENTS)
        routes.add("PUT", DEPLOYMENT, self._put, Permission.WRITE_DEPLOYMENTS)
        routes.add("PATCH", DEPLOYMENT, self._patch, Permission.WRITE_DEPLOYMENTS)
        routes.add("DELETE", DEPLOYMENT, self._delete, Permission.WRITE_DEPLOYMENTS)
        routes.add("GET", f"{DEPLOYMENT}/skus", self._skus, Permission.READ_DEPLOYMENTS)

    async def _list(self, scope: Scope) -> Answer:
        resources = {found.name.lower(): found for found in await scope.objects.list("deployments")}
        served = scope.arm.snapshot().deployments.items()
        deployments = sorted((key, found) for key, found in served if can_read(scope, found.name))
        return page([shown(scope, deployment, resources.get(key)) for key, deployment in deployments])

    async def _get(self, scope: Scope) -> Answer:
        return await self._one(scope)

    async def _put(self, scope: Scope) -> Answer:
        body, name = scope.request.json(), scope.names["deployment"]
        known = await existing(scope)
        model = await self._model(scope, mapping(mapping(body.get("properties")).get("model")), known)
        settings = settings_of(body, model)

        async def change() -> Answer:
            put = await self._changed(scope, settings, known)
            return await self._one(scope, 201 if put.created else 200, put.resource)

        status = 200 if known is not None else 201
        return await self._operations.answered(
            scope, change(), lambda: json_answer(under_way(scope, name, settings), status)
        )

    async def _patch(self, scope: Scope) -> Answer:
        body, name = scope.request.json(), scope.names["deployment"]
        known = await existing(scope)
        if known is None:
            raise scope.not_found("deployments", name)
        settings: Body = {}
        if sku := sku_of(body):
            settings["sku"] = sku
        if "tags" in body:
            settings["tags"] = replacing(mapping(known.body.get("tags")), tags_of(body))

        async def change() -> Answer:
            put = await scope.objects.patch(
                scope.request.actor, "deployments", name, settings, conditions(scope.request)
            )
            return await self._one(scope, 200, put.resource)

        return await self._operations.answered(
            scope, change(), lambda: json_answer(under_way(scope, name, settings), 202)
        )

    async def _delete(self, scope: Scope) -> Answer:
        async def change() -> Answer:
            try:
                await scope.objects.delete(
                    scope.request.actor, "deployments", scope.names["deployment"], conditions(scope.request)
                )
            except ResourceNotFound:
                return Answer(b"", content_type=None, status=204)
            return Answer(b"", content_type=None, status=200)

        return await self._operations.answered(scope, change(), lambda: Answer(b"", content_type=None, status=202))

    async def _skus(self, scope: Scope) -> Answer:
        name = scope.names["deployment"]
        if scope.arm.snapshot().deployment(name) is None or not can_read(scope, name):
            raise scope.not_found("deployments", name)
        kind = "Microsoft.CognitiveServices/accounts/deployments"
        return page([{"resourceType": kind, "sku": {"name": sku}, "capacity": CAPACITY} for sku in SKUS])

    async def _model(self, scope: Scope, asked: Mapping[str, Any], known: Resource | None) -> CatalogueModel:
        """What is to be deployed: the catalogue's entry, unless the deployment has this model and its own provider.
        Raises BadRequest."""
        if not isinstance(asked.get("name"), str):
            raise BadRequest("properties.model.name is missing.", target="properties.model.name")
        deployed = scope.arm.snapshot().deployment(scope.names["deployment"])
        if known is not None and deployed is not None and has_own_provider(known.body):
            model = deployed.model
            same = CatalogueModel(
                format=model.format, name=model.name, version=model.version, publisher=model.publisher
            )
            if all(str(asked.get(key, value)).lower() == value.lower() for key, value in parts(same)):
                return same
        return await deployable(scope.arm, asked)

    async def _changed(self, scope: Scope, settings: Body, known: Resource | None) -> Put:
        """A deployment that exists keeps what Azure has no word for: timeouts, profile, limits."""
        objects, request, name = scope.objects, scope.request, scope.names["deployment"]
        if known is not None:
            patch = {
                **settings,
                "model": replacing(mapping(known.body.get("model")), settings["model"]),
                "tags": replacing(mapping(known.body.get("tags")), settings["tags"]),
                "sku": replacing(mapping(known.body.get("sku")), settings["sku"]),
            }
            if is_other_model(known.body, settings["model"]):
                patch |= {"provider": None, "targets": None}
            try:
                return await objects.patch(request.actor, "deployments", name, patch, conditions(request))
            except ResourceNotFound:
                pass  # it was deleted meanwhile
        body = {key: value for key, value in settings.items() if value is not None}
        return await objects.put(request.actor, "deployments", name, body, conditions(request))

    async def _one(self, scope: Scope, status: int = 200, resource: Resource | None = None) -> Answer:
        """As it is served now. Raises ArmNotFound."""
        name = scope.names["deployment"]
        found = resource or await existing(scope)
        deployment = scope.arm.snapshot().deployment(name)
        if deployment is None or not can_read(scope, name):
            raise scope.not_found("deployments", name)
        return json_answer(shown(scope, deployment, found), status, *(etag(found) if found is not None else ()))


async def existing(scope: Scope) -> Resource | None:
    """The object, if there is one."""
    try:
        return await scope.objects.get("deployments", scope.names["deployment"])
    except ResourceNotFound:
        return None


def can_read(scope: Scope, name: str) -> bool:
    """Whether the caller's role covers a deployment of this name."""
    return scope.objects.covers("deployments", name, Permission.READ_DEPLOYMENTS)


def has_own_provider(body: Mapping[str, Any]) -> bool:
    """Whether the catalogue has no say in it."""
    return body.get("provider") is not None or body.get("targets") is not None


def is_other_model(body: Mapping[str, Any], model: Mapping[str, Any]) -> bool:
    """Whether a deployment's body has another model than this."""
    before = {"format": "Custom", "version": "1", **mapping(body.get("model"))}
    return any(str(before.get(key)).lower() != str(model[key]).lower() for key in ("format", "name", "version"))


def parts(model: CatalogueModel) -> tuple[tuple[str, str], ...]:
    """What identifies it, by Azure's names."""
    return ("format", model.format), ("name", model.name), ("version", model.version)
