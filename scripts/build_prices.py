"""Makes the price list that the package carries, from two public collections of prices.

    pip install genai-prices
    pip download --no-deps litellm && unzip litellm-*.whl 'litellm/model_prices*' '*.dist-info/*'
    python scripts/build_prices.py --litellm FILE --date 2026-11-21        takes both anew, and writes the list
    python scripts/build_prices.py                                         from the part of FILE that is kept here
    python scripts/build_prices.py --check                                 writes nothing; 1 if anything is to be said

It writes `prices_data/prices.json`, what it has used of LiteLLM's file (`scripts/price_litellm.json`), and a page of
what the two disagree about (`docs/reference/price-disagreements.md`). `make test` checks all three, without a network.

Both are taken at their word where they agree, or where only one knows a model. Where they disagree by more than one
percent, the build stops unless `scripts/price_waivers.yaml` says whom to believe, and why; in a tier it stops in any
case. A price of nothing is no price; prices that depend on the time of the day are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from price_collections import (
    GENAI_VARIANTS,
    HOSTS,
    LITELLM_CLASSES,
    Price,
    RawNumber,
    genai_find,
    genai_prices,
    litellm_entries,
    litellm_prices,
    litellm_reduced,
)

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "src" / "modelport" / "control" / "prices_data" / "prices.json"
REPORT = ROOT / "docs" / "reference" / "price-disagreements.md"
WAIVERS = Path(__file__).with_name("price_waivers.yaml")
SNAPSHOT = Path(__file__).with_name("price_litellm.json")
TOLERANCE = Decimal("0.01")

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
        by_source = {price["source"]: price for price in whole}
        if len(by_source) == 2 and (differing := disagreements(by_source["litellm"], by_source["genai-prices"])):
            waivers.missing.append(f"{host} {model} ({tier}): {'; '.join(differing)}")
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
        self.found: list[tuple[str, str, list[str], dict[str, str]]] = []
        """Host, model, what differs, and the entry that decides."""

    def believed(self, host: str, model: str, differing: list[str]) -> str:
        entry = self.entries.get((host, model))
        if entry is None:
            self.missing.append(f"{host} {model}: {'; '.join(differing)}")
            return "neither"
        self.used.add((host, model))
        self.found.append((host, model, differing, entry))
        return entry["believe"]

    def complaints(self) -> list[str]:
        unused = sorted(set(self.entries) - self.used)
        return [*self.missing, *(f"{host} {model}: waived, but nothing differs" for host, model in unused)]


def built(snapshot: Mapping[str, Any], day: date) -> tuple[dict[str, Any], Waivers]:
    """The list, and what stood against it. `snapshot`: what we keep of LiteLLM's collection."""
    waivers = Waivers(yaml.safe_load(WAIVERS.read_text("utf-8")) or [])
    litellm = litellm_prices(snapshot["entries"])
    hosts = {
        host: {"domains": about["domains"], "models": merged(host, litellm[host], waivers, day)}
        for host, about in HOSTS.items()
    }
    content = {
        "made": str(day),
        "currency": "USD",
        "unit": "1000000 tokens",
        "sources": [genai_source(snapshot["source"]["taken"]), snapshot["source"]],
        "hosts": hosts,
    }
    return content, waivers


def genai_source(taken: str) -> dict[str, str]:
    return {
        "name": "genai-prices",
        "version": version("genai-prices"),
        "licence": "MIT, Copyright (c) Pydantic Services Inc. and contributors",
        "address": "https://github.com/pydantic/genai-prices",
        "taken": taken,
    }


def snapshot_of(litellm_file: Path, day: date) -> str:
    """The part of LiteLLM's file that we use, and where it is from: a line for each entry."""
    source = {
        "name": "litellm",
        "version": version_beside(litellm_file),
        "file": "model_prices_and_context_window.json",
        "licence": "MIT, Copyright (c) 2023 Berri AI",
        "address": "https://github.com/BerriAI/litellm",
        "written": str(datetime.fromtimestamp(litellm_file.stat().st_mtime).date()),
        "taken": str(day),
    }
    entries = sorted(litellm_reduced(litellm_file.read_text("utf-8")).items())
    lines = [f"{json.dumps(name)}:{dumped(entry)}" for name, entry in entries]
    return f'{{"source":{json.dumps(source)},\n"entries":{{\n' + ",\n".join(lines) + "\n}}\n"


def dumped(entry: Mapping[str, Any]) -> str:
    """JSON with numbers as they were read."""
    pairs = (
        f"{json.dumps(key)}:{value!r}" if isinstance(value, RawNumber) else f"{json.dumps(key)}:{json.dumps(value)}"
        for key, value in entry.items()
    )
    return "{" + ",".join(pairs) + "}"


def version_beside(litellm_file: Path) -> str:
    """The package's version, from what was unpacked with the file."""
    (about,) = litellm_file.parent.parent.glob("litellm-*.dist-info")
    return about.name.removeprefix("litellm-").removesuffix(".dist-info")


def report(content: Mapping[str, Any], waivers: Waivers) -> str:
    """Where the two disagree, and who is believed, as a page."""
    lines = [
        "# Where the sources of the price list disagree",
        "",
        "Made by `scripts/build_prices.py`; a test holds it against the list and its sources. Prices are for a million",
        f"tokens, in {content['currency']}, of {content['made']}: "
        + " and ".join(
            f"[{each['name']}]({each['address']}) {each['version']}" for each in reversed(content["sources"])
        )
        + ".",
        "Differences of up to one percent are none. Where neither is believed, a model has no price.",
        "",
        "| host | model | differing | believed | why |",
        "|---|---|---|---|---|",
    ]
    for host, model, differing, entry in sorted(waivers.found, key=lambda found: found[:2]):
        lines.append(f"| {host} | {model} | {'; '.join(differing)} | {entry['believe']} | {entry['reason']} |")
    models = {host: len(about["models"]) for host, about in content["hosts"].items()}
    agreed = sum(
        any(row["source"] == "genai-prices+litellm" for row in rows)
        for about in content["hosts"].values()
        for rows in about["models"].values()
    )
    lines += ["", f"{sum(models.values())} models have a price; {agreed} of them are in both sources, which agree."]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--litellm", type=Path, help="a new model_prices_and_context_window.json")
    parser.add_argument("--date", type=date.fromisoformat, default=None, help="the day that the list is made for")
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    made = json.loads(LIST.read_text("utf-8"))["made"] if LIST.exists() else None
    day = options.date or (date.fromisoformat(made) if made else date.today())
    kept = snapshot_of(options.litellm, day) if options.litellm else SNAPSHOT.read_text("utf-8")
    content, waivers = built(litellm_entries(kept), day)
    written = {
        SNAPSHOT: kept,
        LIST: json.dumps(content, indent=0, ensure_ascii=True, separators=(",", ":")) + "\n",
        REPORT: report(content, waivers),
    }
    complaints = waivers.complaints()
    if options.check:
        stale = [file for file, text in written.items() if not file.exists() or file.read_text("utf-8") != text]
        complaints += [f"{file.relative_to(ROOT)}: is not what the sources make" for file in stale]
    for complaint in complaints:
        sys.stderr.write(complaint + "\n")
    if not options.check and not complaints:
        for file, text in written.items():
            file.write_text(text, "utf-8")
    models = {host: len(about["models"]) for host, about in content["hosts"].items()}
    sys.stdout.write(f"{sum(models.values())} models, {len(written[LIST]):,} bytes: {models}\n")
    return 1 if complaints else 0


if __name__ == "__main__":
    raise SystemExit(main())
