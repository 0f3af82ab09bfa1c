"""What content safety speaks of: categories, severities, verdicts, and a policy over them.

The names are Azure's: https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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


ATTACKS: Final = (Category.JAILBREAK, Category.INDIRECT_ATTACK)
"""Of prompts alone."""


class Severity(IntEnum):
    """Azure's four levels, as the numbers of Azure AI Content Safety."""

    SAFE = 0
    LOW = 2
    MEDIUM = 4
    HIGH = 6

    @property
    def word(self) -> str:
        """As the wire spells it."""
        return self.name.lower()


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


class Rule(Struct, frozen=True):
    """What a policy does about one category: from `threshold` on it blocks, or it only annotates."""

    threshold: Severity = Severity.MEDIUM
    blocks: bool = True


class SidePolicy(Struct, frozen=True):
    """What a policy says of prompts, or of completions. A category without a rule is not looked for."""

    rules: Mapping[Category, Rule] = {}
    blocklists: Mapping[str, str] = {}
    """Lower-case name → the name as it was written. A match always blocks."""

    @property
    def categories(self) -> frozenset[Category]:
        """What is looked for."""
        return frozenset(self.rules) | ({Category.CUSTOM_BLOCKLISTS} if self.blocklists else frozenset())


class ContentFilterPolicy(Struct, frozen=True, kw_only=True):
    """What is looked for in which text, and what follows from a finding."""

    name: str
    prompt: SidePolicy = SidePolicy()
    completion: SidePolicy = SidePolicy()
    is_asynchronous: bool = False
    """A streamed text passes at once; annotations and the cut follow."""
    annotate: bool = False
    """Whether unfiltered answers carry annotations on surfaces whose documented answers have none."""
    refuses_on_outage: bool = False
    filters: tuple[str, ...] = ()
    """Names of filters."""
    window_chars: int = 1000
    """The most text of a stream that is held back and looked at together."""

    @property
    def is_neutral(self) -> bool:
        """Whether it looks for nothing."""
        return not (self.filters and (self.prompt.categories or self.completion.categories))


NOTHING: Final = "Microsoft.Nill"
"""The policy that filters nothing."""
_DEFAULT_RULES: Final = dict.fromkeys(HARMS, Rule())
_PROTECTED: Final = (Category.PROTECTED_MATERIAL_TEXT, Category.PROTECTED_MATERIAL_CODE)
DEFAULT_FILTERS: Final = ("rules", "classifier", "image", "prompt_attack")
BUILT_IN: Final = {
    policy.name: policy
    for policy in (
        ContentFilterPolicy(name=NOTHING),
        ContentFilterPolicy(
            name="Microsoft.Default",
            prompt=SidePolicy(_DEFAULT_RULES),
            completion=SidePolicy(_DEFAULT_RULES),
            filters=DEFAULT_FILTERS[:3],
        ),
        ContentFilterPolicy(
            name="Microsoft.DefaultV2",
            prompt=SidePolicy({**_DEFAULT_RULES, Category.JAILBREAK: Rule()}),
            completion=SidePolicy({**_DEFAULT_RULES, **dict.fromkeys(_PROTECTED, Rule())}),
            filters=DEFAULT_FILTERS,
        ),
    )
}
"""The policies that exist without being configured, by name."""


def shortfalls(policy: ContentFilterPolicy, base: ContentFilterPolicy) -> Iterator[str]:
    """In what `policy` is less strict than `base`; nothing: it is at least as strict."""
    for side, ours, wanted in (
        (Source.PROMPT, policy.prompt, base.prompt),
        (Source.COMPLETION, policy.completion, base.completion),
    ):
        for category, rule in wanted.rules.items():
            found = ours.rules.get(category)
            if found is None:
                yield f"{side} {category} is off"
            elif found.threshold > rule.threshold:
                yield f"{side} {category} begins at {found.threshold.word}, not at {rule.threshold.word}"
            elif rule.blocks and not found.blocks:
                yield f"{side} {category} is only annotated"
        yield from (
            f"{side} lacks the blocklist {name}"
            for lower, name in wanted.blocklists.items()
            if lower not in ours.blocklists
        )
    yield from (f"the filter {name} is missing" for name in base.filters if name not in policy.filters)
    if policy.is_asynchronous and not base.is_asynchronous:
        yield "its mode is asynchronous"
    if base.refuses_on_outage and not policy.refuses_on_outage:
        yield "an outage is only annotated"
