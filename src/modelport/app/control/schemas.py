"""JSON schemas of the control plane's objects, from the classes that validate them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from pydantic_core import CoreSchema

from modelport.config.content_filters import BlocklistSettings, ContentFilterSettings
from modelport.config.deployment_policies import DeploymentPolicySettings
from modelport.config.deployments import CatalogueEntry, DeploymentSettings, ProviderSettings
from modelport.config.policies import KeySettings, ProjectSettings
from modelport.config.prices import PriceEntry
from modelport.config.roles import RoleAssignmentSettings
from modelport.config.secrets import MASK
from modelport.control.resources.keys import SLOTS

MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "providers": ProviderSettings,
    "models": CatalogueEntry,
    "deployments": DeploymentSettings,
    "projects": ProjectSettings,
    "keys": KeySettings,
    "prices": PriceEntry,
    "content_filters": ContentFilterSettings,
    "blocklists": BlocklistSettings,
    "policies": DeploymentPolicySettings,
    "role_assignments": RoleAssignmentSettings,
}
TEXT: Final = {"type": "string"}
KEY_VALUE: Final = {"enum": [MASK, None], "description": "Made by the server; null revokes it."}


class Schemas(GenerateJsonSchema):
    """A secret is text that is written and never read."""

    def function_plain_schema(self, schema: Any) -> dict[str, Any]:
        """GenerateJsonSchema"""
        return {"type": "string", "writeOnly": True}

    def handle_invalid_for_json_schema(self, schema: CoreSchema, error_info: str) -> dict[str, Any]:
        """GenerateJsonSchema"""
        return {}


def schemas() -> dict[str, Any]:
    """By name: `KIND.put`, `KIND.object` and `KIND.list` of each kind, and what these refer to."""
    by_model, found = models_json_schema(
        [(model, "validation") for model in MODELS.values()],
        ref_template="#/components/schemas/{model}",
        schema_generator=Schemas,
    )
    result: dict[str, Any] = dict(found.get("$defs", {}))
    for slot in SLOTS:
        result["KeySettings"]["properties"][slot] = KEY_VALUE
    for kind, model in MODELS.items():
        settings = by_model[model, "validation"]
        result[f"{kind}.put"] = {
            "type": "object",
            "required": ["settings"],
            "properties": {"settings": settings},
            "additionalProperties": False,
        }
        result[f"{kind}.object"] = {
            "type": "object",
            "required": ["name", "kind", "origin", "settings"],
            "properties": {
                **dict.fromkeys(("name", "place", "etag", "created_at", "changed_at"), TEXT),
                "kind": {"const": kind},
                "origin": {"enum": ["file", "built_in", "store"]},
                "settings": {"type": "object"},
                "secrets": {"type": "object", "additionalProperties": TEXT},
                **({"last_used_at": {"type": "object", "additionalProperties": TEXT}} if kind == "keys" else {}),
            },
            "additionalProperties": False,
        }
        items = {"type": "array", "items": {"$ref": f"#/components/schemas/{kind}.object"}}
        result[f"{kind}.list"] = {"type": "object", "required": ["value"], "properties": {"value": items}}
    return {**result, **OTHERS}


OTHERS: Final[Mapping[str, Any]] = {
    "patch": {
        "type": "object",
        "required": ["settings"],
        "properties": {"settings": {"type": "object"}},
        "additionalProperties": False,
    },
    "slot": {"type": "object", "required": ["key"], "properties": {"key": {"enum": [*SLOTS]}}},
    "account_keys": {
        "type": "object",
        "required": [*SLOTS],
        "properties": dict.fromkeys(SLOTS, TEXT),
    },
    "policy_violations": {
        "type": "object",
        "required": ["value"],
        "properties": {
            "value": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["deployment", "policy", "effect", "rule", "value", "what"],
                    "additionalProperties": TEXT,
                },
            }
        },
    },
    "audit": {
        "type": "object",
        "required": ["value"],
        "properties": {
            "value": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["sequence", "time_us", "actor", "action", "kind", "name", "result", "digest"],
                },
            }
        },
    },
    "safety_question": {
        "type": "object",
        "required": ["text"],
        "properties": {
            "text": {"type": "string", "description": "At most 1,000,000 characters."},
            "policy": {
                "type": ["string", "null"],
                "description": "The content filter; without one nothing is decided.",
            },
            "source": {"enum": ["prompt", "completion"], "default": "prompt"},
        },
        "additionalProperties": False,
    },
    "safety_explanation": {
        "type": "object",
        "required": ["policy", "source", "decision", "results", "verdicts", "failed", "not_open"],
        "properties": {
            "policy": {"type": ["string", "null"]},
            "source": TEXT,
            "decision": {"enum": ["blocked", "passed", None]},
            "results": {"type": "object"},
            "verdicts": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["category", "severity", "score", "start", "end", "match", "filter", "version"],
                },
            },
            "failed": {"type": "array", "items": TEXT},
            "not_open": {"type": "array", "items": TEXT},
        },
        "additionalProperties": False,
    },
}
