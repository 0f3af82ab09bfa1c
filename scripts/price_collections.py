"""What two public collections of prices say of our hosts' models, in the words of the list that we make of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

MILLION = Decimal(1_000_000)
DIGITS = 9
"""Digits that a price can have; more are the dust of binary fractions."""

# Our hosts: whose names they are in either collection, and the domains that they answer at.
HOSTS: dict[str, dict[str, Any]] = {
    "azure": {
        "litellm": [("azure", "azure/"), ("azure_ai", "azure_ai/")],
        "genai": "azure",
        "domains": [
            "openai.azure.com",
            "services.ai.azure.com",
            "cognitiveservices.azure.com",
            "inference.ai.azure.com",
            "models.ai.azure.com",
            "inference.ml.azure.com",
        ],
    },
    "azure-datazone": {"litellm": [("azure", "azure/us/"), ("azure", "azure/eu/")], "genai": None, "domains": []},
    "openai": {"litellm": [("openai", "")], "genai": "openai", "domains": ["api.openai.com"]},
    "anthropic": {"litellm": [("anthropic", "")], "genai": "anthropic", "domains": ["api.anthropic.com"]},
    "mistral": {"litellm": [("mistral", "mistral/")], "genai": "mistral", "domains": ["api.mistral.ai"]},
    "cohere": {
        "litellm": [("cohere", ""), ("cohere_chat", "")],
        "genai": "cohere",
        "domains": ["api.cohere.ai", "api.cohere.com"],
    },
    "xai": {"litellm": [("xai", "xai/")], "genai": "x-ai", "domains": ["api.x.ai"]},
    "google": {
        "litellm": [("gemini", "gemini/")],
        "genai": "google",
        "domains": ["generativelanguage.googleapis.com"],
    },
    "deepseek": {"litellm": [("deepseek", "deepseek/")], "genai": "deepseek", "domains": ["api.deepseek.com"]},
    "groq": {"litellm": [("groq", "groq/")], "genai": "groq", "domains": ["api.groq.com"]},
    "cerebras": {"litellm": [("cerebras", "cerebras/")], "genai": "cerebras", "domains": ["api.cerebras.ai"]},
}
MODES = frozenset({"chat", "completion", "embedding", "responses"})
LITELLM_CLASSES = {
    "input": "input_cost_per_token",
    "cached_input": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "output": "output_cost_per_token",
    "reasoning": "output_cost_per_reasoning_token",
    "audio_input": "input_cost_per_audio_token",
    "audio_output": "output_cost_per_audio_token",
    "image": "input_cost_per_image_token",
}
LITELLM_SERVICE_TIERS = {"standard": "", "batch": "_batches", "flex": "_flex", "priority": "_priority"}
LITELLM_LENGTHS = {100_000: "_above_100k_tokens", 200_000: "_above_200k_tokens", 272_000: "_above_272k_tokens"}
GENAI_CLASSES = {
    "input": "input_mtok",
    "cached_input": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "output": "output_mtok",
    "audio_input": "input_audio_mtok",
    "audio_output": "output_audio_mtok",
    "image": "input_image_mtok",
}
GENAI_VARIANTS = {
    "batch": ("processing", "batch"),
    "flex": ("service_tier", "flex"),
    "priority": ("service_tier", "priority"),
}

Price = dict[str, Any]
"""Rates by class as text, with `tiers`, `service_tier`, `from`, `to`, `source` where they apply."""


# --- one collection ------------------------------------------------------------------------------------------------


def litellm_entries(text: str) -> dict[str, Any]:
    """The collection's file, with every number as it is written there."""
    entries: dict[str, Any] = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    return entries


def litellm_reduced(text: str) -> dict[str, dict[str, Any]]:
    """What is read of the file: the entries of our hosts, and the fields that decide, as they are written there."""
    entries = json.loads(text, parse_float=RawNumber, parse_int=RawNumber)
    wanted = [name for about in HOSTS.values() for name in about["litellm"]]
    rates = {
        field + length + suffix
        for field in LITELLM_CLASSES.values()
        for length in ("", *LITELLM_LENGTHS.values())
        for suffix in LITELLM_SERVICE_TIERS.values()
    }
    kept = {"litellm_provider", "mode", "source", *rates}
    return {
        name: {field: entry[field] for field in entry if field in kept}
        for name, entry in entries.items()
        if isinstance(entry, dict)
        and entry.get("mode") in MODES
        and any(entry.get("litellm_provider") == provider and name.startswith(prefix) for provider, prefix in wanted)
    }


class RawNumber(float):
    """A number that is written again as it was read."""

    def __new__(cls, text: str) -> RawNumber:
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str

    def __repr__(self) -> str:
        return self.text


def litellm_prices(entries: Mapping[str, Any]) -> dict[str, dict[str, list[Price]]]:
    """host → model → prices."""
    found: dict[str, dict[str, list[Price]]] = {}
    for host, about in HOSTS.items():
        by_prefix = [dict(litellm_models(entries, *names)) for names in about["litellm"]]
        models = found[host] = {}
        for named in by_prefix:
            for model, prices in named.items():
                # Two zones must agree; where they do not, neither is known.
                if host == "azure-datazone" and any(other.get(model) not in (None, prices) for other in by_prefix):
                    continue
                models.setdefault(model, prices)
    return found


def litellm_models(entries: Mapping[str, Any], provider: str, prefix: str) -> Iterator[tuple[str, list[Price]]]:
    for name, entry in entries.items():
        model = name[len(prefix) :].lower()
        if entry.get("litellm_provider") != provider or not name.startswith(prefix) or "/" in model:
            continue
        if entry.get("mode") not in MODES or model.startswith(("ft:", "speech")):
            continue
        prices = [price for tier in LITELLM_SERVICE_TIERS if (price := litellm_price(entry, tier)) is not None]
        if prices and prices[0].get("service_tier") is None:
            yield model, prices


def litellm_price(entry: Mapping[str, Any], tier: str) -> Price | None:
    suffix = LITELLM_SERVICE_TIERS[tier]
    rates = litellm_rates(entry, suffix)
    is_embedding = entry.get("mode") == "embedding"
    if "input" not in rates or ("output" not in rates and not is_embedding):
        return None
    if is_embedding:
        rates.pop("output", None)
    price: Price = dict(rates)
    tiers = []
    for above, length in LITELLM_LENGTHS.items():
        longer = litellm_rates(entry, length + suffix)
        if "input" in longer and "output" in longer:
            tiers.append({"above": above, **longer})
    if tiers:
        price["tiers"] = tiers
    if tier != "standard":
        price["service_tier"] = tier
    return price


def litellm_rates(entry: Mapping[str, Any], suffix: str) -> dict[str, str]:
    rates = {}
    for name, field in LITELLM_CLASSES.items():
        value = entry.get(field + suffix)
        if isinstance(value, Decimal) and value > 0:
            rates[name] = text(value * MILLION)
    return sensible(rates)


def sensible(rates: dict[str, str]) -> dict[str, str]:
    """Without a price of writing to the cache that is below the price of input: it is one of reading, misplaced."""
    if "cache_write" in rates and "input" in rates and Decimal(rates["cache_write"]) < Decimal(rates["input"]):
        return {name: rate for name, rate in rates.items() if name != "cache_write"}
    return rates


def genai_prices(provider_id: str, day: date) -> dict[str, tuple[Any, list[Price]]]:
    """Exact model names of one provider → its entry, prices from the oldest on."""
    from genai_prices.data import providers

    provider = next(p for p in providers if p.id == provider_id)
    found: dict[str, tuple[Any, list[Price]]] = {}
    for model in provider.models:
        prices = genai_model(model)
        if prices:
            for name in exact_names(model):
                found.setdefault(name, (model, prices))
    return found


def genai_find(provider_id: str, name: str) -> list[Price]:
    """The prices of the model that the collection's own rules find."""
    from genai_prices.data import providers

    provider = next(p for p in providers if p.id == provider_id)
    model = provider.find_model(name, all_providers=providers)
    return genai_model(model) if model is not None else []


def exact_names(model: Any) -> Iterator[str]:
    clauses = getattr(model.match, "or_", [model.match])
    for clause in clauses:
        name = getattr(clause, "equals", None)
        if name is not None and ":" not in name and "/" not in name:
            yield name.lower()


def genai_model(model: Any) -> list[Price]:
    """Dated where the collection has a history; nothing where the time of the day decides."""
    prices = model.prices
    dated: list[tuple[date | None, Any]] = []
    if isinstance(prices, list):
        for conditional in prices:
            constraint = conditional.constraint
            if constraint is not None and not hasattr(constraint, "start_date"):
                return []
            dated.append((constraint.start_date if constraint is not None else None, conditional.prices))
    else:
        dated.append((None, prices))
    found: list[Price] = []
    for index, (start, rates) in enumerate(dated):
        price = genai_price(rates)
        if price is None:
            return []
        end = dated[index + 1][0] if index + 1 < len(dated) else None
        since = {"from": str(start)} if start else {}
        until = {"to": str(end)} if end else {}
        found.append({**price, **since, **until})
    for tier, (name, value) in GENAI_VARIANTS.items():
        for variant in getattr(model, "price_variants", None) or ():
            price = genai_price(variant.prices) if variant.when == {name: value} else None
            if price is not None:
                start = getattr(variant.constraint, "start_date", None)
                since = {"from": str(start)} if start else {}
                found.append({**price, "service_tier": tier, **since})
    return found


def genai_price(rates: Any) -> Price | None:
    base: dict[str, str] = {}
    longer: dict[int, dict[str, str]] = {}
    for name, field in GENAI_CLASSES.items():
        value = getattr(rates, field, None)
        if value is None:
            continue
        if not isinstance(value, Decimal):
            for tier in value.tiers:
                longer.setdefault(tier.start, {})[name] = text(tier.price)
            value = value.base
        if value > 0:
            base[name] = text(value)
    if "input" not in base:
        return None
    price: Price = dict(base)
    if longer:
        price["tiers"] = [{"above": above, **base, **rates} for above, rates in sorted(longer.items())]
    return price


def text(value: Decimal) -> str:
    """Every digit that counts and no exponent."""
    rounded = value.quantize(Decimal(1).scaleb(-DIGITS)).normalize()
    return format(rounded, "f")
