"""Objects as a file declares them, in the words of the configuration, and how they differ from what a server has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from modelport.cli.administration import Body, Object
from modelport.cli.bodies import flat, replace_references
from modelport.config.secrets import MASK

ORDER: Final = (
    "providers",
    "models",
    "projects",
    "blocklists",
    "content_filters",
    "policies",
    "prices",
    "deployments",
    "keys",
)
"""Kinds, each after those that it names."""
PRICE_SETTINGS: Final = ("file", "currency", "unpriced")
"""With these, `prices` is the server's own section, and no mapping of price entries by name."""
KEY_VALUES: Final = ("key1", "key2")

Action = Literal["create", "change", "send_secrets", "delete"]
Listing = Callable[[str], Sequence[Object]]
"""The objects of a kind that a server has."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One object of a file; `env:` and `file:` references stand in it."""

    kind: str
    name: str
    settings: Body


@dataclass(frozen=True, slots=True)
class Change:
    """What makes the server's object like the declared one. `send_secrets`: all that can be seen is the same."""

    action: Action
    kind: str
    name: str
    before: Body
    """As the server shows it; empty for what is created."""
    after: Body
    """To be sent; empty for what is deleted."""

    def differences(self) -> Iterator[tuple[str, str | None, str | None]]:
        """Place, text before and text after; None: it is not set. Secrets are masked."""
        before, after = dict(flat(self.before)), dict(flat(shown(self.kind, self.after)))
        for place in dict.fromkeys((*before, *after)):
            if place and before.get(place) != after.get(place):
                yield place, before.get(place), after.get(place)


class NotOurs(Exception):
    """A declared object is the server's own file's, and is not the same there."""


def declared(data: Mapping[str, Any]) -> tuple[list[Declared], list[str]]:
    """What a file declares, and the sections that are the server's own."""
    found: list[Declared] = []
    passed_over: list[str] = []
    for section, value in data.items():
        entries = list(entries_of(section, value)) if section in ORDER else []
        found += entries
        if not entries and value:
            passed_over.append(section)
    return found, passed_over


def entries_of(section: str, value: Any) -> Iterator[Declared]:
    """The objects of a section; values of callers' keys are the server's to make, and are left out."""
    if section == "models":
        seen: set[str] = set()
        for entry in value or ():
            name = str(entry.get("name"))
            name = f"{name}-{entry.get('version', 1)}" if name.lower() in seen else name
            seen.add(name.lower())
            yield Declared(section, name, dict(entry))
    elif isinstance(value, Mapping) and not (section == "prices" and set(value) <= {*PRICE_SETTINGS}):
        for name, body in value.items():
            settings = {"items": body} if section == "blocklists" else dict(body or {})
            if section == "keys":
                settings = {key: item for key, item in settings.items() if key not in KEY_VALUES}
            yield Declared(section, str(name), settings)


def changes(wanted: Iterable[Declared], listing: Listing, *, prune: bool) -> list[Change]:
    """In an order in which the server can take them. `prune`: what the server stores of the declared kinds and the file
    does not name is deleted. Raises NotOurs."""
    by_kind: dict[str, list[Declared]] = {}
    for one in wanted:
        by_kind.setdefault(one.kind, []).append(one)
    found: list[Change] = []
    removed: list[Change] = []
    for kind in ORDER:
        if kind not in by_kind:
            continue
        there = {item["name"].lower(): item for item in listing(kind)}
        names = {kind_name(one, there): one for one in by_kind[kind]}
        for name, one in in_order(names):
            change = change_of(one, name, there.get(name))
            found += [change] if change is not None else []
        if prune:
            stored = [item for name, item in there.items() if name not in names and item["origin"] == "store"]
            removed[:0] = [Change("delete", kind, item["name"], item["settings"], {}) for item in stored]
    return [*found, *removed]


def kind_name(one: Declared, there: Mapping[str, Object]) -> str:
    """The name in lower case; a model of the catalogue is the entry that has its format, name and version."""
    if one.kind == "models":
        for name, item in there.items():
            if identity(item["settings"]) == identity(one.settings):
                return name
    return one.name.lower()


def identity(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """What no two models of the catalogue have in common."""
    return tuple(
        str(entry.get(part, usual)).lower() for part, usual in (("format", "Custom"), ("name", ""), ("version", 1))
    )


def in_order(names: Mapping[str, Declared]) -> list[tuple[str, Declared]]:
    """Deployments after those that they spill over to, and the default one last, so that another ceases to be it."""
    found: dict[str, Declared] = {}

    def visit(name: str, above: frozenset[str]) -> None:
        one = names.get(name)
        if one is None or name in found or name in above:
            return
        visit(str(one.settings.get("spillover", "")).lower(), above | {name})
        found[name] = one

    for name in sorted(names, key=lambda name: names[name].settings.get("default") is True):
        visit(name, frozenset())
    return list(found.items())


def change_of(one: Declared, name: str, there: Object | None) -> Change | None:
    """None: nothing differs. Raises NotOurs."""
    if there is None:
        return Change("create", one.kind, one.name, {}, one.settings)
    before = comparable(one, there["settings"])
    wanted = shown(one.kind, one.settings)
    is_same = before == wanted
    if there["origin"] != "store":
        if is_same or before == one.settings:
            return None
        where = f"the server's configuration file ({there['place']})" if "place" in there else "what is built in"
        raise NotOurs(f"{one.kind}/{there['name']} differs from {where}, and can only be changed there")
    if is_same and wanted == one.settings:
        return None
    return Change("send_secrets" if is_same else "change", one.kind, there["name"], before, one.settings)


def comparable(one: Declared, there: Body) -> Body:
    """What a server has, without values of keys, and without the secrets that the file leaves out: they stay."""
    if one.kind == "keys":
        return {key: value for key, value in there.items() if key not in KEY_VALUES}
    if one.kind == "providers":
        return without_kept(there, one.settings)
    provider, wanted = there.get("provider"), one.settings.get("provider")
    if one.kind == "deployments" and isinstance(provider, dict) and isinstance(wanted, dict):
        return {**there, "provider": without_kept(provider, wanted)}
    return there


def without_kept(provider: Body, wanted: Body) -> Body:
    """A provider without masked settings that are not wanted in another way."""
    return {key: value for key, value in provider.items() if value != MASK or key in wanted}


def shown(kind: str, settings: Body) -> Body:
    """A copy with the mask in place of each reference, as the server shows secrets."""
    return replace_references(kind, settings, lambda reference: MASK)


def exported(kind: str, objects: Sequence[Object]) -> Any:
    """A section of a file with these objects."""
    if kind == "models":
        return [item["settings"] for item in objects]
    if kind == "blocklists":
        return {item["name"]: item["settings"].get("items", []) for item in objects}
    hidden = KEY_VALUES if kind == "keys" else ()
    return {
        item["name"]: {key: value for key, value in item["settings"].items() if key not in hidden} for item in objects
    }
