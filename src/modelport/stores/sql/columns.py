"""The tables' columns by name, in order: for whoever fills the ledger, and needs no SQLAlchemy for it."""

from __future__ import annotations

from typing import Final

REVISIONS: Final = ("0004", "0005", "0006", "0007")
"""Every migration, oldest first. Known here so that Alembic is imported only where there is something to migrate."""

TOKEN_COLUMNS: Final = (
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "image_tokens",
    "cache_write_tokens",
)
"""In the order of `TokenUsage.classes`."""
COST_COLUMNS: Final = ("cost_units", "cost_nanos", "cost_attos", "cost_rontos")
SUM_COLUMNS: Final = ("calls", "unpriced_calls", "estimated_calls", *TOKEN_COLUMNS, *COST_COLUMNS)

SERIES_COLUMNS: Final = (
    "principal",
    "key_id",
    "project",
    "deployment",
    "model",
    "target",
    "answered_model",
    "provider",
    "surface",
    "operation",
    "currency",
)

RECORD_COLUMNS: Final = (
    "started_us",
    "id",
    "series_id",
    "streamed",
    "requested_model",
    "spilled_from",
    "status",
    "ending",
    "error_code",
    "usage_source",
    *TOKEN_COLUMNS,
    "reserved_tokens",
    "first_event_seconds",
    "duration_seconds",
    "client_request_id",
    "snapshot",
    "pricing",
    "price_version",
    "service_tier",
    "content_filter",
    *COST_COLUMNS,
)

POSITION_COLUMNS: Final = ("number", "offset_bytes", "line_bytes", "digest", "sequence")
"""The fields of a `Position`."""
