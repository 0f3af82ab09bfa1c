"""Policies over deployments: what a deployment is, what a policy demands, and what of it is violated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

from msgspec import Struct

from modelport.core.ports.control import DisallowedByPolicy, Effect, PolicyViolation
from modelport.core.safety import ContentFilterPolicy, shortfalls

AT_LEAST: Final = "content_filter_at_least"
"""The rule over content filters: it is judged again when one of them changes."""
Patterns = Mapping[str, Sequence[str]]
"""A field of `DeploymentFacts.values` → patterns with `*` and `?`."""


class DeploymentFacts(Struct, frozen=True, kw_only=True):
    """What policies look at."""

    name: str
    values: Mapping[str, Sequence[Sequence[str]]]
    """`models`, `publishers`, `formats`, `skus`, `providers`, `regions` → one entry for each thing that is judged; its
    texts are names of the same thing, and none of them says that it is not known."""
    capacity: int
    tags: Mapping[str, str]
    content_filter: ContentFilterPolicy


class Policy(Struct, frozen=True, kw_only=True):
    """One policy."""

    name: str
    allow: Patterns
    deny: Patterns
    max_capacity: int | None
    required_tags: Sequence[str]
    content_filter_at_least: ContentFilterPolicy | None
    effect: Effect


def violations(policy: Policy, facts: DeploymentFacts) -> Iterator[PolicyViolation]:
    """Every rule that the deployment does not keep."""

    def violation(rule: str, value: str, what: str) -> PolicyViolation:
        return PolicyViolation(facts.name, policy.name, policy.effect, rule, value, what)

    for field, patterns in policy.allow.items():
        for names in facts.values[field]:
            if not any(matches(name, patterns) for name in names):
                value = names[0] if names else "(not known)"
                yield violation(f"allow.{field}", value, f"{value} is not among {', '.join(patterns) or 'any'}")
    for field, patterns in policy.deny.items():
        for names in facts.values[field]:
            if (denied := next((name for name in names if matches(name, patterns)), None)) is not None:
                yield violation(f"deny.{field}", denied, f"{denied} is among {', '.join(patterns)}")
    if policy.max_capacity is not None and facts.capacity > policy.max_capacity:
        what = f"{facts.capacity} is more than {policy.max_capacity}"
        yield violation("max_capacity", str(facts.capacity), what)
    for tag in policy.required_tags:
        if not any(key.lower() == tag.lower() and value for key, value in facts.tags.items()):
            yield violation("required_tags", tag, f"the tag {tag} is missing")
    if (base := policy.content_filter_at_least) is not None and base != facts.content_filter:
        found = facts.content_filter
        if lacking := list(shortfalls(found, base)):
            yield violation(AT_LEAST, found.name, f"{found.name} is less strict than {base.name}: {'; '.join(lacking)}")


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Without regard to case."""
    return any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns)


def weakened(name: str, found: Sequence[PolicyViolation]) -> list[PolicyViolation]:
    """Those that a change of this content filter has made: deployments that have it are less strict than they must."""
    return [one for one in found if one.rule == AT_LEAST and one.value.lower() == name.lower()]


def check_policies(name: str, found: Sequence[PolicyViolation]) -> list[PolicyViolation]:
    """Those that are to be noted. Raises DisallowedByPolicy."""
    if denied := [violation for violation in found if violation.effect == "deny"]:
        raise DisallowedByPolicy(name, denied)
    return list(found)
