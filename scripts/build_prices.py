"""Makes the price list that the package carries, from two public collections of prices.

    pip install genai-prices
    pip download --no-deps litellm && unzip litellm-*.whl 'litellm/model_prices*' '*.dist-info/*'
    python scripts/build_prices.py --litellm FILE --date 2026-11-21        writes src/modelport/control/prices_data
    python scripts/build_prices.py --litellm FILE --check                  writes nothing; 1 if anything is to be said

Both are taken at their word where they agree, or where only one knows a model. Where they disagree by more than one
percent, the build stops unless `scripts/price_waivers.yaml` says whom to believe, and why. A price of nothing is no
price; prices that depend on the time of the day are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "src" / "modelport" / "control" / "prices_data" / "prices.json"
WAIVERS = Path(__file__).with_name("price_waivers.yaml")
TOLERANCE = Decimal("0.01")
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


def litellm_prices(path: Path) -> dict[str, dict[str, list[Price]]]:
    """host → model → prices."""
    entries = json.loads(path.read_text("utf-8"), parse_float=Decimal, parse_int=Decimal)
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


# --- both together -------------------------------------------------------------------------------------------------


def merged(host: str, litellm: Mapping[str, list[Price]], waivers: Waivers, day: date) -> dict[str, list[Price]]:
    """Every model that either knows."""
    source = HOSTS[host]["genai"]
    named = genai_prices(source, day) if source else {}
    found = {}
    for model in sorted({*litellm, *named}):
        one = litellm.get(model, [])
        other = named[model][1] if model in named else (genai_find(source, model) if source else [])
        prices = chosen(host, model, one, other, waivers, day, model in named)
        if prices:
            found[model] = prices
    return found


def chosen(
    host: str, model: str, litellm: list[Price], genai: list[Price], waivers: Waivers, day: date, is_own: bool
) -> list[Price]:
    """What is believed of one model. `is_own`: genai-prices knows this host's price, not only the publisher's."""
    if not is_own:  # of a publisher's prices for other tiers nothing follows for those who resell its models
        genai = [price for price in genai if "service_tier" not in price]
    if not litellm or not genai:
        one, source = (litellm, "litellm") if litellm else (genai, "genai-prices")
        return [price | {"source": source} for price in one]
    standard, current = litellm[0], at(genai, day)
    differing = disagreements(standard, current) if current else []
    if differing:
        believed = waivers.believed(host, model, differing)
        if believed == "neither":
            return []
        one = litellm if believed == "litellm" else genai
        return [price | {"source": believed} for price in one]
    both = "genai-prices+litellm"
    history = [price for price in genai if "service_tier" not in price]
    found = [price | {"source": "genai-prices"} for price in history[:-1]]
    dates: Price = {name: history[-1][name] for name in ("from", "to") if name in history[-1]} if history else {}
    # Agreed; each may know a class that the other does not.
    combined = {**current, **standard} if current else standard
    current_one: Price = {**combined, **dates, "source": both}
    found.append(current_one)
    for tier in GENAI_VARIANTS:
        offers = [price | {"source": "litellm"} for price in litellm]
        offers += [price | {"source": "genai-prices"} for price in genai]
        # A price without the steps that the standard one has would be too low for long prompts.
        whole = [p for p in offers if p.get("service_tier") == tier and ("tiers" in p) == ("tiers" in current_one)]
        found += [price for price in whole if price["source"] == whole[0]["source"]]
    return found


def at(prices: list[Price], day: date) -> Price | None:
    """The standard price in force on that day."""
    for price in reversed(prices):
        if "service_tier" not in price and price.get("from", "") <= str(day) < price.get("to", "9999"):
            return price
    return None


def disagreements(one: Price, other: Price) -> list[str]:
    """The classes that both price, and not alike."""
    return [
        f"{name}: litellm {one[name]}, genai-prices {other[name]}"
        for name in LITELLM_CLASSES
        if name in one and name in other and abs(Decimal(one[name]) / Decimal(other[name]) - 1) > TOLERANCE
    ]


class Waivers:
    """The file that says whom to believe. An entry that nothing needs is reported too."""

    def __init__(self, entries: list[dict[str, str]]) -> None:
        self.entries = {(entry["host"], model): entry for entry in entries for model in entry["models"]}
        self.used: set[tuple[str, str]] = set()
        self.missing: list[str] = []

    def believed(self, host: str, model: str, differing: list[str]) -> str:
        entry = self.entries.get((host, model))
        if entry is None:
            self.missing.append(f"{host} {model}: {'; '.join(differing)}")
            return "neither"
        self.used.add((host, model))
        return entry["believe"]

    def complaints(self) -> list[str]:
        unused = sorted(set(self.entries) - self.used)
        return [*self.missing, *(f"{host} {model}: waived, but nothing differs" for host, model in unused)]


def built(litellm_file: Path, day: date) -> tuple[dict[str, Any], list[str]]:
    """The list, and what stands against it."""
    waivers = Waivers(yaml.safe_load(WAIVERS.read_text("utf-8")) or [])
    litellm = litellm_prices(litellm_file)
    hosts = {
        host: {"domains": about["domains"], "models": merged(host, litellm[host], waivers, day)}
        for host, about in HOSTS.items()
    }
    content = {
        "made": str(day),
        "currency": "USD",
        "unit": "1000000 tokens",
        "sources": sources(litellm_file, day),
        "hosts": hosts,
    }
    return content, waivers.complaints()


def sources(litellm_file: Path, day: date) -> list[dict[str, str]]:
    written = datetime.fromtimestamp(litellm_file.stat().st_mtime).date()
    return [
        {
            "name": "genai-prices",
            "version": version("genai-prices"),
            "licence": "MIT, Copyright (c) Pydantic Services Inc. and contributors",
            "address": "https://github.com/pydantic/genai-prices",
            "taken": str(day),
        },
        {
            "name": "litellm",
            "version": version_beside(litellm_file),
            "file": "model_prices_and_context_window.json",
            "licence": "MIT, Copyright (c) 2023 Berri AI",
            "address": "https://github.com/BerriAI/litellm",
            "written": str(written),
            "taken": str(day),
        },
    ]


def version_beside(litellm_file: Path) -> str:
    """The package's version, from what was unpacked with the file."""
    (about,) = litellm_file.parent.parent.glob("litellm-*.dist-info")
    return about.name.removeprefix("litellm-").removesuffix(".dist-info")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--litellm", type=Path, required=True, help="model_prices_and_context_window.json")
    parser.add_argument("--date", type=date.fromisoformat, default=None, help="the day that the list is made for")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    made = json.loads(LIST.read_text("utf-8"))["made"] if LIST.exists() else None
    day = options.date or (date.fromisoformat(made) if made else date.today())
    content, complaints = built(options.litellm, day)
    written = json.dumps(content, indent=0, ensure_ascii=True, separators=(",", ":")) + "\n"
    if options.check and (not LIST.exists() or LIST.read_text("utf-8") != written):
        complaints.append(f"{LIST.relative_to(ROOT)}: is not what the sources make")
    for complaint in complaints:
        sys.stderr.write(complaint + "\n")
    if not options.check and not complaints:
        LIST.write_text(written, "utf-8")
    models = {host: len(about["models"]) for host, about in content["hosts"].items()}
    sys.stdout.write(f"{sum(models.values())} models, {len(written):,} bytes: {models}\n")
    return 1 if complaints else 0


if __name__ == "__main__":
    raise SystemExit(main())
