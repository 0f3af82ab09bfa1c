"""What the service is asked, what its answers become, and what happens when it fails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from modelport.core.catalog import Timeouts
from modelport.core.errors import UpstreamFailed
from modelport.core.ports.providers import Address, UpstreamAnswer, UpstreamRequest
from modelport.core.ports.safety import FilterOutageError, FilterParts, FilterUnavailableError, Question, Verdicts
from modelport.core.ports.stages import NeedsWaiting
from modelport.core.safety import HARMS, Category, Severity, Source
from modelport.safety import azure_content_safety
from modelport.safety.azure_content_safety import AzureContentSafety, ContentSafetyService
from modelport.safety.breaker import FAILURES, OPEN_SECONDS

KEY = "the-key-of-the-service"
EVERYTHING = frozenset((*HARMS, Category.JAILBREAK, Category.INDIRECT_ATTACK))


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


class Service:
    """A Transport to a service that finds violence in "knife", and an attack in "ignore"."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.status = 200
        self.breaks = False
        self.says: bytes | None = None

    def send(self, address: Address, request: UpstreamRequest, timeouts: Timeouts) -> Exchange:
        body = json.loads(request.body)
        self.asked.append((address.base_url + request.path, body, dict(request.headers)))
        return Exchange(self, self.says or json.dumps(answer_to(request.path, body)).encode())

    async def close(self) -> None: ...


def answer_to(path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    if "shieldPrompt" in path:
        documents = [{"attackDetected": "ignore" in text} for text in body.get("documents", [])]
        return {
            "userPromptAnalysis": {"attackDetected": "ignore" in body["userPrompt"]},
            "documentsAnalysis": documents,
        }
    levels = {"Violence": 4 if "knife" in body["text"] else 0, "Hate": 2 if "they" in body["text"] else 0}
    return {
        "blocklistsMatch": [],
        "categoriesAnalysis": [{"category": name, "severity": levels.get(name, 0)} for name in body["categories"]],
    }


class Exchange:
    headers: Mapping[str, str] = {}

    def __init__(self, service: Service, content: bytes) -> None:
        self.service, self.content, self.status = service, content, service.status

    async def __aenter__(self) -> UpstreamAnswer:
        if self.service.breaks:
            raise UpstreamFailed("The upstream could not be reached.")
        return self  # type: ignore[return-value]

    async def __aexit__(self, *exc: object) -> None: ...

    async def body(self, limit: int) -> bytes:
        return self.content


class Fixture:
    def __init__(self) -> None:
        self.service, self.clock = Service(), Clock()
        place = Address("https://contoso.cognitiveservices.azure.com")
        self.filter = AzureContentSafety(ContentSafetyService(place, KEY, lambda: self.service, self.clock))

    async def judged(self, text: str, *, untrusted: bool = False, wanted: frozenset[Category] = EVERYTHING) -> Verdicts:
        found = self.filter.judge(Question(text, Source.PROMPT, wanted, untrusted))
        if not isinstance(found, NeedsWaiting):
            return found
        verdicts = await found.resume()
        assert isinstance(verdicts, tuple)
        return verdicts


@pytest.fixture
def azure() -> Fixture:
    return Fixture()


async def test_both_routes_are_asked_as_the_service_documents_them(azure: Fixture) -> None:
    assert await azure.judged("peace") == ()
    (analyze, body, headers), (shield, prompt, _) = azure.service.asked
    assert analyze == "https://contoso.cognitiveservices.azure.com/contentsafety/text:analyze?api-version=2024-09-01"
    assert body == {
        "text": "peace",
        "categories": ["Hate", "Sexual", "Violence", "SelfHarm"],
        "outputType": "FourSeverityLevels",
    }
    assert headers["ocp-apim-subscription-key"] == KEY
    assert shield.endswith("/contentsafety/text:shieldPrompt?api-version=2024-09-01")
    assert prompt == {"userPrompt": "peace"}
    assert KEY not in repr(azure.filter._service)


async def test_severities_and_attacks_become_verdicts(azure: Fixture) -> None:
    found = await azure.judged("they took a knife, ignore that")
    assert {(one.category, one.severity) for one in found} == {
        (Category.HATE, Severity.LOW),
        (Category.VIOLENCE, Severity.MEDIUM),
        (Category.JAILBREAK, Severity.HIGH),
    }
    (attack,) = await azure.judged("ignore it", untrusted=True, wanted=frozenset({Category.INDIRECT_ATTACK}))
    assert attack.category is Category.INDIRECT_ATTACK
    assert azure.service.asked[-1][1] == {"userPrompt": "", "documents": ["ignore it"]}


async def test_only_what_is_wanted_is_asked(azure: Fixture) -> None:
    await azure.judged("text", wanted=frozenset({Category.SEXUAL}))
    assert [asked[1].get("categories") for asked in azure.service.asked] == [["Sexual"]]
    assert await azure.judged(" \n") == await azure.judged("text", wanted=frozenset({Category.PROFANITY})) == ()
    assert len(azure.service.asked) == 1


async def test_a_long_text_goes_in_parts_and_the_most_severe_counts(azure: Fixture) -> None:
    text = "They sleep. " * 1000 + "He has a knife. " + "They wake. " * 1000
    (violence,) = await azure.judged(text, wanted=frozenset(HARMS))
    assert all(len(body["text"]) <= 10_000 for _, body, _ in azure.service.asked)
    assert violence.severity is Severity.MEDIUM
    assert "knife" in text[violence.start : violence.end]


@pytest.mark.parametrize("says", [b"<html>", b'{"categoriesAnalysis": 1}', b"[]"])
async def test_an_answer_in_another_form_is_an_outage(azure: Fixture, says: bytes) -> None:
    azure.service.says = says
    with pytest.raises(FilterOutageError):
        await azure.judged("text", wanted=frozenset(HARMS))


async def test_a_service_that_keeps_failing_is_left_alone_for_a_while(azure: Fixture) -> None:
    harms = frozenset(HARMS)
    azure.service.status = 429
    with pytest.raises(FilterOutageError, match="429"):
        await azure.judged("text", wanted=harms)
    azure.service.breaks = True
    for _ in range(FAILURES - 1):
        with pytest.raises(FilterOutageError):
            await azure.judged("secret words", wanted=harms)
    asked = len(azure.service.asked)
    with pytest.raises(FilterOutageError, match="keeps failing"):
        await azure.judged("text", wanted=harms)
    assert len(azure.service.asked) == asked
    azure.clock.seconds += OPEN_SECONDS
    azure.service.status, azure.service.breaks = 200, False
    assert len(await azure.judged("knife", wanted=harms)) == 1
    assert len(await azure.judged("knife", wanted=harms)) == 1


async def test_an_outage_never_says_what_was_judged(azure: Fixture) -> None:
    azure.service.breaks = True
    with pytest.raises(FilterOutageError) as caught:
        await azure.judged("secret words", wanted=frozenset(HARMS))
    assert "secret words" not in str(caught.value) and KEY not in str(caught.value)


def test_without_an_endpoint_the_filter_says_what_is_missing() -> None:
    with pytest.raises(FilterUnavailableError, match=r"content_safety\.azure"):
        azure_content_safety.open_filter(FilterParts())
