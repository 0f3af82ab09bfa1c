"""Whether any finite text can match a JSON schema. One that demands itself for ever makes the engine drop its grammar
without a word, so it is refused before."""

from __future__ import annotations

from typing import Any

_STEPS_LIMIT = 8192


def can_end(schema: dict[str, Any]) -> bool:
    """False for a schema whose every match would contain another match of itself."""
    steps = [_STEPS_LIMIT]
    ending: set[str] = set()  # references that can end, whatever leads to them

    def ends(node: Any, following: tuple[str, ...]) -> bool:
        steps[0] -= 1
        if steps[0] < 0 or not isinstance(node, dict):
            return node is not False
        reference = node.get("$ref")
        if isinstance(reference, str) and reference not in ending:
            if reference in following or not ends(_at(schema, reference), (*following, reference)):
                return False
            ending.add(reference)
        return (
            all(ends(part, following) for part in node.get("allOf", ()))
            and _one_ends(node.get("anyOf"), following)
            and _one_ends(node.get("oneOf"), following)
            and _object_ends(node, following)
            and _array_ends(node, following)
        )

    def _one_ends(parts: Any, following: tuple[str, ...]) -> bool:
        return not isinstance(parts, list) or any(ends(part, following) for part in parts)

    def _object_ends(node: dict[str, Any], following: tuple[str, ...]) -> bool:
        if not _may_only_be(node, "object"):
            return True
        properties = node.get("properties", {})
        return all(ends(properties[name], following) for name in node.get("required", ()) if name in properties)

    def _array_ends(node: dict[str, Any], following: tuple[str, ...]) -> bool:
        if not _may_only_be(node, "array") or not node.get("minItems"):
            return True
        first = node.get("prefixItems") or [node.get("items", {})]
        return all(ends(item, following) for item in first)

    return ends(schema, ())


def _may_only_be(node: dict[str, Any], kind: str) -> bool:
    return node.get("type") in (kind, [kind])


def _at(schema: dict[str, Any], reference: str) -> Any:
    """What a local reference names; anything where it names nothing, which is refused elsewhere."""
    found: Any = schema
    for part in reference.removeprefix("#").strip("/").split("/"):
        if not part:
            continue
        name = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or name not in found:
            return {}
        found = found[name]
    return found
