"""Profiles: which row a model's name finds, and what a deployment may lay over it."""

from __future__ import annotations

from typing import Any

import pytest

from modelport.config.profiles import load_profiles
from modelport.control.profiles import ProfileError, Profiles
from modelport.core.catalog import UNKNOWN_PROFILE, Range
from modelport.core.operations import Operation

PROFILES = load_profiles()

CONTEXTS = {
    # model: (context, greatest answer), in tokens
    "Cohere-command-r": (131072, 4096),
    "Cohere-command-r-plus-08-2024": (131072, 4096),
    "Llama-2-13b-chat": (4096, None),
    "Meta-Llama-3-70B-Instruct": (8192, 8192),
    "Meta-Llama-3.1-8B-Instruct": (131072, 8192),
    "Llama-3.2-90B-Vision-Instruct": (128000, 8192),
    "Llama-3.3-70B-Instruct": (128000, 8192),
    "Mistral-small": (32768, 4096),
    "Mistral-large": (32768, 4096),
    "Mistral-large-2407": (131072, 4096),
    "Mistral-Large-2411": (128000, 4096),
    "Mistral-Nemo": (131072, 4096),
    "Ministral-3B": (131072, 4096),
    "Codestral-2501": (262144, 4096),
    "jais-30b-chat": (8192, 4096),
    "AI21-Jamba-Instruct": (70000, 4096),
    "AI21-Jamba-1.5-Large": (262144, 4096),
    "Phi-3-mini-4k-instruct": (4096, 4096),
    "Phi-3-small-8k-instruct": (8192, 4096),
    "Phi-3-medium-128k-instruct": (131072, 4096),
    "Phi-4": (16384, 16384),
    "DeepSeek-R1": (163840, 131072),
    "DeepSeek-V3-0324": (163840, 131072),
    "gpt-4o": (131072, 16384),
    "gpt-4o-mini": (131072, 16384),
    "o1": (200000, 100000),
    "o3-mini": (200000, 100000),
    "Cohere-embed-v3-multilingual": (512, None),
    "text-embedding-3-large": (8191, None),
}


@pytest.mark.parametrize(("model", "figures"), CONTEXTS.items())
def test_a_model_has_the_context_it_is_published_with(model: str, figures: tuple[int, int | None]) -> None:
    for written in (model, model.upper(), model.lower()):
        profile = PROFILES.of(written)
        assert (profile.context, profile.max_output) == figures


@pytest.mark.parametrize("model", ["my-finetune", "gpt", "o", "o11", "llama", "", "not-gpt-4o", "[", "*"])
def test_another_name_is_unknown(model: str) -> None:
    assert PROFILES.of(model) is UNKNOWN_PROFILE


@pytest.mark.parametrize(
    ("model", "dimensions", "is_selectable"),
    [
        ("Cohere-embed-v3-english", (1024,), False),
        ("text-embedding-3-large", (3072,), True),
        ("text-embedding-3-small", (1536,), True),
        ("text-embedding-ada-002", (1536,), False),
    ],
)
def test_embedding_models_have_their_dimensions(model: str, dimensions: tuple[int, ...], is_selectable: bool) -> None:
    profile = PROFILES.of(model)
    assert (profile.dimensions, profile.dimensions_selectable) == (dimensions, is_selectable)
    assert Operation.EMBEDDINGS in profile.operations
    assert Operation.CHAT_COMPLETIONS not in profile.operations


def test_an_override_changes_its_own_field_and_no_other() -> None:
    base = PROFILES.of("Phi-4")
    found = PROFILES.of("Phi-4", {"tools": "supported", "context": 1000, "formats": ["text", "json_object"]})
    assert (found.tools, found.context, found.formats) == (True, 1000, frozenset({"text", "json_object"}))
    assert (found.family, found.max_output, found.inputs) == (base.family, base.max_output, base.inputs)
    assert PROFILES.of("Phi-4") == base


def test_an_override_makes_an_unknown_model_known() -> None:
    found = PROFILES.of("my-finetune", {"seed": "unsupported"})
    assert found.known
    assert found.parameters == {"seed": False}
    assert found.operations == frozenset(Operation)


@pytest.mark.parametrize(
    ("value", "rule"),
    [("supported", True), ("unsupported", False), (True, True), (False, False), ([0, 1], Range(0, 1))],
)
def test_a_parameter_is_supported_or_not_or_within_bounds(value: Any, rule: Any) -> None:
    assert PROFILES.of("Phi-4", {"temperature": value}).parameters["temperature"] == rule


@pytest.mark.parametrize(
    "overrides", [{"tols": True}, {"temperature": "sometimes"}, {"temperature": [1]}, {"operations": ["chatting"]}]
)
def test_an_impossible_override_is_an_error_that_names_it(overrides: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(overrides)) if "operations" not in overrides else "chatting"):
        PROFILES.of("Phi-4", overrides)


def test_the_first_row_that_fits_counts() -> None:
    rows = [{"family": "narrow", "match": ["a-b*"]}, {"family": "wide", "match": ["a-*"], "context": 5}]
    profiles = Profiles({"profiles": rows})
    assert [profiles.of(name).family for name in ("a-b-c", "A-C", "b")] == ["narrow", "wide", "unknown"]


def test_no_row_is_out_of_reach() -> None:
    """A row whose every pattern an earlier row swallows would never be found."""
    for row in PROFILES.families():
        names = [pattern.replace("*", "").replace("[134]", "1") for pattern in row.match]
        assert row.profile.family in {PROFILES.of(name).family for name in names}, row.match


def test_an_unknown_field_of_a_row_is_an_error() -> None:
    with pytest.raises(ProfileError, match="contxt"):
        Profiles({"profiles": [{"family": "a", "match": ["a"], "contxt": 5}]})
