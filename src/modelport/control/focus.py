"""Usage as charges in the columns of the FinOps Open Cost and Usage Specification (FOCUS), for tools that read it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from modelport.control.usage import written
from modelport.core.pricing import plain
from modelport.core.usage import WORKER_HOURS
from modelport.core.usage_reports import UsageRow

GROUPINGS: Final = ("day", "project", "deployment", "key", "model", "provider", "operation")
"""What `as_focus` needs its rows divided by."""
COLUMNS: Final = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "RegionId",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SubAccountId",
    "SubAccountName",
    "x_KeyId",
    "x_Operation",
    "x_Calls",
    "x_UnpricedCalls",
    "x_EstimatedCalls",
    "x_InputTokens",
    "x_CachedInputTokens",
    "x_CacheWriteTokens",
    "x_OutputTokens",
    "x_ReasoningTokens",
    "x_AudioInputTokens",
    "x_AudioOutputTokens",
    "x_ImageTokens",
)


def as_focus(rows: Iterable[UsageRow], account: str, region: str) -> str:
    """Rows by GROUPINGS, as CSV. Costs that are not known
    are empty: the specification wants a number there, but zero would be a lie."""
    return written(COLUMNS, (charge(row, account, region) for row in rows))


def charge(row: UsageRow, account: str, region: str) -> dict[str, Any]:
    """One charge: a day of one deployment, key and model."""
    names, tokens = row.names, row.tokens
    start = datetime.fromisoformat(names["day"] or "1970-01-01").replace(tzinfo=UTC)
    month = start.replace(day=1)
    following = (month + timedelta(days=32)).replace(day=1)
    cost = "" if row.cost is None else plain(row.cost)
    deployment, provider = names["deployment"] or "", names["provider"] or ""
    operation = names["operation"] or "calls"
    is_worker = operation == WORKER_HOURS
    return {
        **dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost),
        "BillingAccountId": account,
        "BillingAccountName": account,
        "BillingCurrency": row.currency or "",
        "BillingPeriodStart": stamp(month),
        "BillingPeriodEnd": stamp(following),
        "ChargeCategory": "Usage",
        "ChargeClass": "",
        "ChargeDescription": f"{operation.replace('_', ' ')} of {names['model'] or deployment or 'no model'}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": stamp(start),
        "ChargePeriodEnd": stamp(start + timedelta(days=1)),
        # How many hours they were is in the records alone, not in their sums.
        **dict.fromkeys(("ConsumedQuantity", "PricingQuantity"), "" if is_worker else tokens.total),
        **dict.fromkeys(("ConsumedUnit", "PricingUnit"), "" if is_worker else "Tokens"),
        "InvoiceIssuerName": provider or "modelport",
        "ProviderName": provider or "modelport",
        "PublisherName": provider or "modelport",
        "RegionId": region,
        "ResourceId": deployment,
        "ResourceName": deployment,
        "ResourceType": "Deployment",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Model inference",
        "ServiceSubcategory": "Generative AI",
        "SkuId": names["model"] or "",
        "SubAccountId": names["project"] or "",
        "SubAccountName": names["project"] or "",
        "x_KeyId": names["key"] or "",
        "x_Operation": names["operation"] or "",
        "x_Calls": row.calls,
        "x_UnpricedCalls": row.unpriced_calls,
        "x_EstimatedCalls": row.estimated_calls,
        "x_InputTokens": tokens.input,
        "x_CachedInputTokens": tokens.cached_input,
        "x_CacheWriteTokens": tokens.cache_write,
        "x_OutputTokens": tokens.output,
        "x_ReasoningTokens": tokens.reasoning,
        "x_AudioInputTokens": tokens.audio_input,
        "x_AudioOutputTokens": tokens.audio_output,
        "x_ImageTokens": tokens.image,
    }


def stamp(when: datetime) -> str:
    """As FOCUS writes times."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
