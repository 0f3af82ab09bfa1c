"""Changes that take long are answered before they end, and followed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec

from managed import ACCOUNT, GPT
from modelport.admin.app import AdminApp
from modelport.admin.arm import table
from modelport.admin.arm.operations import MAX_OPERATIONS, Operations
from modelport.admin.arm.scope import Arm, ArmNames, ArmServer, CatalogueModel
from modelport.admin.endpoint import AdminRequest, Answer
from modelport.core.catalog import UNKNOWN_PROFILE, Deployment, Model, Sku, Snapshot
from modelport.core.clock import SystemClock
from modelport.core.identity import Principal
from modelport.core.ports.control import Put, Resource, ResourceConflict, ResourceNotFound
from modelport.core.roles import Grant, Role

OPERATOR = Principal(name="operator", key_id="operator/1", grants=(Grant(Role.ADMINISTRATOR),))
DEPLOYMENT = f"{ACCOUNT}/deployments/d"
QUERY = "api-version=2025-06-01"


class SlowPlane:
    """A control plane whose changes wait for `gate`."""

    version = 1

    def __init__(self, refusal: Exception | None = None) -> None:
        self.gate = asyncio.Event()
        self.deployments: dict[str, Deployment] = {}
        self._refusal = refusal

    async def list(self, kind: str) -> Sequence[Resource]:
        names = self.deployments if kind == "deployments" else {}
        return [Resource(kind=kind, name=name, body={}, origin="store", etag='"1"') for name in names]

    async def get(self, kind: str, name: str) -> Resource:
        if found := await self.list(kind):
            return found[0]
        raise ResourceNotFound(kind, name)

    async def put(self, actor: Any, kind: str, name: str, body: dict[str, Any], conditions: Any) -> Put:
        await self._wait()
        self.deployments[name] = Deployment(
            name=name, model=Model(**body["model"]), targets=(), sku=Sku(**body["sku"]), profile=UNKNOWN_PROFILE
        )
        return Put(await self.get(kind, name), created=True)

    async def patch(self, actor: Any, kind: str, name: str, body: dict[str, Any], conditions: Any) -> Put:
        await self._wait()
        before = self.deployments[name]
        sku = Sku(before.sku.name, body["sku"]["capacity"])
        self.deployments[name] = msgspec.structs.replace(before, sku=sku)
        return Put(await self.get(kind, name), created=False)

    async def delete(self, actor: Any, kind: str, name: str, conditions: Any) -> None:
        await self._wait()
        del self.deployments[name]

    async def _wait(self) -> None:
        await self.gate.wait()
        if self._refusal is not None:
            raise self._refusal


class Client:
    """Asks the application as a server would."""

    def __init__(self, plane: SlowPlane, operations: Operations) -> None:
        entry = CatalogueModel(format="OpenAI", name="gpt-4o", version="1")
        arm = Arm(
            plane=plane,  # type: ignore[arg-type]  what these tests need of it
            snapshot=lambda: Snapshot(id="1", deployments=plane.deployments),
            names=ArmNames,
            profile_of=lambda name: UNKNOWN_PROFILE,
            built_in=(entry,),
            server=lambda: ArmServer("local", "https://ai.example/"),
        )
        self._app = AdminApp(table.endpoints(arm, operations), dict.fromkeys(table.BASES, table.refusals(arm)))

    async def __call__(self, method: str, url: str, body: Any = None) -> Answer:
        parts = urlsplit(url)
        query = dict(pair.split("=") for pair in parts.query.split("&")) if parts.query else {}
        data = msgspec.json.encode(body) if body is not None else b""
        request = AdminRequest(method=method, path=parts.path, query=query, body=data, principal=OPERATOR)
        return await self._app(request)


def header(answer: Answer, name: str) -> str | None:
    return next((value.decode() for key, value in answer.headers if key.decode() == name), None)


def json(answer: Answer) -> Any:
    return msgspec.json.decode(answer.body)


async def ended(client: Client, status_url: str) -> Any:
    """What the operation says when it has ended."""
    while (found := json(await client("GET", status_url)))["status"] == "InProgress":
        await asyncio.sleep(0)
    return found


async def test_a_slow_put_is_followed_by_its_operation() -> None:
    plane = SlowPlane()
    client = Client(plane, Operations(SystemClock(), synchronous_seconds=0))
    answer = await client("PUT", f"{DEPLOYMENT}?{QUERY}", GPT)
    assert (answer.status, json(answer)["properties"]["provisioningState"]) == (201, "Creating")
    assert (header(answer, "retry-after"), header(answer, "location")) == ("1", None)
    url = header(answer, "azure-asyncoperation")
    assert url is not None
    place = "https://ai.example/subscriptions/s/providers/Microsoft.CognitiveServices/locations/local/operations/"
    assert url.startswith(place)
    assert url.endswith(f"?{QUERY}")
    status = await client("GET", url)
    assert (json(status)["status"], json(status)["endTime"], header(status, "retry-after")) == ("InProgress", None, "1")
    plane.gate.set()
    found = await ended(client, url)
    assert found["status"] == "Succeeded"
    assert found["startTime"] <= found["endTime"]
    assert found["id"] == urlsplit(url).path
    assert json(await client("GET", DEPLOYMENT))["sku"] == {"name": "GlobalStandard", "capacity": 1}


async def test_a_slow_change_and_a_slow_deletion_have_a_location_too() -> None:
    plane = SlowPlane()
    plane.gate.set()
    client = Client(plane, Operations(SystemClock(), synchronous_seconds=0))
    await client("PUT", DEPLOYMENT, GPT)
    while "d" not in plane.deployments:
        await asyncio.sleep(0)
    for method, status in (("PATCH", 200), ("DELETE", 200)):
        plane.gate.clear()
        answer = await client(method, DEPLOYMENT, {"sku": {"capacity": 2}})
        url, operation = header(answer, "location"), header(answer, "azure-asyncoperation")
        assert (answer.status, header(answer, "retry-after")) == (202, "1")
        assert url is not None
        assert operation is not None
        waiting = await client("GET", url)
        assert (waiting.status, header(waiting, "location"), header(waiting, "retry-after")) == (202, url, "1")
        plane.gate.set()
        assert (await ended(client, operation))["status"] == "Succeeded"
        result = await client("GET", url)
        assert result.status == status
        if method == "PATCH":
            assert json(result)["sku"]["capacity"] == 2
    assert plane.deployments == {}


async def test_a_slow_change_that_is_refused_says_why() -> None:
    plane = SlowPlane(ResourceConflict("It is the file's."))
    client = Client(plane, Operations(SystemClock(), synchronous_seconds=0))
    answer = await client("DELETE", DEPLOYMENT)
    plane.gate.set()
    found = await ended(client, str(header(answer, "azure-asyncoperation")))
    assert (found["status"], found["error"]["code"]) == ("Failed", "Conflict")
    assert "the file's" in found["error"]["message"]
    result = await client("GET", str(header(answer, "location")))
    assert (result.status, json(result)["error"]["code"]) == (409, "Conflict")


async def test_a_quick_change_leaves_no_operation_and_no_links() -> None:
    plane, operations = SlowPlane(), Operations(SystemClock())
    plane.gate.set()
    client = Client(plane, operations)
    answer = await client("PUT", DEPLOYMENT, GPT)
    assert (answer.status, json(answer)["properties"]["provisioningState"]) == (201, "Succeeded")
    assert header(answer, "azure-asyncoperation") is None
    assert header(answer, "retry-after") is None
    assert operations.count == 0


async def test_operations_that_have_ended_are_forgotten_and_others_are_not() -> None:
    plane, operations = SlowPlane(), Operations(SystemClock(), synchronous_seconds=0)
    client = Client(plane, operations)
    first = await client("DELETE", DEPLOYMENT)
    plane.gate.set()
    await ended(client, str(header(first, "azure-asyncoperation")))
    plane.gate.clear()
    second = await client("DELETE", DEPLOYMENT)
    for _ in range(MAX_OPERATIONS - 1):
        await client("DELETE", DEPLOYMENT)
    assert (await client("GET", str(header(first, "location")))).status == 404
    assert (await client("GET", str(header(second, "location")))).status == 202
    assert operations.count == MAX_OPERATIONS
    plane.gate.set()
