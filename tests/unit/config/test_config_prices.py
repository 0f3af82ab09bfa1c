"""A price list of one's own: what it says, and where it is wrong."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from modelport.config.document import read_document
from modelport.config.faults import ConfigError
from modelport.config.load import read
from modelport.config.prices import parse_prices
from modelport.control.prices import OwnList, OwnRow, RateRow, TierRow


def parsed(text: str, currency: str | None = None) -> OwnList:
    return parse_prices(read_document(text.encode(), "p.yaml"), "p.yaml", currency)[0]


def test_a_list_is_read_as_it_is_written() -> None:
    text = """
currency: EUR
exchange_rates: {USD: "0.92"}
hosts: {house: azure, other: none}
estimate: {input: 20, output: "100"}
prices:
  - model: m
    version: 2
    provider: house
    input: "0.1"
    cached_input: "0.025"
    output: 3
    request: "0.001"
    tiers: [{above: 200000, input: "0.2", output: 6}]
    from: 2026-01-01
    to: 2027-01-01
    source: contract 17
  - {deployment: local, per_hour: "1.20", places: 4}
"""
    assert parsed(text, "EUR") == OwnList(
        currency="EUR",
        exchange_rates={"USD": Decimal("0.92")},
        hosts={"house": "azure", "other": "none"},
        estimate=RateRow(input=Decimal(20), output=Decimal(100)),
        prices=(
            OwnRow(
                model="m",
                version="2",
                provider="house",
                input=Decimal("0.1"),
                cached_input=Decimal("0.025"),
                output=Decimal(3),
                request=Decimal("0.001"),
                tiers=(TierRow(above=200_000, input=Decimal("0.2"), output=Decimal(6)),),
                valid_from=date(2026, 1, 1),
                valid_to=date(2027, 1, 1),
                source="contract 17",
            ),
            OwnRow(deployment="local", per_hour=Decimal("1.20"), places=4),
        ),
    )


def test_an_empty_list_is_a_list() -> None:
    assert parsed("") == OwnList()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prices:\n  - model: m\n    input: 2.5", "p.yaml:3: prices[0].input: 2.5 is a number; put it in quotes"),
        ("prices:\n  - {model: m, outptu: '1'}", "prices[0].outptu: unknown key 'outptu'; did you mean 'output'?"),
        ("prices:\n  - {model: m, input: '-1'}", "prices[0].input: -1: must be at least 0"),
        ("prices:\n  - {model: m, input: '0.0000000000001'}", "p.yaml:2: prices[0].input: "),
        ("prices:\n  - {model: m, input: cheap}", "prices[0].input: "),
        ("prices:\n  - {model: m, input: NaN}", "prices[0].input: "),
        ("prices:\n  - {model: m, input: '1', from: soon}", "prices[0].from: 'soon' is not a day like 2027-01-31"),
        ("prices:\n  - {input: '1'}", "p.yaml:2: prices[0]: names no model, deployment or provider"),
        ("prices:\n  - {model: m}", "p.yaml:2: prices[0]: has no price"),
        ("prices:\n  - {model: m, input: '1', per_hour: '1'}", "has both per_hour and prices of tokens or requests"),
        ("prices:\n  - {model: m, input: '1', from: 2026-02-01, to: 2026-01-01}", "ends before it begins"),
        ("prices:\n  - {model: m, input: '1', service_tier: fast}", "prices[0].service_tier: "),
        ("prices:\n  - {model: m, input: '1'}\n  - {model: M, output: '1'}", "p.yaml:3: prices[1]: is about the same"),
        ("hosts:\n  house: azur", "p.yaml:2: hosts.house: 'azur' is not one of azure, "),
        ("currency: EUR", "p.yaml:1: currency: EUR is not the configuration's prices.currency, USD"),
    ],
)
def test_a_fault_says_where_and_what(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(text, "USD")
    assert said in str(caught.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parsed("currency: euro\nprices:\n  - {input: 1.5}\n  - {model: m, from: x, input: '1'}\n")
    assert [fault.line for fault in caught.value.faults] == [1, 3, 4]


def test_a_slip_is_a_warning_with_its_line() -> None:
    text = "prices:\n  - {model: m, input: '1', cached_input: '2'}"
    _, slips = parse_prices(read_document(text.encode(), "p.yaml"), "p.yaml")
    assert slips == ("p.yaml:2: prices[0]: cached input costs more than input that is not cached",)


def test_a_configuration_is_checked_with_its_price_list(tmp_path: Path) -> None:
    config, prices = tmp_path / "modelport.yaml", tmp_path / "prices.yaml"
    config.write_text("prices: {file: prices.yaml}\n")
    with pytest.raises(ConfigError, match=r"modelport\.yaml:1: prices\.file: there is no file '\S+prices\.yaml'"):
        read(config, {"HOME": "/h"})
    prices.write_text("prices:\n  - {model: m}\n")
    with pytest.raises(ConfigError, match=r"prices\.yaml:2: prices\[0\]: has no price"):
        read(config, {"HOME": "/h"})
    prices.write_text("prices:\n  - {model: m, input: '1', cached_input: '2'}\n")
    assert len(read(config, {"HOME": "/h"}).warnings) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("projects: {p: {budget: {per: day}}}", "projects.p.budget: has neither amount nor tokens"),
        ("projects: {p: {budget: {amount: '0'}}}", "projects.p.budget.amount: 0: must be more than 0"),
        ("projects: {p: {budget: {amount: '1', currency: EUR}}}", "budget.currency: EUR is not prices.currency, USD"),
        ("projects: {p: {budget: {amount: '1000000001'}}}", "projects.p.budget.amount: 1000000001: must be"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_a_fault(tmp_path: Path, text: str, said: str) -> None:
    config = tmp_path / "modelport.yaml"
    config.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read(config, {"HOME": "/h", "R": "redis://h"})
    assert said in str(caught.value)


@pytest.mark.parametrize("how", ["server: {workers: 2}", "redis_url: 'env:R'", "quota: {store: sqlite}"])
def test_budgets_may_be_shared_by_processes(tmp_path: Path, how: str) -> None:
    config = tmp_path / "modelport.yaml"
    config.write_text(f"{how}\nprojects: {{p: {{budget: {{tokens: 5, on_store_outage: allow}}}}}}\n")
    project = read(config, {"HOME": "/h", "R": "redis://h"}).settings.projects["p"]
    assert project.budget is not None
    assert project.budget.on_store_outage == "allow"
