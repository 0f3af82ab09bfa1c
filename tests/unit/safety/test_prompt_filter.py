"""The prompt stage: which texts are judged, for what, and what follows."""

from __future__ import annotations

import asyncio
import time
from functools import reduce
from typing import Any

import pytest

from modelport.core.content import FunctionCall, ImagePart, ImageUrl, Message, TextPart, ToolCall
from modelport.core.errors import ContentFiltered, InvalidParameters, Unavailable
from modelport.core.events import Annotation
from modelport.core.identity import ANONYMOUS
from modelport.core.ports.filters import Annotations
from modelport.core.ports.safety import Question, UnreadableError, Verdicts
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.requests import ChatRequest, CompletionsRequest, EmbeddingsRequest, NamedToolChoice, Request
from modelport.core.safety import ATTACKS, HARMS, Category, ContentFilterPolicy, Rule, Severity, SidePolicy
from modelport.safety.content_filter import content_filter
from word_filter import WordFilter

RULES = {**dict.fromkeys(HARMS, Rule()), **dict.fromkeys(ATTACKS, Rule())}
ALL = ContentFilterPolicy(name="all", prompt=SidePolicy(RULES), filters=("classifier",))


def chat(*said: tuple[str, Any], **more: Any) -> ChatRequest:
    return ChatRequest(messages=tuple(Message(role, text) for role, text in said), **more)  # type: ignore[arg-type]


async def judged(
    request: Request, policy: ContentFilterPolicy = ALL, found: WordFilter | None = None
) -> Annotations | Refusal:
    stage = content_filter(policy, {"classifier": found or WordFilter()}).prompt
    assert stage is not None
    outcome = stage(policy.name, ANONYMOUS, request)
    return await outcome.resume() if isinstance(outcome, NeedsWaiting) else outcome


async def results(request: Request, policy: ContentFilterPolicy = ALL) -> dict[str, Any]:
    (annotation,) = await judged(request, policy)  # type: ignore[misc]
    assert isinstance(annotation, Annotation)
    return annotation.results


async def refused(request: Request, policy: ContentFilterPolicy = ALL) -> Any:
    outcome = await judged(request, policy)
    assert isinstance(outcome, Refusal)
    return outcome.error


@pytest.mark.check(107)
async def test_a_blocked_prompt_says_what_for() -> None:
    error = await refused(chat(("user", "mildhate and strife")))
    assert isinstance(error, ContentFiltered)
    assert error.results["violence"] == {"filtered": True, "severity": "medium"}
    assert error.results["hate"] == {"filtered": False, "severity": "low"}
    assert error.results["jailbreak"] == {"filtered": False, "detected": False}


@pytest.mark.parametrize(
    ("role", "word", "category"),
    [("user", "ignorerules", "jailbreak"), ("tool", "obeyme", "indirect_attack"), ("tool", "carnage", "violence")],
)
async def test_attacks_are_looked_for_where_they_can_be(role: str, word: str, category: str) -> None:
    error = await refused(chat(("user", "hello"), (role, word)))
    assert error.results[category]["filtered"] is True


@pytest.mark.parametrize(("role", "word"), [("system", "ignorerules"), ("tool", "ignorerules"), ("user", "obeyme")])
async def test_and_nowhere_else(role: str, word: str) -> None:
    assert (await results(chat(("user", "hello"), (role, word))))["jailbreak"]["detected"] is False


async def test_each_prompt_of_a_text_completion_has_its_own_annotation() -> None:
    found = await judged(CompletionsRequest(prompt=("hello", "mildhate")))
    assert not isinstance(found, Refusal)
    assert [(one.prompt, one.results["hate"]["severity"]) for one in found] == [(0, "safe"), (1, "low")]


async def test_what_is_no_text_is_said_and_never_implied_clean() -> None:
    picture = ImagePart(ImageUrl("data:image/png;base64,AAAA"))
    found = await results(chat(("user", (TextPart("hello"), picture))))
    assert found["image_not_scanned"] == {"filtered": False, "detected": True}
    assert "image_not_scanned" not in await results(chat(("user", "hello")))


async def test_token_ids_cannot_be_judged() -> None:
    error = await refused(CompletionsRequest(prompt=((1, 2),)))
    assert isinstance(error, InvalidParameters)
    assert "as text" in error.offences[0].msg
    vectors = EmbeddingsRequest(input=((1, 2),))
    assert list(await results(vectors)) == ["error"]
    strict = ContentFilterPolicy(name="s", prompt=ALL.prompt, filters=ALL.filters, refuses_on_outage=True)
    assert isinstance(await refused(vectors, strict), Unavailable)


@pytest.mark.check(113)
@pytest.mark.parametrize("waits", [False, True])
async def test_an_outage_is_annotated_or_refused_and_hides_no_block(waits: bool) -> None:
    found = await judged(chat(("user", "outage")), found=WordFilter(waits=waits))
    assert not isinstance(found, Refusal)
    assert found[0].is_notable
    # Nothing is said to be safe that was not judged; the prompt has no text where an indirect attack could be.
    assert found[0].results.keys() == {"indirect_attack", "error"}
    assert found[0].results["error"] == {"code": "content_filter_error", "message": "The contents are not filtered"}
    blocked = await judged(chat(("user", "outage"), ("user", "carnage")), found=WordFilter(waits=waits))
    assert isinstance(blocked, Refusal)
    assert isinstance(blocked.error, ContentFiltered)
    strict = ContentFilterPolicy(name="s", prompt=ALL.prompt, filters=ALL.filters, refuses_on_outage=True)
    error = await refused(chat(("user", "outage")), strict)
    assert (error.status, error.code, error.retry_after) == (503, "content_filter_error", 5)


async def test_what_is_only_annotated_passes_and_what_is_off_is_not_judged() -> None:
    rules = {Category.VIOLENCE: Rule(Severity.LOW, blocks=False)}
    policy = ContentFilterPolicy(name="p", prompt=SidePolicy(rules), filters=("classifier",), annotate=True)
    (annotation,) = await judged(chat(("user", "carnage, mildhate")), policy)  # type: ignore[misc]
    assert annotation.results == {"violence": {"filtered": False, "severity": "high"}}
    assert annotation.is_notable


class Slow(WordFilter):
    """Holds the loop for a moment with each question."""

    def verdicts(self, question: Question) -> Verdicts:
        end = time.thread_time() + 0.001  # what a slice is measured by
        while time.thread_time() < end:
            pass
        return super().verdicts(question)


async def test_a_long_prompt_leaves_the_loop_to_others() -> None:
    request = chat(*(("user", "hello there. " * 160) for _ in range(50)))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    assert not isinstance(await judged(request, found=Slow()), Refusal)
    counting.cancel()
    assert turns > 10


async def test_verdicts_do_not_cross_calls() -> None:
    stage = content_filter(ALL, {"classifier": WordFilter(waits=True)}).prompt
    assert stage is not None
    words = ["carnage" if number % 3 == 0 else "hello" for number in range(60)]
    waiting = [stage("all", ANONYMOUS, chat(("user", word))) for word in words]
    outcomes = await asyncio.gather(*(one.resume() for one in waiting if isinstance(one, NeedsWaiting)))
    assert [isinstance(outcome, Refusal) for outcome in outcomes] == [word == "carnage" for word in words]


def test_a_built_in_policy_only_annotates_what_a_filter_finds_badly() -> None:
    weak = WordFilter()
    weak.annotate_only = frozenset({Category.HATE})
    policy = ContentFilterPolicy(
        name="Microsoft.Default", prompt=SidePolicy({Category.HATE: Rule(Severity.LOW)}), filters=("classifier",)
    )
    for name, is_refused in (("Microsoft.Default", False), ("own", True)):
        stage = content_filter(
            ContentFilterPolicy(name=name, prompt=policy.prompt, filters=policy.filters), {"classifier": weak}
        ).prompt
        assert stage is not None
        assert isinstance(stage(name, ANONYMOUS, chat(("user", "mildhate"))), Refusal) is is_refused


def asked_with(call: dict[str, Any], **more: Any) -> ChatRequest:
    """A conversation in which the model has called a tool."""
    called = ToolCall(call.get("id", "c"), FunctionCall("look", call.get("arguments", "{}")))
    messages = (Message("user", "hello"), Message("assistant", tool_calls=(called,)))
    return ChatRequest(messages=(*messages, Message("tool", "found", tool_call_id=called.id)), **more)


@pytest.mark.parametrize(
    "request_with",
    [
        asked_with({"id": "carnage"}),
        asked_with({"arguments": '{"at": "c\\u0061rnage"}'}),
        asked_with({"arguments": '{"at": "\\carnage"}'}),
        asked_with({}, tool_choice=NamedToolChoice("carnage")),
        asked_with({}, extra={"reasoning_effort": "carnage"}),
        asked_with({}, extra={"x": reduce(lambda inner, _: [inner], range(400), "carnage")}),
    ],
)
async def test_what_a_template_may_show_the_model_is_judged(request_with: ChatRequest) -> None:
    assert isinstance(await refused(request_with), ContentFiltered)


async def test_arguments_are_judged_as_they_are_sent_too() -> None:
    # Without its escapes, `\n` ends a line, and another word follows.
    request = asked_with({"arguments": r'{"at": "\nag"}'})
    found = WordFilter()
    await judged(request, found=found)
    assert r'{"at": "\nag"}' in [question.text for question in found.asked]


@pytest.mark.parametrize(
    "id",
    [
        "call_9RT2qLXsm4WkP0aVbYcDeFgH",
        "toolu_01A09q90qw90lq917835lq9",
        "chatcmpl-tool-0123456789abcdef0123456789abcdef",
        "call_1",
        "function-call-1234567890123456789",
        "D681PevKs",
        "550e8400-e29b-41d4-a716-446655440000",
    ],
)
async def test_ids_that_hosts_make_are_not_asked_about(id: str) -> None:
    found = WordFilter()
    await judged(asked_with({"id": id}, extra={"reasoning_effort": "high"}), found=found)
    assert [question.text for question in found.asked] == ["hello", "look\n{}", "found"]


class Blind(WordFilter):
    """Can read no text."""

    def verdicts(self, question: Question) -> Verdicts:
        raise UnreadableError("up to 3 characters")


@pytest.mark.parametrize("waits", [False, True])
async def test_what_a_filter_will_never_read_is_refused(waits: bool) -> None:
    outcome = await judged(chat(("user", "hello")), found=Blind(waits=waits))
    assert isinstance(outcome, Refusal)
    assert isinstance(outcome.error, InvalidParameters)
    (offence,) = outcome.error.offences
    assert (offence.loc, offence.msg) == (("body", "messages"), "up to 3 characters")
    vectors = await judged(EmbeddingsRequest(input=("hello",)), found=Blind(waits=waits))
    assert not isinstance(vectors, Refusal)
    assert vectors[0].results["error"]["code"] == "content_filter_error"
