"""pydantic's errors → faults in our words, each with the line of the key it is about. Never repeats a secret."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from modelport.config.faults import Fault, Path, dotted, printable
from modelport.config.section import shown
from modelport.config.spelling import did_you_mean
from modelport.config.vocabulary import keys_at, places_of

_SECRET_NAME: Final = re.compile(r"key|secret|token|password|credential|authorization|headers|_url$", re.IGNORECASE)
_BOUNDS: Final = {
    "greater_than": ("gt", "must be more than {}"),
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than": ("lt", "must be less than {}"),
    "less_than_equal": ("le", "must be at most {}"),
    "string_too_short": ("min_length", "must have at least {} character(s)"),
    "string_too_long": ("max_length", "must have at most {} characters"),
    "too_short": ("min_length", "must have at least {} entry"),
    "too_long": ("max_length", "must have at most {} entries"),
}
_KINDS: Final = {
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "decimal_type": "an amount in quotes",
    "decimal_parsing": "an amount in quotes",
    "path_type": "a path",
}


_EXAMPLES: Final = {
    "budget": '{amount: "100.00", per: month}',
    "limits": "{tokens_per_minute: 10000, requests_per_minute: 60}",
    "model": '{format: OpenAI, name: gpt-4o, version: "2024-08-06"}',
    "sku": "{name: GlobalStandard, capacity: 10}",
    "provider": "{type: llama_cpp, weights: my-model.gguf}",
    "tls": "{self_signed: true}",
}
_LITELLM: Final = (
    "that is a LiteLLM configuration; here `deployments` has the names that callers use, and `providers` the hosts "
    "behind them (docs/guides/configuration.md)"
)
_ELSEWHERE: Final = {
    "model_list": _LITELLM,
    "litellm_settings": _LITELLM,
    "litellm_params": _LITELLM,
    "general_settings": _LITELLM,
    "router_settings": _LITELLM,
    "tpm": "write limits: {tokens_per_minute: …}",
    "rpm": "write limits: {requests_per_minute: …}",
    "max_parallel_requests": "write limits: {concurrent_requests: …}",
    "max_budget": 'write budget: {amount: "100.00", per: month}',
    "api_base": "write base_url",
    "azure_endpoint": "write base_url",
}
"""What other gateways call something that is here under another name."""
_UNSAID: Final = "is not valid; the adapter's reason may repeat the secret and is not shown"


class Explainer:
    """Knows where the parts of some raw data stand, and says what a ValidationError means there."""

    def __init__(self, data: Mapping[str, Any], place: Callable[[Path], tuple[str, int | None]]) -> None:
        self._data = data
        self._place = place

    def fault(self, path: Path, what: str) -> Fault:
        """A fault at a place of the tree."""
        source, line = self._place(path)
        return Fault(source, line, dotted(path), what)

    def explain(
        self, error: ValidationError, root: type[BaseModel], base: Path = (), secrets: Container[Path] = ()
    ) -> Iterator[tuple[Path, Fault]]:
        """One fault for each place that the error names. `base` is where `root` stands in the data; `secrets` are the
        places whose value was revealed for the check."""
        told: set[Path] = set()
        for details in error.errors(include_url=False):
            path = self._path((*base, *details["loc"]))
            if details["type"] == "missing":
                path = (*path, str(details["loc"][-1]))
            if path not in told:
                told.add(path)
                is_hidden = is_secret(path) or path in secrets
                yield path, self.fault(path, _sentence(details, path, root, base, is_hidden))

    def _path(self, loc: Path) -> Path:
        """The part of pydantic's location that exists in the data: names of union arms fall out."""
        path: Path = ()
        value: Any = self._data
        for part in loc:
            if isinstance(value, Mapping) and part in value:
                value = value[str(part)]
            elif isinstance(value, list) and isinstance(part, int) and part < len(value):
                value = value[part]
            else:
                continue
            path = (*path, part)
        return path


def _sentence(details: ErrorDetails, path: Path, root: type[BaseModel], base: Path, is_hidden: bool) -> str:
    kind, context, value = details["type"], details.get("ctx", {}), details["input"]
    if kind == "extra_forbidden":
        return _unknown_key(path, root, base)
    if kind == "missing":
        return "is required"
    said = "the value" if is_hidden else shown(value)
    if kind in ("literal_error", "enum"):
        choices = re.findall(r"'([^']*)'", str(context["expected"]))
        meant = did_you_mean(value, choices) if isinstance(value, str) else ""
        listed = f"is not one of {', '.join(choices)}" if len(choices) <= 5 or not meant else "is not known"
        return f"{said} {listed}{meant}"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        if isinstance(value, str) and kind.startswith(("greater", "less")) and not is_hidden:
            said = printable(value)  # a number from the environment, or one in quotes
        return f"{said}: {words.format(context[name])}" if not kind.startswith("too_") else words.format(context[name])
    if kind in _KINDS:
        example = _EXAMPLES.get(str(path[-1])) if _KINDS[kind] == "a mapping" and path else None
        return f"must be {_KINDS[kind]}, not {said}{f'; for example {example}' if example else ''}"
    if kind in ("refused", "secret"):
        return str(context["what"])
    if kind == "value_error":
        return _UNSAID if is_hidden else str(context["error"])
    message = details["msg"]
    return f"{said}: {message[:1].lower()}{message[1:]}"


def _unknown_key(path: Path, root: type[BaseModel], base: Path) -> str:
    key = str(path[-1])
    if key in _ELSEWHERE:
        return f"unknown key {key!r}: {_ELSEWHERE[key]}"
    siblings = keys_at(root, path[len(base) : -1])
    meant = did_you_mean(key, siblings)
    if not meant:
        elsewhere = next(places_of(root, key), None)
        meant = f"; it belongs in {dotted(elsewhere[:-1]) or 'the top level'!r}" if elsewhere is not None else ""
    if not meant and siblings:
        meant = f"; known here: {', '.join(siblings)}"
    return f"unknown key {printable(key)!r}{meant}"


def is_secret(path: Path) -> bool:
    """May the value at this place, or anything in it, be a secret? Then no message repeats it."""
    parts = path[2:] if path[:1] == ("keys",) else path  # the section `keys` and the names in it are no secrets
    return any(isinstance(part, str) and _SECRET_NAME.search(part) for part in parts)
