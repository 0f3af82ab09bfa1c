"""Projects, budgets and prices of a configuration, as a snapshot holds them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from modelport.app.budgets import budgets_of
from modelport.app.snapshot import build
from modelport.auth.api_key import digest
from modelport.config.document import read_document
from modelport.config.load import parse
from modelport.core.budgets import Budget
from modelport.core.catalog import Snapshot

SALT = b"s" * 32
ENVIRON = {"HOME": "/h", "KEY_A": "key-a", "KEY_B": "key-b", "KEY_C": "key-c"}
MODEL = {"model": {"format": "OpenAI", "name": "gpt-4o"}}
AZURE = {"type": "openai_compatible", "base_url": "https://contoso.openai.azure.com/openai/v1"}


def snapshot(config: dict[str, Any], directory: Path = Path("/h")) -> Snapshot:
    loaded = parse(read_document(yaml.safe_dump(config).encode(), "x"), directory / "x.yaml", ENVIRON)
    return build(loaded.settings, SALT, None)


def test_both_secrets_of_a_key_draw_on_one_budget_and_on_their_project_s() -> None:
    found = snapshot(
        {
            "projects": {"Research": {"budget": {"amount": "100.00"}}, "idle": {}},
            "keys": {
                "Team": {
                    "key1": "env:KEY_A",
                    "key2": "env:KEY_B",
                    "project": "Research",
                    "budget": {"tokens": 5, "per": "day"},
                },
                "other": {"key1": "env:KEY_C", "project": "idle"},
            },
        }
    )
    own, project = Budget("key:team", "day", None, 5), Budget("project:research", "month", Decimal("100.00"))
    for secret in ("key-a", "key-b"):
        principal = found.keys[digest(SALT, secret)].principal
        assert (principal.project, principal.budgets) == ("Research", (own, project))
    other = found.keys[digest(SALT, "key-c")].principal
    assert (other.project, other.budgets) == ("idle", ())
    assert budgets_of(found) == (own, project)


def test_a_deployment_has_its_own_budget_and_it_is_a_part_of_the_snapshot_s_id() -> None:
    plain = {"providers": {"az": AZURE}, "deployments": {"Chat": {**MODEL, "provider": "az"}}}
    limited = {**plain, "deployments": {"Chat": {**MODEL, "provider": "az", "budget": {"amount": "1"}}}}
    found = snapshot(limited)
    assert budgets_of(found) == (Budget("deployment:chat", "month", Decimal(1)),)
    assert found.id != snapshot(plain).id


def test_a_provider_s_address_says_whose_prices_hold_wherever_it_is_written() -> None:
    found = snapshot(
        {
            "providers": {"az": AZURE, "lab": {"type": "openai_compatible", "base_url": "http://127.0.0.1:1/v1"}},
            "deployments": {
                "named": {**MODEL, "provider": "az"},
                "inline": {**MODEL, "provider": AZURE},
                "lab": {**MODEL, "provider": "lab"},
                "here": {"model": {"name": "smollm2-135m-instruct"}},
            },
        }
    )
    prices = {}
    for name, deployment in found.deployments.items():
        price = found.prices.price(deployment, deployment.targets[0], 1.8e9)
        prices[name] = None if price is None else price.rates.output
    assert prices == {"named": 10, "inline": 10, "lab": None, "here": None}


def test_the_operator_s_list_is_read_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("prices: [{deployment: here, output: '0.5', input: '0.1'}]")
    found = snapshot(
        {
            "deployments": {"here": {"model": {"name": "smollm2-135m-instruct"}}},
            "prices": {"file": "mine.yaml", "unpriced": "deny"},
        },
        tmp_path,
    )
    deployment = found.deployments["here"]
    price = found.prices.price(deployment, deployment.targets[0], 1.8e9)
    assert (price.rates.output, found.prices.unpriced) == (Decimal("0.5"), "deny")
