"""What budgets begin with: the ledger's sums, and nothing until it has told them."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from modelport.app import budgets as app_budgets
from modelport.app.budgets import KeptBudgets, LedgerSeeds
from modelport.config.document import read_document
from modelport.config.load import parse
from modelport.config.settings import Settings
from modelport.core.budgets import Budget, window_of
from modelport.core.clock import SystemClock
from modelport.core.ports.stages import Refusal
from modelport.core.usage import WORKER_HOURS, TokenUsage
from modelport.core.usage_reports import LedgerUnavailable, TooManyRows, UsageQuestion, UsageRow

NOON = 1_795_262_400.0
DAILY = Budget("key:batch-team", "day", Decimal("2"), 10_000)


class Told:
    """A ledger that says what it is told to, or fails."""

    def __init__(self, *rows: UsageRow) -> None:
        self.rows = list(rows)
        self.failure: Exception | None = None
        self.questions: list[UsageQuestion] = []

    async def report(self, question: UsageQuestion) -> list[UsageRow]:
        self.questions.append(question)
        if self.failure is not None:
            raise self.failure
        return self.rows


class OneProcess:
    budget_bank = None

    def __init__(self, ledger: Told) -> None:
        self.ledger = ledger


def row(
    name: str | None, cost: str | None, tokens: int, currency: str | None = "USD", operation: str = "chat"
) -> UsageRow:
    return UsageRow(
        names={"principal": name, "operation": operation},
        calls=1,
        unpriced_calls=0,
        estimated_calls=0,
        tokens=TokenUsage(input=tokens),
        cost=None if cost is None else Decimal(cost),
        currency=currency,
    )


def settings(directory: Path) -> Settings:
    text = yaml.safe_dump({"server": {"data_dir": str(directory)}})
    return parse(read_document(text.encode(), "x"), directory / "x.yaml", {"HOME": "/h"}).settings


def seeds(ledger: Told, directory: Path) -> LedgerSeeds:
    (directory / "journal").mkdir(exist_ok=True)
    (directory / "journal" / "source").write_text("a1b2")
    asked: Any = ledger
    return LedgerSeeds(asked, settings(directory))


def test_a_seed_is_the_sum_of_one_name_in_one_currency_without_the_hours_of_workers(tmp_path: Path) -> None:
    ledger = Told(
        row("Batch-Team", "0.5", 100),
        row("batch-team", "0.25", 10, operation="embeddings"),
        row("batch-team", "7", 5, "EUR"),
        row("batch-team", None, 3, None),
        row("batch-team", "9", 0, operation=WORKER_HOURS),
        row("else", "3", 1000),
        row(None, "3", 1000),
    )
    window = window_of("day", NOON)
    seed = asyncio.run(seeds(ledger, tmp_path).used("key:batch-team", window))
    assert (seed.ledger, seed.amount, seed.tokens) == ("sqlite:a1b2", Decimal("0.75"), 118)
    (question,) = ledger.questions
    assert question.is_complete
    assert (question.since, question.until) == (window.begins_at, window.ends_at)


def test_a_ledger_with_too_many_names_is_one_that_does_not_answer(tmp_path: Path) -> None:
    ledger = Told()
    ledger.failure = TooManyRows()
    with pytest.raises(LedgerUnavailable):
        asyncio.run(seeds(ledger, tmp_path).used("key:k", window_of("day", NOON)))


def test_one_process_refuses_until_the_ledger_has_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_budgets, "FIRST_ATTEMPT_SECONDS", 0.01)
    monkeypatch.setattr(app_budgets, "RETRY_SECONDS", 0.01)
    ledger = Told(row("batch-team", "1.5", 100))
    ledger.failure = LedgerUnavailable("gone")

    async def lived() -> None:
        owner: Any = OneProcess(ledger)
        kept = KeptBudgets(settings(tmp_path), (DAILY,), owner, SystemClock())
        await kept.start()
        now = SystemClock().now()
        assert isinstance(kept.budgets.reserve((DAILY,), Decimal("0.1"), 1, now), Refusal)
        assert [state.state for state in kept.states()] == ["degraded"]
        ledger.failure = None
        while kept.states()[0].state != "ready":
            await asyncio.sleep(0.01)
        assert kept.budgets.spent(DAILY, now) == (Decimal("1.5"), 100)
        assert not isinstance(kept.budgets.reserve((DAILY,), Decimal("0.1"), 1, now), Refusal)
        await kept.close()

    asyncio.run(lived())


def test_a_budget_that_comes_later_begins_with_what_was_used_and_holds_up_nobody_else(tmp_path: Path) -> None:
    ledger = Told(row("batch-team", "1.5", 100))
    other = msgspec.structs.replace(DAILY, subject="key:another")

    async def lived() -> None:
        owner: Any = OneProcess(ledger)
        kept = KeptBudgets(settings(tmp_path), (other,), owner, SystemClock())
        await kept.start()
        now = SystemClock().now()
        kept.follow((DAILY, other))
        assert isinstance(kept.budgets.reserve((DAILY,), Decimal("0.1"), 1, now), Refusal)
        assert not isinstance(kept.budgets.reserve((other,), Decimal("0.1"), 1, now), Refusal)
        while kept.states()[0].state != "ready":
            await asyncio.sleep(0.01)
        assert kept.budgets.spent(DAILY, now) == (Decimal("1.5"), 100)
        kept.follow((DAILY,))
        assert kept.states()[0].state == "ready"
        await kept.close()

    asyncio.run(lived())
