"""Names of header fields as most clients spell them, so that nearly none has to be made lower case."""

from __future__ import annotations

from typing import Final

SPELLINGS: Final = {
    spelling.encode(): name.lower().encode()
    for name in (
        "Accept",
        "Accept-Encoding",
        "Accept-Language",
        "Api-Key",
        "Authorization",
        "Connection",
        "Content-Length",
        "Content-Type",
        "Cookie",
        "Date",
        "Extra-Parameters",
        "Traceparent",
        "User-Agent",
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Ms-Client-Request-Id",
        "X-Ms-Model-Mesh-Model-Name",
        "X-Request-Id",
        "X-Stainless-Arch",
        "X-Stainless-Async",
        "X-Stainless-Lang",
        "X-Stainless-Os",
        "X-Stainless-Package-Version",
        "X-Stainless-Read-Timeout",
        "X-Stainless-Retry-Count",
        "X-Stainless-Runtime",
        "X-Stainless-Runtime-Version",
        "X-Stainless-Timeout",
    )
    for spelling in (name, name.lower())
}
"""By spelling, the name in lower case. Without `lane.request_rules.CHECKED_FIELDS`: their values are looked at."""
