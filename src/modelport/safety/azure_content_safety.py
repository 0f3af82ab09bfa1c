"""The filter `azure_content_safety`: Azure AI Content Safety judges, over its REST API.

`text:analyze` for the four harms, `text:shieldPrompt` for attacks; 10,000 characters at a time. Texts leave this
machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from modelport.core.catalog import Timeouts
from modelport.core.clock import Clock
from modelport.core.errors import ModelportError
from modelport.core.ports.providers import Address, Transport, UpstreamRequest
from modelport.core.ports.safety import (
    FilterOutageError,
    FilterParts,
    FilterUnavailableError,
    Question,
    Verdicts,
)
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.safety import ATTACKS, HARMS, Category, Severity, Verdict
from modelport.safety.breaker import Breaker
from modelport.safety.sentences import split_pieces

USES: Final = ("azure_content_safety",)
API_VERSION: Final = "2024-09-01"
CHARACTERS_AT_ONCE: Final = 10_000
ANSWER_BYTES: Final = 1 << 20
WIRE_NAMES: Final[Mapping[Category, str]] = {
    Category.HATE: "Hate",
    Category.SEXUAL: "Sexual",
    Category.VIOLENCE: "Violence",
    Category.SELF_HARM: "SelfHarm",
}


class CategoryAnalysis(Struct):
    """One of `categoriesAnalysis`."""

    category: str
    severity: int = 0


class Analysis(Struct, rename="camel"):
    """The answer to `text:analyze`."""

    categories_analysis: list[CategoryAnalysis]


class AttackAnalysis(Struct, rename="camel"):
    """Of a prompt or a document."""

    attack_detected: bool


class ShieldAnalysis(Struct, rename="camel"):
    """The answer to `text:shieldPrompt`."""

    user_prompt_analysis: AttackAnalysis | None = None
    documents_analysis: list[AttackAnalysis] | None = None


Answer = TypeVar("Answer")


class ContentSafetyService(Struct, frozen=True):
    """The adapter `azure_content_safety`: where the service is, and how it is reached."""

    address: Address
    key: str
    transport: Callable[[], Transport]
    clock: Clock
    timeout_seconds: float = 5.0

    def __repr__(self) -> str:
        return f"ContentSafetyService({self.address.base_url})"  # the key is for the service alone


def open_filter(parts: FilterParts) -> AzureContentSafety:
    """Raises FilterUnavailableError."""
    service: ContentSafetyService | None = parts.adapters.get("azure_content_safety")
    if service is None:
        raise FilterUnavailableError("needs `content_safety.azure` with an endpoint and a key")
    return AzureContentSafety(service)


class AzureContentSafety:
    """core.ports.safety.SafetyFilter"""

    name = "azure_content_safety"
    version = API_VERSION
    categories = frozenset((*HARMS, *ATTACKS))
    annotate_only: frozenset[Category] = frozenset()

    def __init__(self, service: ContentSafetyService) -> None:
        self._service = service
        self._breaker = Breaker(service.clock)
        self._timeouts = Timeouts(
            connect=service.timeout_seconds,
            first_event=service.timeout_seconds,
            between_events=service.timeout_seconds,
            whole=service.timeout_seconds,
        )

    def judge(self, question: Question) -> Verdicts | NeedsWaiting[Verdicts]:
        """core.ports.safety.SafetyFilter"""
        attack = Category.INDIRECT_ATTACK if question.untrusted else Category.JAILBREAK
        harms = [category for category in HARMS if category in question.categories]
        if not question.text.strip() or not (harms or attack in question.categories):
            return ()
        self._breaker.require_closed()

        async def resume() -> Verdicts:
            spans = await asyncio.to_thread(split_pieces, question.text, CHARACTERS_AT_ONCE)
            asked = []
            for start, end in spans:
                text = question.text[start:end].encode("utf-8", "replace").decode()
                if harms:
                    asked.append(self._analyze(text, harms, (start, end)))
                if attack in question.categories:
                    asked.append(self._shield(text, attack, (start, end)))
            return highest([verdict for verdicts in await asyncio.gather(*asked) for verdict in verdicts])

        return NeedsWaiting(resume)

    async def _analyze(self, text: str, harms: Sequence[Category], span: tuple[int, int]) -> list[Verdict]:
        wanted = {WIRE_NAMES[harm]: harm for harm in harms}
        body = {"text": text, "categories": list(wanted), "outputType": "FourSeverityLevels"}
        answer = await self._ask("text:analyze", body, Analysis)
        return [
            self._verdict(wanted[one.category], severity, span)
            for one in answer.categories_analysis
            if one.category in wanted and (severity := as_severity(one.severity)) is not Severity.SAFE
        ]

    async def _shield(self, text: str, attack: Category, span: tuple[int, int]) -> list[Verdict]:
        is_direct = attack is Category.JAILBREAK
        body = {"userPrompt": text} if is_direct else {"userPrompt": "", "documents": [text]}
        answer = await self._ask("text:shieldPrompt", body, ShieldAnalysis)
        judged = [answer.user_prompt_analysis] if is_direct else [*(answer.documents_analysis or ())]
        is_found = any(one is not None and one.attack_detected for one in judged)
        return [self._verdict(attack, Severity.HIGH, span)] if is_found else []

    def _verdict(self, category: Category, severity: Severity, span: tuple[int, int]) -> Verdict:
        return Verdict(category, severity, severity / Severity.HIGH, *span, self.name, self.version)

    async def _ask(self, action: str, body: Mapping[str, Any], kind: type[Answer]) -> Answer:
        """The answer of this kind. Raises FilterOutageError; the text of an error never holds what was judged."""
        request = UpstreamRequest(
            path=f"/contentsafety/{action}?api-version={API_VERSION}",
            body=msgspec.json.encode(body),
            headers=(("content-type", "application/json"), ("ocp-apim-subscription-key", self._service.key)),
        )
        try:
            async with asyncio.timeout(self._service.timeout_seconds):
                sent = self._service.transport().send(self._service.address, request, self._timeouts)
                async with sent as answer:
                    content = await answer.body(ANSWER_BYTES)
        except (ModelportError, TimeoutError) as error:
            self._breaker.failed()
            raise FilterOutageError(f"Azure AI Content Safety: {error or 'no answer in time'}") from error
        if answer.status != 200:
            self._breaker.failed()
            raise FilterOutageError(f"Azure AI Content Safety answered {answer.status}")
        self._breaker.succeeded()
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.MsgspecError as error:
            raise FilterOutageError("Azure AI Content Safety answered in a form that is not its own") from error


def as_severity(level: int) -> Severity:
    """The four levels, of 0 to 7."""
    return Severity(min(max(level, 0), 6) // 2 * 2)


def highest(verdicts: Iterable[Verdict]) -> Verdicts:
    """Of each category the most severe one."""
    found: dict[Category, Verdict] = {}
    for verdict in verdicts:
        known = found.get(verdict.category)
        if known is None or verdict.severity > known.severity:
            found[verdict.category] = verdict
    return tuple(found.values())
