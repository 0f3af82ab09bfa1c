"""Keys: callers' pairs, made here, shown once, and kept as hashes."""

from __future__ import annotations

from typing import Final

from modelport.control.resources.rules import Rules

SLOTS: Final = ("key1", "key2")

RULES: Final = Rules(
    kind="keys",
    singular="key",
    description="Keys for inference, limited to deployments and operations. The values are made by the server.",
    has_secrets=True,
)
