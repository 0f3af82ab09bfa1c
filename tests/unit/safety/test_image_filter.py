"""Pictures of prompts: which are judged, for what, and what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest

from modelport.core.content import AudioPart, ImagePart, ImageUrl, InputAudio, Message, TextPart
from modelport.core.errors import ContentFiltered, InvalidParameters, Unavailable
from modelport.core.identity import ANONYMOUS
from modelport.core.ports.filters import Annotations
from modelport.core.ports.safety import FilterOutageError, FilterParts, FilterUnavailableError, ImageFilter
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.requests import ChatRequest, ImageEmbeddingsRequest, ImageInput, Request
from modelport.core.safety import HARMS, Category, ContentFilterPolicy, Rule, Severity, SidePolicy
from modelport.safety.content_filter import content_filter
from modelport.safety.image import CHARACTERS_AT_MOST, ImageJudge, open_filter
from modelport.safety.judging import IMAGES_AT_MOST
from modelport.safety.remembering import HASHED_AT_ONCE, KEPT_IMAGES, RememberedImages
from word_filter import ColourFilter, WordFilter

SAID = {"filtered": False, "detected": True}
SAFE = {"filtered": False, "severity": "safe"}
ALL = ContentFilterPolicy(name="all", prompt=SidePolicy(dict.fromkeys(HARMS, Rule())), filters=("classifier", "image"))
ALONE = ContentFilterPolicy(name="one", prompt=SidePolicy({Category.SEXUAL: Rule()}), filters=("image",))
GREEN, RED, TORN, DOWN = (f"data:image/png;base64,{word}" for word in ("green", "red", "torn", "outage"))
REMOTE = "https://example.com/red.png"


def chat(*urls: str, text: str = "hello") -> ChatRequest:
    parts = (TextPart(text), *(ImagePart(ImageUrl(url)) for url in urls))
    return ChatRequest(messages=(Message("user", parts),))


async def judged(request: Request, policy: ContentFilterPolicy = ALL, found: Any = None) -> Annotations | Refusal:
    filters = {"classifier": WordFilter(), "image": found or ColourFilter()}
    stage = content_filter(policy, filters).prompt
    assert stage is not None
    outcome = stage(policy.name, ANONYMOUS, request)
    return await outcome.resume() if isinstance(outcome, NeedsWaiting) else outcome


async def results(request: Request, policy: ContentFilterPolicy = ALL, found: Any = None) -> dict[str, Any]:
    (annotation,) = await judged(request, policy, found)  # type: ignore[misc]
    return dict(annotation.results)


@pytest.mark.check(107)
@pytest.mark.parametrize(
    "request_", [chat(GREEN, RED), ImageEmbeddingsRequest(input=(ImageInput(GREEN), ImageInput(RED)))]
)
async def test_a_sexual_picture_blocks_a_prompt(request_: Request) -> None:
    outcome = await judged(request_)
    assert isinstance(outcome, Refusal)
    assert isinstance(outcome.error, ContentFiltered)
    assert outcome.error.results["sexual"] == {"filtered": True, "severity": "high"}


async def test_of_a_picture_that_was_looked_at_is_said_that_it_was_only_partly() -> None:
    assert await results(chat(GREEN)) == {
        "hate": SAFE,
        "violence": SAFE,
        "image_partly_scanned": SAID,
    }


@pytest.mark.parametrize("url", [REMOTE, TORN])
async def test_of_another_picture_is_said_that_it_was_not(url: str) -> None:
    found = await results(chat(url))
    assert found["image_not_scanned"] == SAID
    assert "sexual" not in found
    assert "image_partly_scanned" in await results(chat(url, GREEN))
    assert "image_not_scanned" in await results(chat(url, GREEN))


async def test_nothing_is_said_to_be_safe_of_texts_that_nothing_judges() -> None:
    assert await results(chat(), ALONE) == {}
    assert await results(chat(GREEN), ALONE) == {}
    outcome = await judged(chat(RED), ALONE)
    assert isinstance(outcome, Refusal)
    assert isinstance(outcome.error, ContentFiltered)
    assert outcome.error.results == {"sexual": {"filtered": True, "severity": "high"}}


async def test_where_nothing_is_looked_for_pictures_are_not_scanned() -> None:
    policy = ContentFilterPolicy(name="p", prompt=SidePolicy({Category.HATE: Rule()}), filters=ALL.filters)
    assert await results(chat(RED), policy) == {"hate": SAFE, "image_not_scanned": SAID}


async def test_sounds_are_not_scanned() -> None:
    parts = (ImagePart(ImageUrl(GREEN)), AudioPart(InputAudio("AAAA", "wav")))
    found = await results(ChatRequest(messages=(Message("user", parts),)))
    assert found["audio_not_scanned"] == SAID


@pytest.mark.check(113)
async def test_an_outage_is_said_or_refused_and_hides_no_block() -> None:
    found = await results(chat(DOWN))
    assert found["error"]["code"] == "content_filter_error"
    assert found["image_not_scanned"] == SAID
    assert "sexual" not in found
    assert isinstance(await judged(chat(DOWN, RED)), Refusal)
    strict = ContentFilterPolicy(name="s", prompt=ALL.prompt, filters=ALL.filters, refuses_on_outage=True)
    outcome = await judged(chat(DOWN), strict)
    assert isinstance(outcome, Refusal)
    assert isinstance(outcome.error, Unavailable)


async def test_more_pictures_than_can_be_judged_are_refused() -> None:
    outcome = await judged(chat(*[GREEN] * (IMAGES_AT_MOST + 1)))
    assert isinstance(outcome, Refusal)
    assert isinstance(outcome.error, InvalidParameters)
    elsewhere = await results(chat(*[REMOTE] * (IMAGES_AT_MOST + 1)))
    assert elsewhere["image_not_scanned"] == SAID
    assert "error" not in elsewhere
    vectors = ImageEmbeddingsRequest(input=(ImageInput(GREEN),) * (IMAGES_AT_MOST + 1))
    assert (await results(vectors))["error"]["code"] == "content_filter_error"
    assert isinstance(await judged(chat(*[GREEN] * (IMAGES_AT_MOST - 1), RED)), Refusal)


async def test_a_long_text_beside_it_changes_nothing() -> None:
    assert isinstance(await judged(chat(RED, text="hello there. " * 1000)), Refusal)


async def scored(image: str) -> float | None:
    """By what stands after the comma; `none`: undecodable."""
    word = image.partition(",")[2]
    if word == "down":
        raise FilterOutageError("down")
    return None if word == "none" else float(word)


@pytest.mark.parametrize(
    ("score", "severity"),
    [(0.05, None), (0.79, None), (0.8, Severity.LOW), (0.9, Severity.MEDIUM), (0.98, Severity.HIGH)],
)
async def test_scores_become_severities(score: float, severity: Severity | None) -> None:
    outcome = ImageJudge(scored).judge_image(f"DATA:image/png;base64,{score}")
    assert outcome is not None
    found = await outcome.resume()
    assert isinstance(found, tuple)
    assert [one.severity for one in found] == ([] if severity is None else [severity])


async def test_from_medium_on_the_picture_blocks() -> None:
    assert "sexual" in await results(chat("data:,0.85"), found=ImageJudge(scored))
    assert isinstance(await judged(chat("data:,0.95"), found=ImageJudge(scored)), Refusal)
    assert "image_not_scanned" in await results(chat("data:,none"), found=ImageJudge(scored))
    assert "error" in await results(chat("data:,down"), found=ImageJudge(scored))


@pytest.mark.parametrize("url", [REMOTE, "data:" + "A" * CHARACTERS_AT_MOST, "data:\udcff", ""])
def test_what_is_not_looked_at(url: str) -> None:
    assert ImageJudge(scored).judge_image(url) is None


def test_it_opens_without_its_model_and_looks_at_nothing() -> None:
    opened = open_filter(FilterParts(adapters={"classify": object()}))
    assert isinstance(opened, ImageFilter)
    assert opened.judge_image(GREEN) is None
    with pytest.raises(FilterUnavailableError, match=r"modelport\[local\]"):
        open_filter(FilterParts())


async def test_a_picture_is_judged_once_and_an_outage_is_forgotten() -> None:
    asked: list[str] = []

    async def score(image: str) -> float | None:
        asked.append(image[-9:])
        return await scored(image)

    remembered = RememberedImages(score)
    large = f"data:{'a' * HASHED_AT_ONCE},0.5"
    for _ in range(2):
        assert [await remembered(url) for url in ("data:,0.95", "data:,none", large)] == [0.95, None, 0.5]
        with pytest.raises(FilterOutageError):
            await remembered("data:,down")
    assert asked == ["ata:,0.95", "ata:,none", large[-9:], "ata:,down", "ata:,down"]


async def test_the_oldest_pictures_are_forgotten() -> None:
    asked: list[str] = []

    async def score(image: str) -> float | None:
        asked.append(image)
        return 0.5

    remembered = RememberedImages(score)
    for number in (*range(KEPT_IMAGES + 1), KEPT_IMAGES, 0):
        await remembered(f"data:,{number}")
    assert asked[-2:] == [f"data:,{KEPT_IMAGES}", "data:,0"]
