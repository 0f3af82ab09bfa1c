"""The OpenAPI document of `/admin/v1`: made from the table of endpoints, so that it names what there is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from modelport.admin.endpoint import AdminRequest, Answer, Described, Endpoint, json_answer
from modelport.core.roles import Permission

BASE: Final = "/admin/v1/"
PATH: Final = "/admin/v1/openapi.json"
TEXT: Final = {"type": "string"}
ERROR: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {
                "code": TEXT,
                "message": TEXT,
                "target": TEXT,
                "details": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"code": TEXT, "target": TEXT, "message": TEXT}},
                },
            },
        }
    },
}
REFUSALS: Final[Mapping[int, str]] = {
    400: "The request is not valid; `details` has every fault.",
    401: "No valid credential was shown, or its role does not allow this.",
    403: "Not over this connection.",
    404: "There is no such object.",
    405: "Not with this method.",
    408: "The body took too long.",
    409: "The object is the file's, or is used by others.",
    412: "If-Match or If-None-Match does not hold.",
    413: "The body is too large.",
    503: "The store is away; nothing was changed.",
}


def endpoint(endpoints: Sequence[Described], schemas: Callable[[], Mapping[str, Any]]) -> Endpoint:
    """Serves the document. `schemas`: by the names that the endpoints use, and what these refer to; asked for once."""
    described: list[dict[str, Any]] = []

    async def answer(request: AdminRequest, names: Mapping[str, str]) -> Answer:
        if not described:
            described.append(document(endpoints, schemas()))
        return json_answer(described[0])

    return Endpoint(method="GET", path=PATH, answer=answer, permission=Permission.READ_ACCOUNT)


def document(endpoints: Iterable[Described], schemas: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    for found in endpoints:
        if found.summary and found.path.startswith(BASE):
            paths.setdefault(found.path, {})[found.method.lower()] = operation(found)
    return {
        "openapi": "3.1.0",
        "info": {"title": "modelport administration", "version": "1"},
        "security": [{"bearer": []}, {"api_key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "api_key": {"type": "apiKey", "in": "header", "name": "api-key"},
            },
            "schemas": {**schemas, "error": ERROR},
        },
    }


def operation(found: Described) -> dict[str, Any]:
    """One method of one path."""
    described: dict[str, Any] = {
        "summary": found.summary,
        "parameters": [*parameters(found)],
        "responses": {
            **{str(status): response(schema, status) for status, schema in found.gives.items()},
            **{str(status): refusal(text) for status, text in REFUSALS.items()},
        },
    }
    if found.takes is not None:
        described["requestBody"] = {"required": True, "content": content(found.takes)}
    return described


def parameters(found: Described) -> Iterable[dict[str, Any]]:
    """Of the path, the query and the head."""
    for segment in found.path.split("/"):
        if segment.startswith("{"):
            yield {"name": segment[1:-1], "in": "path", "required": True, "schema": TEXT}
    for name in found.query:
        yield {"name": name, "in": "query", "required": False, "schema": TEXT}
    for name in ("If-Match", "If-None-Match") if found.is_conditional else ():
        yield {"name": name, "in": "header", "required": False, "schema": TEXT}


def response(schema: str | None, status: int) -> dict[str, Any]:
    """What is answered."""
    described: dict[str, Any] = {"description": "Made." if status == 201 else "Done."}
    return described if schema is None else {**described, "content": content(schema)}


def refusal(text: str) -> dict[str, Any]:
    """An error."""
    return {"description": text, "content": content("error")}


def content(schema: str) -> dict[str, Any]:
    """A JSON document of this schema."""
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
