"""Profiles: what a model family can do, read from profiles.yaml's rows and a deployment's own overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec
from msgspec import Struct

from modelport.core.catalog import UNKNOWN_PROFILE, ModelProfile, Range
from modelport.core.operations import Operation

PLAIN = (
    "tools",
    "system_role",
    "reasoning",
    "max_tokens_name",
    "context",
    "max_output",
    "dimensions_selectable",
    "max_inputs",
)
SETS = ("formats", "extras", "unsupported_extras", "inputs", "input_types", "encoding_formats")
# `profile: {tools: supported, seed: unsupported}` in a deployment, beside the fields of a row.
WORDS: Mapping[str, bool] = {"supported": True, "unsupported": False}
STANDARD_PARAMETERS = frozenset(
    (
        "frequency_penalty",
        "presence_penalty",
        "temperature",
        "top_p",
        "max_tokens",
        "stop",
        "seed",
        "response_format",
        "tool_choice",
        "modalities",
        "suffix",
        "echo",
        "n",
        "best_of",
        "logprobs",
    )
)


class ProfileError(ValueError):
    """A row or an override that says something impossible; the message names the field."""


class Row(Struct, frozen=True):
    """One family: which model names it fits, and its profile."""

    match: tuple[str, ...]
    profile: ModelProfile


class Profiles:
    """All rows, in order."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        prompts = document.get("safety_prompts") or {}
        self._rows = tuple(
            Row(tuple(raw["match"]), with_fields(ModelProfile(family=raw["family"]), raw, prompts))
            for raw in document["profiles"]
        )
        self._prompts = prompts
        self._found: dict[str, ModelProfile] = {}
        """By the name of a model: trying all patterns takes longer than everything else that a deployment needs."""

    def families(self) -> Sequence[Row]:
        """Every row, for listings."""
        return self._rows

    def of(self, model_name: str, overrides: Mapping[str, Any] | None = None) -> ModelProfile:
        """The profile of a model, with a deployment's overrides. Raises ProfileError."""
        base = self._found.get(model_name)
        if base is None:
            name = model_name.lower()
            base = next((r.profile for r in self._rows if any(fnmatchcase(name, p) for p in r.match)), UNKNOWN_PROFILE)
            self._found[model_name] = base
        if not overrides:
            return base
        return with_fields(msgspec.structs.replace(base, known=True), overrides, self._prompts)


def with_fields(profile: ModelProfile, raw: Mapping[str, Any], prompts: Mapping[str, str]) -> ModelProfile:
    """The profile with a row's or an override's fields laid over it."""
    changes: dict[str, Any] = {}
    parameters: dict[str, bool | Range] = dict(profile.parameters)
    for name, value in raw.items():
        if name in ("family", "match"):
            continue
        if name == "operations":
            changes[name] = frozenset(Operation(word) for word in value)
        elif name == "unsupported":
            parameters.update(dict.fromkeys(value, False))
        elif name == "ranges":
            parameters.update({key: Range(*bounds) for key, bounds in value.items()})
        elif name == "safety_prompt":
            changes[name] = prompts.get(value, value)
        elif name == "dimensions":
            changes[name] = (value,) if isinstance(value, int) else tuple(value)
        elif name in SETS:
            changes[name] = frozenset(value)
        elif name in PLAIN:
            changes[name] = WORDS.get(value, value) if isinstance(value, str) else value
        elif name in STANDARD_PARAMETERS:
            parameters[name] = supported(name, value)
        else:
            raise ProfileError(f"unknown field {name!r} of a model profile")
    return msgspec.structs.replace(profile, parameters=parameters, **changes)


def supported(name: str, value: Any) -> bool | Range:
    """`supported`, `unsupported`, true, false, or a range `[minimum, maximum]`."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in WORDS:
        return WORDS[value]
    if isinstance(value, list) and len(value) == 2:
        return Range(*value)
    raise ProfileError(f"{name}: {value!r} is none of supported, unsupported, [minimum, maximum]")
