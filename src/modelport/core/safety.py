"""What content safety speaks of: categories, severities, verdicts, and a policy over them.

The names are Azure's: https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final

from msgspec import Struct


class Category(StrEnum):
    """What a filter looks for; the values are the wire's."""

    HATE = "hate"
    SEXUAL = "sexual"
    VIOLENCE = "violence"
    SELF_HARM = "self_harm"
    JAILBREAK = "jailbreak"
    INDIRECT_ATTACK = "indirect_attack"
    PROFANITY = "profanity"
    PROTECTED_MATERIAL_TEXT = "protected_material_text"
    PROTECTED_MATERIAL_CODE = "protected_material_code"
    CUSTOM_BLOCKLISTS = "custom_blocklists"


HARMS: Final = (Category.HATE, Category.SEXUAL, Category.VIOLENCE, Category.SELF_HARM)
"""Those that have a severity; the others are found or not."""


class Severity(IntEnum):
    """Azure's four levels, as the numbers of Azure AI Content Safety."""

    SAFE = 0
    LOW = 2
    MEDIUM = 4
    HIGH = 6


class Source(StrEnum):
    """Whose text it is: the caller's, or the model's."""

    PROMPT = "prompt"
    COMPLETION = "completion"


class Verdict(Struct, frozen=True):
    """What one filter says of one text. A category without a verdict was judged safe, or was not judged.

    `score`: 0 to 1, how sure the filter is. `start`, `end`: the span in the text as it came, in code points; the whole
    text where it was judged as one. `entry`: the id of an entry of `blocklist`.
    """

    category: Category
    severity: Severity
    score: float
    start: int
    end: int
    filter: str
    version: str
    blocklist: str | None = None
    entry: str | None = None
