"""The part of the vocabulary that says what may be said: `content_filters.NAME` and `blocklists.NAME`."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from modelport.config.secrets import Secret
from modelport.config.section import Name, Pattern, Section, Url, Word, at_most, refuse

Level = Literal["off", "low", "medium", "high"]
Shield = Literal["off", "annotate", "block"]
FILTERS: Final = ("rules", "classifier", "image", "prompt_attack", "guard_model", "azure_content_safety")
"""The filters that come with the package: modules of `modelport.safety`."""
GROUP: Final = "modelport.safety"
"""Entry points of filters that are installed beside it."""


def known_filters() -> tuple[str, ...]:
    """Every name that `filters` may hold."""
    return (*FILTERS, *(point.name for point in entry_points(group=GROUP)))


def filter_module(name: str) -> Any:
    """The module of one of them: ours by name, else an installed plug-in's. Raises ImportError for one that is not
    here, AttributeError for a plug-in that is broken."""
    if name in FILTERS:
        return importlib.import_module(f"{GROUP}.{name}")
    return next(iter(entry_points(group=GROUP, name=name))).load()


class AzureContentSafetySettings(Section):
    """The service Azure AI Content Safety, for the filter `azure_content_safety`."""

    endpoint: Url
    """The resource's own, such as `https://NAME.cognitiveservices.azure.com`."""
    key: Secret
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    """For one request; then the policy's `on_outage` decides."""


class GuardModelSettings(Section):
    """The model that the filter `guard_model` asks."""

    deployment: Name
    """A chat deployment. The caller `content-filter` asks it: each call has a record of its own and is not filtered."""
    form: Literal["llama_guard", "shield_gemma", "json"] = "json"
    """How it is asked: as Llama Guard 3 or 4, as ShieldGemma, or any chat model for an object of four severities."""
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 20.0


class SafetySettings(Section):
    """What filters ask that runs elsewhere."""

    azure: AzureContentSafetySettings | None = None
    guard: GuardModelSettings | None = None


class HarmSettings(Section):
    """What is done about one harm."""

    at: Level = "medium"
    """The severity from which it is filtered; `off`: not looked for."""
    effect: Literal["annotate", "block"] = "block"


def _spelled_out(value: Any) -> Any:
    """`hate: low` is short for `hate: {at: low}`; YAML reads a bare `off` as false."""
    if value is False:
        return {"at": "off"}
    return {"at": value} if isinstance(value, str) else value


def _unquoted(value: Any) -> Any:
    return "off" if value is False else value


Harm = Annotated[HarmSettings, BeforeValidator(_spelled_out)]
Found = Annotated[Shield, BeforeValidator(_unquoted)]
USUAL = HarmSettings.model_construct()


class SideSettings(Section):
    """What is looked for in one of the two texts. A harm is a severity, or `{at: medium, effect: annotate}`."""

    hate: Harm = USUAL
    sexual: Harm = USUAL
    violence: Harm = USUAL
    self_harm: Harm = USUAL
    profanity: Found = "off"
    blocklists: tuple[Name, ...] = ()
    """Names from `blocklists`; a match always blocks."""


class PromptSettings(SideSettings):
    """The same for prompts, where attacks are looked for too."""

    jailbreak: Found = "block"
    indirect_attack: Found = "off"
    """Instructions in the results and descriptions of tools."""


class CompletionSettings(SideSettings):
    """The same for completions, which may repeat what others own."""

    protected_material: Found = "off"
    """Known text or code, where a filter can recognise it."""


class ContentFilterSettings(Section):
    """A content filter policy."""

    prompt: PromptSettings = PromptSettings.model_construct()
    completion: CompletionSettings = CompletionSettings.model_construct()
    annotate: bool = False
    """Whether answers carry annotations also on `/models` and the root, where nothing was filtered."""
    mode: Literal["blocking", "asynchronous"] = "blocking"
    """`asynchronous`: streams are not held back; annotations and the cut follow within 1,000 characters."""
    on_outage: Literal["annotate", "refuse"] = "annotate"
    """What happens when a filter does not answer."""
    filters: tuple[Word, ...] = ("rules", "classifier", "image", "prompt_attack")
    """Who looks: `rules`, `classifier`, `image`, `prompt_attack`, `guard_model`, `azure_content_safety`."""
    window_chars: Literal["whole"] | Annotated[int, Field(ge=64, le=100_000)] = 1000
    """The most text of a stream that is held back and looked at together; `whole`: all of an answer, which expressions
    without a bound need."""


class BlocklistItem(Section):
    """One entry: an exact text or a regular expression."""

    name: Name | None = None
    """The name that Azure's management API knows it by; absent: one that follows from the text."""
    exact: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    """Text that is looked for."""
    regex: Annotated[Pattern, Field(min_length=1, max_length=1000)] | None = None
    """A regular expression of RE2, without regard to case."""
    description: Annotated[str, Field(max_length=1024)] | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> BlocklistItem:
        if (self.exact is None) == (self.regex is None):
            raise refuse("needs exact or regex, and only one of them")
        return self


Blocklist = Annotated[tuple[BlocklistItem, ...], AfterValidator(at_most(10_000, "entries"))]


class BlocklistSettings(Section):
    """A blocklist; in the file, a list is short for its `items`."""

    description: Annotated[str, Field(max_length=1024)] | None = None
    items: Blocklist = ()


def _items(value: Any) -> Any:
    return {"items": value} if isinstance(value, list | tuple) else value


ListedBlocklist = Annotated[BlocklistSettings, BeforeValidator(_items)]
