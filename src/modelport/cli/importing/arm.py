"""The resources of an ARM template, or of what `az … -o json` prints, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from modelport.cli.importing.arm_expressions import Scope, Unknown
from modelport.cli.importing.result import Imported, NotImportable

ACCOUNT: Final = "microsoft.cognitiveservices/accounts"
DEPLOYMENT: Final = f"{ACCOUNT}/deployments"
NESTED: Final = "microsoft.resources/deployments"


@dataclass(frozen=True)
class ArmResource:
    """One resource, its expressions evaluated. `name` has a part for each part of the type, from the account on."""

    type: str
    """In lower case."""
    name: tuple[str, ...]
    body: Mapping[str, Any]


def resources(document: Any, parameters: Mapping[str, Any], into: Imported) -> Iterator[ArmResource]:
    """Of a template (with modules in it), a deployment or account, a list of them, or a page (`{"value": [...]}`).
    Raises NotImportable."""
    match document:
        case {"resources": list() | dict()}:
            yield from of_template(document, parameters, into)
        case {"value": list(items)} | list(items):
            for item in items:
                yield from printed(item, into)
        case {"properties": dict(), "name": str()}:
            yield from printed(document, into)
        case _:
            raise NotImportable("it holds neither an ARM template nor deployments as `az … -o json` prints them")


def printed(item: Any, into: Imported) -> Iterator[ArmResource]:
    """What az prints of one."""
    if not isinstance(item, Mapping) or not isinstance(item.get("properties"), Mapping):
        into.note("(item)", "is no resource")
        return
    parts = str(item.get("id") or "").split("/")
    lower = [part.lower() for part in parts]
    account = parts[lower.index("accounts") + 1] if "accounts" in lower[:-1] else None
    name = str(item.get("name")).split("/")[-1]
    kind = str(item.get("type") or (DEPLOYMENT if "model" in item["properties"] else "")).lower()
    yield ArmResource(kind, (name,) if kind == ACCOUNT else (account or "", name), item)


def of_template(template: Mapping[str, Any], given: Mapping[str, Any], into: Imported) -> Iterator[ArmResource]:
    """A template's resources and those of the modules in it."""
    values = {
        str(name): declared["defaultValue"]
        for name, declared in (template.get("parameters") or {}).items()
        if isinstance(declared, Mapping) and "defaultValue" in declared
    }
    scope = Scope({**values, **given}, template.get("variables") or {})
    written = template["resources"]
    for item in written.values() if isinstance(written, Mapping) else written:
        if isinstance(item, Mapping):
            yield from of_resource(item, scope, "", (), into)


def of_resource(
    item: Mapping[str, Any], scope: Scope, above: str, names: tuple[str, ...], into: Imported
) -> Iterator[ArmResource]:
    """A resource as often as it is copied, with those written inside of it."""
    kind = f"{above}/{item.get('type')}".lower().strip("/")
    place = str(item.get("name"))
    try:
        if item.get("existing") or scope.value(item.get("condition", True)) is False:
            return
        count = scope.value(item["copy"]["count"]) if isinstance(item.get("copy"), Mapping) else None
    except Unknown as unknown:
        into.note(place, f"depends on {unknown}, which only Azure knows")
        return
    for number in range(count) if isinstance(count, int) else (None,):
        own = replace(scope, index=number) if number is not None else scope
        try:
            if kind == NESTED:
                yield from of_module(item, own, into)
                continue
            name = (*names, *str(own.value(item.get("name"))).split("/"))
            body = own.value(
                {key: value for key, value in item.items() if key in ("sku", "properties", "tags", "kind")}
            )
        except Unknown as unknown:
            into.note(place, f"depends on {unknown}: give it a value with --parameter")
            continue
        yield ArmResource(kind, name, body)
        for inner in item.get("resources") or ():
            yield from of_resource(inner, own, kind, name, into)


def of_module(item: Mapping[str, Any], scope: Scope, into: Imported) -> Iterator[ArmResource]:
    """A module that Bicep has compiled into the template. Its parameters are those that it is given. Raises Unknown."""
    properties = item.get("properties") or {}
    template = properties.get("template")
    if not isinstance(template, Mapping) or "resources" not in template:
        into.note(str(item.get("name")), "is a linked template; import its own file")
        return
    given: dict[str, Any] = {}
    for name, value in (properties.get("parameters") or {}).items():
        try:
            given[name] = scope.value(value["value"])
        except (Unknown, KeyError, TypeError):
            continue
    yield from of_template(template, given, into)
