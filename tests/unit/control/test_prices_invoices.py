"""Golden invoices: what an upstream says it used, the price as cited, and the cost worked out by hand."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelport.config.carried import read_carried
from modelport.control.prices import Book
from modelport.core.catalog import Deployment, Model, Sku, Target
from modelport.core.pricing import Price, plain
from modelport.core.usage import TokenUsage
from modelport.dialects.openai_chat.upstream_usage import usage_report

INVOICES = Path(__file__).parents[2] / "golden" / "invoices"
CARRIED = read_carried()
DAY = date(2026, 11, 21)


def invoices() -> list[Any]:
    return [pytest.param(json.loads(path.read_text()), id=path.stem) for path in sorted(INVOICES.glob("*.json"))]


def priced(invoice: Any) -> tuple[Price, TokenUsage]:
    book = Book(CARRIED, addresses={"upstream": invoice["provider"]})
    target = Target("upstream", invoice["upstream_model"])
    deployment = Deployment(name="d", model=Model(**invoice["model"]), targets=(target,), sku=Sku(invoice["sku"]))
    price = book.find(deployment, target, DAY, invoice["service_tier"])
    report = usage_report(invoice["usage"])
    assert price is not None
    assert report is not None
    return price, report.usage


@pytest.mark.parametrize("invoice", invoices())
def test_an_invoice_is_right_to_the_last_digit(invoice: Any) -> None:
    price, usage = priced(invoice)
    cost = price.cost(usage)
    assert cost is not None
    parts = {name: plain(part) for name, part in msgspec.structs.asdict(cost).items() if name != "currency" and part}
    assert {**parts, "total": plain(cost.total)} == invoice["cost"]
    assert cost.currency == "USD"
    assert price.total(usage) == Decimal(invoice["cost"]["total"])


@pytest.mark.parametrize("invoice", invoices())
def test_the_list_says_what_the_invoice_cites(invoice: Any) -> None:
    price, usage = priced(invoice)
    rates = msgspec.to_builtins(price.rates_for(usage.prompt))
    cited = {name: rate for name, rate in invoice["price"].items() if name not in ("above", "cited")}
    assert {name: rate for name, rate in rates.items() if rate is not None} == cited
    assert [tier.above for tier in price.tiers if usage.prompt > tier.above] == (
        [invoice["price"]["above"]] if "above" in invoice["price"] else []
    )


def test_every_class_of_token_is_on_an_invoice() -> None:
    charged = {name for invoice in invoices() for name in invoice.values[0]["cost"]}
    assert charged == {*TokenUsage.__struct_fields__, "total"}
