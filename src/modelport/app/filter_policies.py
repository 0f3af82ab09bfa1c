"""Settings → content filter policies, in our nouns."""

from __future__ import annotations

from typing import Final

from modelport.config.content_filters import (
    BlocklistItem,
    CompletionSettings,
    ContentFilterSettings,
    HarmSettings,
    PromptSettings,
)
from modelport.config.default_filter import default_content_filter
from modelport.config.deployments import DeploymentSettings
from modelport.config.settings import Settings
from modelport.control.resources.blocklists import item_name
from modelport.core.ports.safety import BlocklistEntry
from modelport.core.safety import BUILT_IN, HARMS, Category, ContentFilterPolicy, Rule, Severity, SidePolicy

WHOLE_CHARS: Final = 10_000_000
"""More than an answer has."""


def policies_of(settings: Settings) -> dict[str, ContentFilterPolicy]:
    """Every policy by its lower-case name, built-in ones too."""
    built_in = {name.lower(): policy for name, policy in BUILT_IN.items()}
    return {**built_in, **{name.lower(): policy_of(name, given) for name, given in settings.content_filters.items()}}


def deployed_policies(settings: Settings) -> dict[str, ContentFilterPolicy]:
    """Those that some deployment has, or would have if it were made now."""
    policies = policies_of(settings)
    names = {content_filter_of(deployment, settings) for deployment in settings.deployments.values()}
    names.add(default_content_filter(settings))
    return {policies[name.lower()].name: policies[name.lower()] for name in names}


def content_filter_of(deployment: DeploymentSettings, settings: Settings) -> str:
    """The name of a deployment's policy."""
    return deployment.content_filter or default_content_filter(settings)


def policy_of(name: str, given: ContentFilterSettings) -> ContentFilterPolicy:
    """One policy in our nouns."""
    return ContentFilterPolicy(
        name=name,
        prompt=side_of(given.prompt),
        completion=side_of(given.completion),
        is_asynchronous=given.mode == "asynchronous",
        annotate=given.annotate,
        refuses_on_outage=given.on_outage == "refuse",
        filters=given.filters,
        window_chars=WHOLE_CHARS if given.window_chars == "whole" else given.window_chars,
    )


def side_of(given: PromptSettings | CompletionSettings) -> SidePolicy:
    """One of its sides."""
    rules: dict[Category, Rule] = {}
    for category in HARMS:
        harm: HarmSettings = getattr(given, category)
        if harm.at != "off":
            rules[category] = Rule(Severity[harm.at.upper()], harm.effect == "block")
    found: dict[Category, str] = {Category.PROFANITY: given.profanity}
    if isinstance(given, PromptSettings):
        found |= {Category.JAILBREAK: given.jailbreak, Category.INDIRECT_ATTACK: given.indirect_attack}
    else:
        protected = (Category.PROTECTED_MATERIAL_TEXT, Category.PROTECTED_MATERIAL_CODE)
        found |= dict.fromkeys(protected, given.protected_material)
    rules |= {category: Rule(blocks=does == "block") for category, does in found.items() if does != "off"}
    return SidePolicy(rules, {listed.lower(): listed for listed in given.blocklists})


def blocklists_of(settings: Settings) -> dict[str, tuple[BlocklistEntry, ...]]:
    """By lower-case name."""
    return {name.lower(): tuple(map(entry_of, given.items)) for name, given in settings.blocklists.items()}


def entry_of(item: BlocklistItem) -> BlocklistEntry:
    """One entry."""
    return BlocklistEntry(item_name(item.name, item.exact, item.regex), item.exact, item.regex)
