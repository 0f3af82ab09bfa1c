"""`modelport prices`: what models cost, and whether a price list of your own is right."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from modelport.app.prices import price_book
from modelport.app.snapshot import deployments, inline_name, run_here
from modelport.cli.output import ExitCode, application, fail, write_error_line, write_json, write_line, write_table
from modelport.cli.settings import ConfigOption, settings_or_fail
from modelport.config.carried import read_carried
from modelport.config.faults import ConfigError
from modelport.config.profiles import load_profiles
from modelport.config.settings import Settings
from modelport.config.sources import Flags
from modelport.control.prices import CLASSES, Book
from modelport.control.profiles import ProfileError
from modelport.core.pricing import Price, Rates, ServiceTier, plain

app = application(help="Show what models cost, and check a price list.", no_args_is_help=True)

COLUMNS = (*CLASSES, "request")
NOTE = "Money for a million tokens, except request (each) and per_hour; `above`: for prompts of more tokens."


@app.command()
def show(
    model: Annotated[str | None, typer.Argument(help="A part of a model's name; absent: your deployments.")] = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show the prices in force today: of your deployments, or of a model wherever the lists know it.

    Example: modelport prices show gpt-4o
    """
    settings = settings_or_fail(config, Flags(), with_secrets=False)
    today = datetime.now(UTC).date()
    rows = list(of_model(model, settings, today) if model is not None else of_deployments(settings, today))
    if model is not None and not rows:
        fail(ExitCode.NOT_FOUND, f"no price list knows a model like {model!r}", "prices.file can name one of your own")
    if as_json:
        write_json({"currency": settings.prices.currency, "version": book_of(settings).version, "prices": rows})
        return
    shown = [name for name in ("above", *COLUMNS, "per_hour") if any(row.get(name) is not None for row in rows)]
    heads = ("host", "model", "service_tier") if model is not None else ("deployment", "target", "service_tier")
    write_table((*heads, *shown, "source"), [[row.get(name) for name in (*heads, *shown, "source")] for row in rows])
    write_line("")
    write_line(NOTE)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A price list of your own.", show_default=False)],
    currency: Annotated[str | None, typer.Option(help="The configuration's prices.currency.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check a price list: names the line and key of every fault, and what looks like a slip.

    Example: modelport prices check prices.yaml
    """
    from modelport.config.prices import read_prices

    try:
        own, slips = read_prices(file, currency)
    except ConfigError as exc:
        if as_json:
            faults = [{"source": f.source, "line": f.line, "key": f.key, "what": f.what} for f in exc.faults]
            write_json({"valid": False, "faults": faults, "warnings": []})
        else:
            for fault in exc.faults:
                write_error_line(str(fault))
        raise typer.Exit(ExitCode.CONFIG_INVALID) from None
    if as_json:
        write_json({"valid": True, "faults": [], "warnings": list(slips)})
        return
    for slip in slips:
        write_error_line(f"warning: {slip}")
    count = len(own.prices)
    write_line(f"{file}: valid, {count} price{'' if count == 1 else 's'} in {own.currency}")


def book_of(settings: Settings) -> Book:
    """The book of this configuration."""
    return price_book(settings, inline_name, set(run_here(settings)))


def of_deployments(settings: Settings, today: date) -> Iterator[dict[str, Any]]:
    """A row for each place that can answer; without prices where there are none."""
    book = book_of(settings)
    try:
        found = list(deployments(settings, load_profiles()))
    except ProfileError as exc:
        fail(ExitCode.CONFIG_INVALID, str(exc))
    for deployment in found:
        tier: ServiceTier = "batch" if deployment.sku.is_batch else "standard"
        for target in deployment.targets:
            about = {"deployment": deployment.name, "target": f"{target.provider}/{target.model}", "service_tier": tier}
            price = book.find(deployment, target, today, tier)
            if price is None:
                yield {**about, "source": "unpriced"}
            else:
                yield from ({**about, **row} for row in told(price))


def of_model(model: str, settings: Settings, today: date) -> Iterator[dict[str, Any]]:
    """Every row of both lists whose model is named like this, and that holds today."""
    wanted = model.lower()
    currency = settings.prices.currency
    if settings.prices.file is not None:
        from modelport.config.prices import read_prices

        own, _ = read_prices(settings.prices.file, currency)
        for row in own.prices:
            if row.model is not None and wanted in row.model.lower() and row.holds_on(today):
                about = {"host": row.provider or "(own)", "model": row.model, "service_tier": row.service_tier}
                yield from ({**about, **line} for line in told(row.price(own.currency)))
    carried = read_carried()
    for host, listed in carried.hosts.items():
        for name, rows in listed.models.items():
            for carried_row in rows if wanted in name else ():
                if carried_row.holds_on(today):
                    about = {"host": host, "model": name, "service_tier": carried_row.service_tier}
                    yield from ({**about, **line} for line in told(carried_row.price(carried.currency)))


def told(price: Price) -> Iterator[dict[str, Any]]:
    """A price as rows: one for its usual rates, one for each longer prompt."""
    about = {"source": price.source or "own list", "currency": price.currency}
    if price.per_hour is not None:
        yield {"per_hour": plain(price.per_hour), "places": price.places, **about}
        return
    yield {**written(price.rates), **about}
    for tier in price.tiers:
        yield {"above": tier.above, **written(tier.rates), **about}


def written(rates: Rates) -> dict[str, str]:
    """The stated rates, every digit."""
    given = msgspec.structs.asdict(rates)
    return {name: plain(given[name]) for name in COLUMNS if given[name] is not None}
