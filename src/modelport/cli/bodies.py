"""What commands send as an object's settings: options, `--set` and files become one body."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelport.cli.administration import Body
from modelport.cli.output import ExitCode, fail
from modelport.config.faults import ConfigError
from modelport.config.secrets import MASK, TRANSPARENT, SecretFault, SecretSources, is_reference, is_secret_name

if TYPE_CHECKING:
    from modelport.config.document import Document

FileOption = Annotated[
    Path | None, typer.Option("--file", "-f", help="YAML or JSON with settings; options beside it win.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Any setting: limits.tokens_per_minute=1000. null removes it."),
]


def body_of(file: Path | None, pairs: Sequence[str] | None, **options: Any) -> Body:
    """A file's settings, then options that were given (`a__b` stands for `a.b`), then `--set`. Ends the command where
    one cannot be read."""
    found = read_settings(file) if file is not None else {}
    for name, value in options.items():
        if value is not None:
            put_at(found, name.split("__"), value)
    for pair in pairs or ():
        path, equals, text = pair.partition("=")
        if not equals or not path:
            raise typer.BadParameter(f"{pair!r} is not PATH=VALUE", param_hint="--set")
        put_at(found, path.split("."), value_of(text))
    return found


def read_settings(file: Path) -> Body:
    """A YAML or JSON file. Ends the command where it cannot be read."""
    from modelport.config.document import read_file  # with it comes yaml

    return _data_of(lambda: read_file(file))


def read_standard_input() -> Body:
    """The same from standard input."""
    from modelport.config.document import read_document

    return _data_of(lambda: read_document(sys.stdin.buffer.read(), "standard input"))


def _data_of(read: Callable[[], Document]) -> Body:
    try:
        document = read()
        if document.faults:
            raise ConfigError(document.faults)
    except ConfigError as error:
        fail(ExitCode.CONFIG_INVALID, str(error))
    return document.data


def put_at(body: Body, path: Sequence[str], value: Any) -> None:
    """Sets one place. Raises BadParameter where something else than a mapping is in the way."""
    at = body
    for part in path[:-1]:
        inner = at.setdefault(part, {})
        if not isinstance(inner, dict):
            raise typer.BadParameter(f"{part} is no mapping", param_hint=".".join(path))
        at = inner
    at[path[-1]] = value


def value_of(text: str) -> Any:
    """JSON where it is some: numbers, true, null, lists; else text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def pairs_of(texts: Sequence[str] | None, hint: str) -> dict[str, str] | None:
    """`KEY=VALUE` options as a mapping."""
    if not texts:
        return None
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint=hint)
        found[key] = value
    return found


def with_secrets(kind: str, settings: Body, directory: Path | None = None) -> Body:
    """A copy with what `env:NAME` and `file:PATH` refer to here, where a provider's secrets are.
    Ends the command where one cannot be read, or is written in the open."""

    def value(reference: str) -> str:
        try:
            return SecretSources(os.environ, directory or Path.cwd()).resolve(reference).reveal()
        except SecretFault as error:
            fail(ExitCode.CONFIG_INVALID, f"{reference}: {error}")

    check_secrets(kind, settings)
    return replace_references(kind, settings, value)


def check_secrets(kind: str, settings: Body) -> None:
    """Ends the command where a secret is written in the open: it would be shown with the difference."""
    provider = settings if kind == "providers" else settings.get("provider")
    if not isinstance(provider, Mapping):
        return
    for part in (provider, *(inner for key in TRANSPARENT if isinstance(inner := provider.get(key), Mapping))):
        for key, value in part.items():
            if is_secret_name(str(key)) and isinstance(value, str) and not is_reference(value) and value != MASK:
                fail(ExitCode.CONFIG_INVALID, f"{key}: a secret is not written here; write env:NAME or file:PATH")


def replace_references(kind: str, settings: Body, value: Callable[[str], str]) -> Body:
    """A copy of an object's settings with `value(reference)` for each reference to a provider's secret."""
    if kind == "providers":
        found: Body = _replaced(settings, value)
        return found
    if kind == "deployments" and isinstance(settings.get("provider"), Mapping):
        return {**settings, "provider": _replaced(settings["provider"], value)}
    return settings


def _replaced(part: Any, value: Callable[[str], str], key: str = "", depth: int = 0) -> Any:
    """Deep inside, where a script may say anything, only a reference under a secret's name is one."""
    if isinstance(part, Mapping):
        inside = depth if key in TRANSPARENT else depth + 1
        return {name: _replaced(item, value, name, inside) for name, item in part.items()}
    if isinstance(part, list):
        return [_replaced(item, value, key, depth) for item in part]
    is_due = depth <= 1 or is_secret_name(key)
    return value(part) if is_due and isinstance(part, str) and is_reference(part) else part


def flat(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Dotted places and what is there, as text; lists are one value."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from flat(item, f"{place}.{key}" if place else str(key))
    else:
        yield place, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
