"""Settings → content filters: each policy with the safety filters that it names, opened once for all that use them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct

from modelport.app.classifying import minilm_options, open_classify, open_score_images
from modelport.app.filter_policies import WHOLE_CHARS, blocklists_of, deployed_policies, policies_of
from modelport.config.content_filters import filter_module
from modelport.config.default_filter import default_content_filter
from modelport.config.faults import ConfigError, Fault, Path, dotted
from modelport.config.settings import Settings
from modelport.core.clock import SystemClock
from modelport.core.ports.filters import ContentFilter
from modelport.core.ports.providers import Address, Transport
from modelport.core.ports.safety import Ask, FilterOutageError, FilterParts, FilterUnavailableError, SafetyFilter
from modelport.engine.weights.places import image_judge_weights
from modelport.safety.azure_content_safety import ContentSafetyService
from modelport.safety.classifier import Classifier
from modelport.safety.content_filter import content_filter
from modelport.safety.guard_model import GuardModel
from modelport.safety.image import ImageJudge
from modelport.safety.prompt_attack import PromptAttack

RULES: Final = "rules"
CLOCK: Final = SystemClock()


class EngineSource:
    """The engine workers and the way out, for filters that ask elsewhere: both open only after the filters."""

    def __init__(self) -> None:
        self.workers: Callable[[], Mapping[str, Any]] = dict
        """By name."""
        self.transport: Transport | None = None
        self.ask: Ask | None = None
        """By which filters ask a deployment."""

    async def ask_deployment(
        self, deployment: str, body: Mapping[str, Any], timeout_seconds: float
    ) -> Mapping[str, Any]:
        """core.ports.safety.Ask"""
        if self.ask is None:
            raise FilterOutageError("the server is starting")
        return await self.ask(deployment, body, timeout_seconds)

    def way_out(self) -> Transport:
        """The transport. A filter is asked only once there is one."""
        assert self.transport is not None
        return self.transport


class SafetyFilters(Struct, frozen=True):
    """What judges the calls of one configuration."""

    policies: Mapping[str, ContentFilter]
    """By the name of the policy, as deployments spell it."""
    opened: Mapping[str, SafetyFilter]
    """By the name of the filter."""
    parts: FilterParts
    engines: EngineSource

    @property
    def classifies(self) -> bool:
        """Whether a worker has to run for them."""
        return any(isinstance(found, Classifier | ImageJudge | PromptAttack) for found in self.opened.values())


def no_filters() -> SafetyFilters:
    """For a process that has opened none yet."""
    return SafetyFilters({}, {}, FilterParts(), EngineSource())


def open_content_filters(settings: Settings, before: SafetyFilters) -> SafetyFilters:
    """What `before` has opened is kept where its parts are the same. Raises ConfigError."""
    policies = deployed_policies(settings)
    wanted = {name for policy in policies.values() if not policy.is_neutral for name in policy.filters}
    if settings.blocklists:
        wanted.add(RULES)  # it says which entries it cannot look for
    windows: dict[str, int] = {}
    for policy in policies.values():
        if policy.window_chars >= WHOLE_CHARS:
            continue
        for name in policy.completion.blocklists:
            windows[name] = min(policy.window_chars, windows.get(name, policy.window_chars))
    adapters = adapters_of(settings, before)
    parts = FilterParts(blocklists=blocklists_of(settings), windows=windows, adapters=adapters)
    opened = {name: kept_filter(name, parts, before) or open_filter(name, parts, settings) for name in sorted(wanted)}
    strict = settings.server.strict
    return SafetyFilters(
        {name: content_filter(policy, opened, is_strict=strict) for name, policy in policies.items()},
        opened,
        parts,
        before.engines,
    )


def adapters_of(settings: Settings, before: SafetyFilters) -> dict[str, Any]:
    """What filters may ask that runs elsewhere, by the name of its port. The classifying worker's scores are kept."""
    engines, found = before.engines, dict[str, Any]()
    options = minilm_options(settings.server.data_dir)
    if options is not None:
        kept = before.parts.adapters.get("classify")
        found["classify"] = kept or open_classify(lambda: engines.workers(), options)
        if image_judge_weights() is not None:
            kept = before.parts.adapters.get("score_images")
            found["score_images"] = kept or open_score_images(lambda: engines.workers(), options)
    if (azure := settings.content_safety.azure) is not None:
        address = Address(azure.endpoint.rstrip("/"))
        found["azure_content_safety"] = ContentSafetyService(
            address, azure.key.reveal(), engines.way_out, CLOCK, azure.timeout_seconds
        )
    if (guard := settings.content_safety.guard) is not None:
        found["guard_model"] = GuardModel(guard.deployment, guard.form, guard.timeout_seconds)
        found["ask"] = engines.ask_deployment
    return found


def kept_filter(name: str, parts: FilterParts, before: SafetyFilters) -> SafetyFilter | None:
    """The one that is open, if what it was made of is the same: what it remembers, or knows of an outage, counts on."""
    found = before.opened.get(name)
    return found if found is not None and used(name, parts) == used(name, before.parts) else None


def used(name: str, parts: FilterParts) -> FilterParts:
    """The parts that a filter is made of. Raises what `filter_module` raises."""
    uses: Collection[str] | None = getattr(filter_module(name), "USES", None)
    return parts if uses is None else parts.only(uses)


def open_filter(name: str, parts: FilterParts, settings: Settings) -> SafetyFilter:
    """Raises ConfigError that names who needs it."""
    try:
        opened: SafetyFilter = filter_module(name).open_filter(used(name, parts))
    except (ImportError, AttributeError, FilterUnavailableError) as error:
        said = str(error) if isinstance(error, FilterUnavailableError) else "is not available in this version"
        raise ConfigError([Fault("configuration", None, *fault) for fault in faults(name, said, settings)]) from error
    return opened


def faults(name: str, what: str, settings: Settings) -> Iterator[tuple[str, str]]:
    """Which deployments cannot be served without this filter."""
    policies = policies_of(settings)
    named: dict[Path, str] = {("server", "default_content_filter"): default_content_filter(settings)}
    for deployment, given in settings.deployments.items():
        if given.content_filter is not None:
            named["deployments", deployment, "content_filter"] = given.content_filter
    found = [path for path, policy in named.items() if name in policies[policy.lower()].filters]
    for path in found or [("blocklists",)]:
        yield dotted(path), f"the filter {name!r}: {what}"
