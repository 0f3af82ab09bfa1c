"""Made-up calls: of twenty deployments and fifty keys, over a year."""

from __future__ import annotations

import random
import uuid

from modelport.core.usage import Pricing, TokenUsage, UsageRecord

YEAR_SECONDS = 365 * 86_400
NOW = 1_795_262_400
DEPLOYMENTS, KEYS = 20, 50


def record(started_at: float, deployment: int | None = None, key: int | None = None) -> UsageRecord:
    """Of a key to a deployment: these, or some."""
    deployment = random.randrange(DEPLOYMENTS) if deployment is None else deployment
    key = random.randrange(KEYS) if key is None else key
    return UsageRecord(
        id=str(uuid.uuid4()),
        started_at=started_at,
        principal=f"team-{key}",
        key_id=f"team-{key}/key1",
        surface="azure_inference",
        operation="chat_completions",
        streamed=True,
        requested_model=f"deployment-{deployment}",
        deployment=f"deployment-{deployment}",
        answered_model=f"model-{deployment % 7}",
        target=f"house/model-{deployment % 7}",
        provider="house",
        status=200,
        usage=TokenUsage(input=random.randrange(4000), output=random.randrange(1000)),
        usage_source="reported",
        reserved_tokens=4096,
        first_event_seconds=0.2,
        duration_seconds=2.0,
        snapshot="0123456789ab",
        cost=f"0.00{random.randrange(10**9):09}",
        currency="USD",
        price_version="0123456789ab",
        pricing=Pricing.PRICED.value,
        project=f"project-{key % 5}",
    )
