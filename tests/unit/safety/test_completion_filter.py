"""The completion stage: what leaves of a stream, in which pieces, and what is said of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.core.content import Message
from modelport.core.errors import Unavailable
from modelport.core.events import (
    Annotation,
    Answered,
    ChoiceFinished,
    Event,
    ExtraFields,
    FinishReason,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
)
from modelport.core.identity import ANONYMOUS
from modelport.core.ports.filters import CompletionFilter, Cut
from modelport.core.ports.safety import BlocklistEntry, FilterParts, Question
from modelport.core.ports.stages import NeedsWaiting, Refusal
from modelport.core.requests import ChatRequest, CompletionsRequest, Request
from modelport.core.safety import HARMS, Category, ContentFilterPolicy, Rule, Severity, SidePolicy, Source
from modelport.safety.argument_text import ArgumentText, undone
from modelport.safety.content_filter import content_filter
from modelport.safety.further import FieldText, Further
from modelport.safety.pieces import complete_sentences
from modelport.safety.rules import open_filter
from word_filter import WordFilter

ENTRIES = ("bomb", "secret plan", "ab a")
LISTS = {"house": tuple(BlocklistEntry(text, exact=text) for text in ENTRIES)}
RULES = open_filter(FilterParts(blocklists=LISTS))
MANY = tuple(BlocklistEntry(f"n{number}", regex=rf"item{number} [a-z]{{40}}") for number in range(60))
LARGE = open_filter(FilterParts(blocklists={"house": (BlocklistEntry("plan", regex="secret plan"), *MANY)}))
"""Expressions that are looked for in a thread, even in short texts."""
ASKED = ChatRequest(messages=(Message("user", "Hello there."),), stream=True)
STOP = ChoiceFinished(FinishReason.STOP)
CUT = ChoiceFinished(FinishReason.CONTENT_FILTER)
HARMFUL = dict.fromkeys(HARMS, Rule())


def policy(*filters: str, lists: bool = True, **given: Any) -> ContentFilterPolicy:
    side = SidePolicy(given.pop("rules", HARMFUL), {"house": "house"} if lists else {})
    return ContentFilterPolicy(name="tested", completion=side, prompt=side, filters=filters, **given)


def opened(
    of: ContentFilterPolicy, request: Request = ASKED, *, waits: bool = False, strict: bool = False, rules: Any = RULES
) -> Any:
    filters = {"rules": rules, "classifier": WordFilter(waits=waits)}
    made = content_filter(of, filters, is_strict=strict).completion
    assert made is not None
    return made(of.name, ANONYMOUS, request)


async def passed(stage: CompletionFilter, batches: Sequence[list[Event]]) -> tuple[list[list[Event]], bool]:
    """What leaves after each batch and at the end, and whether the answer was cut."""
    left: list[list[Event]] = []
    for step in [*([lambda batch=batch: stage.feed(batch) for batch in batches]), stage.end]:
        outcome = step()
        if isinstance(outcome, NeedsWaiting):
            outcome = await outcome.resume()
        assert not isinstance(outcome, Refusal)
        left.append(outcome.events if isinstance(outcome, Cut) else outcome)
        if isinstance(outcome, Cut):
            return left, True
    return left, False


def said(events: Sequence[Event], kind: type = TextDelta, choice: int = 0) -> str:
    return "".join(
        event.arguments if isinstance(event, ToolCallDelta) else event.text  # type: ignore[attr-defined]
        for event in events
        if isinstance(event, kind) and event.choice == choice  # type: ignore[attr-defined]
    )


def flat(left: Sequence[Sequence[Event]]) -> list[Event]:
    return [event for events in left for event in events]


# --- blocking --------------------------------------------------------------------------------------------------------

TEXTS = st.lists(
    st.sampled_from(
        ["bomb", "secret", " ", "plan", "b", "o", "m", "ab", "a", ".", "\n", "Hello. ", "B\u200bomb", "é", "ａb a"]
    ),
    max_size=12,
).map("".join)
CUTS = st.lists(st.integers(1, 7), max_size=30)
KINDS: dict[str, Any] = {
    "content": TextDelta,
    "reasoning": ReasoningDelta,
    "refusal": RefusalDelta,
    "arguments": lambda text: ToolCallDelta(0, arguments=json.dumps(text)[1:-1]),
}


def in_pieces(text: str, cuts: Sequence[int]) -> list[str]:
    pieces, start = [], 0
    for size in cuts:
        pieces.append(text[start : start + size])
        start += size
    return [*pieces, text[start:]]


@pytest.mark.check(109, 110)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS, cuts=CUTS)
async def test_no_match_leaves_whatever_the_pieces_and_the_rest_does(kind: str, text: str, cuts: list[int]) -> None:
    batches: list[list[Event]] = [[KINDS[kind](piece)] for piece in in_pieces(text, cuts)]
    left, is_cut = await passed(opened(policy("rules")), [*batches, [STOP]])
    kept = said(flat(left), type(KINDS[kind]("")))
    matches = await judged(text)
    assert is_cut is bool(matches)
    written = json.dumps(text)[1:-1] if kind == "arguments" else text
    if not matches:
        assert kept == written
        assert flat(left)[-1] == STOP
    else:
        assert written.startswith(kept)
        undone = json.loads(f'"{kept.rstrip(chr(92))}"') if kind == "arguments" and is_whole(kept) else kept
        assert not await judged(undone)
        assert flat(left)[-1] == CUT


async def judged(text: str) -> Any:
    """What the rules find in all of it."""
    wanted = frozenset({Category.CUSTOM_BLOCKLISTS})
    outcome = RULES.judge(Question(text, Source.COMPLETION, wanted, blocklists=frozenset({"house"})))
    return await outcome.resume() if isinstance(outcome, NeedsWaiting) else outcome


def is_whole(text: str) -> bool:
    """Whether it is the inside of a JSON string."""
    try:
        json.loads(f'"{text}"')
    except json.JSONDecodeError:
        return False
    return True


@pytest.mark.parametrize("is_asynchronous", [False, True])
@pytest.mark.parametrize("size", [1, 7, 200])
async def test_a_match_that_is_looked_for_in_a_thread_does_not_leave(size: int, is_asynchronous: bool) -> None:
    text = "a word or two " * 20 + "of a secret plan" + " and of more" * 200
    stage = opened(policy("rules", window_chars=64, is_asynchronous=is_asynchronous), rules=LARGE)
    assert isinstance(stage.feed([TextDelta("a word " * 20)]), NeedsWaiting)
    stage = opened(policy("rules", window_chars=64, is_asynchronous=is_asynchronous), rules=LARGE)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    left, is_cut = await passed(stage, [*([TextDelta(piece)] for piece in pieces), [STOP]])
    kept = said(flat(left))
    assert is_cut
    assert text.startswith(kept)
    start = text.index("secret")
    assert start <= len(kept) < 1200 if is_asynchronous else start - 80 < len(kept) <= start


async def test_an_answer_without_a_match_leaves_whole_though_it_is_waited_for() -> None:
    deltas = [TextDelta("a word or two "), ReasoningDelta("hm, a thought "), ToolCallDelta(0, id="c", name="f")] * 30
    left, is_cut = await passed(opened(policy("rules"), rules=LARGE), [*([delta] for delta in deltas), [STOP]])
    assert not is_cut
    assert (said(flat(left)), said(flat(left), ReasoningDelta)) == ("a word or two " * 30, "hm, a thought " * 30)


async def test_a_sentence_is_judged_before_it_leaves() -> None:
    batches: list[list[Event]] = [
        [TextDelta(text)] for text in ("All is", " well. ", "Then ", "carnage", " came. ", "x")
    ]
    left, is_cut = await passed(opened(policy("classifier", lists=False), waits=True), batches)
    assert [said(events) for events in left] == ["", "All is well. ", "", "", ""]
    annotation, finish = left[-1]
    assert is_cut
    assert finish == CUT
    assert isinstance(annotation, Annotation)
    assert annotation.results["violence"] == {"filtered": True, "severity": "high"}
    assert annotation.results["hate"] == {"filtered": False, "severity": "safe"}
    assert (annotation.choice, annotation.is_last, annotation.is_notable) == (0, True, True)


async def test_one_blocked_choice_does_not_end_the_others() -> None:
    request = ChatRequest(messages=ASKED.messages, stream=True, extra={"n": 2})
    batches: list[list[Event]] = [
        [Answered("m"), TextDelta("A bomb.", 1), TextDelta("Fine", 0)], [TextDelta(" day.", 0), TextDelta("more", 1)],
        [ChoiceFinished(FinishReason.STOP, 1), STOP],
    ]  # fmt: skip
    left, is_cut = await passed(opened(policy("rules", "classifier"), request), batches)
    events = flat(left)
    assert (said(events, choice=0), said(events, choice=1)) == ("Fine day.", "")
    finished = [(event.choice, event.reason) for event in events if isinstance(event, ChoiceFinished)]
    assert sorted(finished) == [(0, "stop"), (1, "content_filter")]
    assert is_cut  # every choice has ended, one of them by the filter
    lists = [e.results["custom_blocklists"] for e in events if isinstance(e, Annotation) and e.choice == 1]
    assert lists == [{"filtered": True, "details": [{"id": "house", "filtered": True}]}]


async def test_a_text_that_goes_on_after_another_is_still_followed() -> None:
    batches: list[list[Event]] = [
        [ReasoningDelta("I make a bo")], [TextDelta("Well.")], [ReasoningDelta("mb.")], [STOP],
    ]  # fmt: skip
    left, is_cut = await passed(opened(policy("rules")), batches)
    assert is_cut
    assert said(flat(left), ReasoningDelta) == "I make a bo"
    assert said(left[1]) == "Well."


async def test_parallel_tool_calls_are_followed_each_by_itself() -> None:
    calls = [ToolCallDelta(index, f"c{index}", "look") for index in (0, 1)]
    more = [ToolCallDelta(index, arguments=text) for text in ('{"a":"b', "o", 'x"}') for index in (0, 1)]
    left, is_cut = await passed(opened(policy("rules", "classifier")), [[*calls], *([one] for one in more), [STOP]])
    events = [event for event in flat(left) if isinstance(event, ToolCallDelta)]
    assert not is_cut
    assert [event.id for event in events if event.id] == ["c0", "c1"]
    for index in (0, 1):
        assert "".join(e.arguments for e in events if e.index == index) == '{"a":"box"}'


async def test_the_name_of_a_function_is_text() -> None:
    left, is_cut = await passed(opened(policy("rules")), [[ToolCallDelta(0, "c", "bomb", "{}")], [STOP]])
    assert is_cut
    assert not [event for event in flat(left) if isinstance(event, ToolCallDelta)]


async def test_log_probabilities_are_not_cut() -> None:
    probable = {"content": [{"token": "well a bomb"}]}
    left, is_cut = await passed(opened(policy("rules")), [[TextDelta("well a bomb", logprobs=probable)], [STOP]])
    assert is_cut
    assert said(flat(left)) == ""


async def test_a_text_completion_is_one_text() -> None:
    request = CompletionsRequest(prompt=("x",), stream=True)
    batches: list[list[Event]] = [[ReasoningDelta("bo")], [TextDelta("mb")], [STOP]]
    left, is_cut = await passed(opened(policy("rules"), request), batches)
    assert is_cut
    assert (said(flat(left)), said(flat(left), ReasoningDelta)) == ("", "")


@pytest.mark.check(113)
async def test_an_outage_is_annotated_or_refused() -> None:
    batches: list[list[Event]] = [[TextDelta("An outage. ")], [STOP]]
    left, is_cut = await passed(opened(policy("classifier", lists=False), waits=True), batches)
    (annotation,) = [event for event in flat(left) if isinstance(event, Annotation)]
    assert (is_cut, said(flat(left))) == (False, "An outage. ")
    assert annotation.is_notable
    assert annotation.results == {"error": {"code": "content_filter_error", "message": "The contents are not filtered"}}
    for waits in (False, True):
        strict = policy("classifier", lists=False, refuses_on_outage=True)
        with pytest.raises(Unavailable):
            await passed(opened(strict, waits=waits), batches)


# --- asynchronous ----------------------------------------------------------------------------------------------------


def sentences(count: int, *words: str) -> list[list[Event]]:
    """So many of 20 characters, in two pieces each; then these."""
    return [[TextDelta(half)] for _ in range(count) for half in ("All is we", "ll today. ")] + [
        [TextDelta(word)] for word in words
    ]


async def test_an_asynchronous_filter_holds_nothing_back_and_says_what_it_has_judged() -> None:
    batches = [*sentences(100), [STOP]]
    left, is_cut = await passed(opened(policy("rules", "classifier", is_asynchronous=True), waits=True), batches)
    assert not is_cut
    assert [said(events) for events in left[:-2]] == [said(events) for events in batches[:-1]]
    of_text = [event for event in flat(left) if isinstance(event, Annotation)]
    offsets = [event.offsets for event in of_text if event.offsets is not None]
    assert len(offsets) == len(of_text) > 2
    prompt = len("Hello there.")
    assert [offset.start for offset in offsets] == [prompt, *(offset.end for offset in offsets[:-1])]
    assert all(offset.check == offset.end for offset in offsets)
    assert offsets[-1].end == prompt + len(said(flat(batches)))
    assert max(after.end - before.end for before, after in pairwise(offsets)) <= 1000
    assert isinstance(flat(left)[-1], Annotation)
    assert flat(left)[-2] == STOP
    assert not any(event.is_last or event.is_bare for event in of_text)


async def test_its_cut_follows_within_a_thousand_characters() -> None:
    batches = [*sentences(30), *sentences(0, "Then carnage came. "), *sentences(100), [STOP]]
    left, is_cut = await passed(opened(policy("classifier", is_asynchronous=True), waits=True), batches)
    assert is_cut
    text = said(flat(left))
    assert len(text) - text.index("carnage") < 1000
    annotation, finish = left[-1][-2:]
    assert finish == CUT
    assert isinstance(annotation, Annotation)
    assert annotation.is_last
    assert annotation.offsets is not None


async def test_a_huge_piece_does_not_outrun_it() -> None:
    huge = "All is well today. " * 50 + "Then carnage came. " + "All is well today. " * 500
    left, is_cut = await passed(
        opened(policy("classifier", is_asynchronous=True), waits=True), [[TextDelta(huge)], [STOP]]
    )
    assert is_cut
    assert len(said(flat(left))) < huge.index("carnage") + 1000


@pytest.mark.parametrize("text", ["All is well today. " * 5000, "x" * 50_000])
async def test_a_long_answer_leaves_the_loop_to_others(text: str) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    left, is_cut = await passed(opened(policy("rules", "classifier")), [[TextDelta(text), STOP]])
    counting.cancel()
    assert (said(flat(left)), is_cut) == (text, False)
    assert turns >= len(text) // 8192
    whole = TextDelta(text, logprobs={"content": [{"token": text}]})
    left, is_cut = await passed(opened(policy("rules", "classifier")), [[whole, STOP]])
    assert (flat(left)[0], is_cut) == (whole, False)
    blocked = f"{text} A bomb.{text}"
    left, is_cut = await passed(opened(policy("rules", "classifier")), [[TextDelta(blocked), STOP]])
    assert is_cut
    assert blocked.startswith(said(flat(left)))


async def test_whole_answers_are_never_asynchronous() -> None:
    request = ChatRequest(messages=ASKED.messages)
    stage = opened(policy("classifier", is_asynchronous=True), request)
    left, is_cut = await passed(stage, [[TextDelta("Well. Then carnage came.")], [STOP]])
    assert is_cut
    assert said(flat(left)) == "Well. "


# --- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hello there. How are", ["Hello there. "]),
        ("1. One is more. ", ["1. One is more. "]),
        ('He said "No." And left.\nThen', ['He said "No." ', "And left.\n"]),
        ("今天很好。坏", ["今天很好。"]),
        ("x" * 25, ["x" * 10, "x" * 10]),
        ("no end in sight", ["no end in "]),
    ],
)
def test_sentences(text: str, pieces: list[str]) -> None:
    ends = complete_sentences(text, 10 if " " not in text or "sight" in text else 40)
    assert [text[start:end] for start, end in zip([0, *ends], ends, strict=False)] == pieces


@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet='ab"\\\n\té😀/', max_size=20), is_ascii=st.booleans(), cuts=CUTS)
def test_escapes_are_undone_in_any_pieces(text: str, is_ascii: bool, cuts: list[int]) -> None:
    source = json.dumps(text, ensure_ascii=is_ascii)[1:-1]
    undone = ArgumentText()
    assert "".join(undone.feed(piece) for piece in in_pieces(source, cuts)) == text
    assert undone.length == len(text)
    for place in range(len(text) + 1):
        begin = source[: undone.source_place(place)]
        assert json.loads(f'"{begin}"') == text[:place]


def test_severities_have_words() -> None:
    assert [level.word for level in Severity] == ["safe", "low", "medium", "high"]


def field(value: Any) -> TextDelta:
    return TextDelta("", extra=ExtraFields(message={"x": value}))


@pytest.mark.parametrize(
    ("held", "more"),
    [
        (field("secret"), field("secret")),
        (TextDelta("secret"), TextDelta("", logprobs={"content": []})),
        (ToolCallDelta(0, "c", "look", '{"at": "secret'), ToolCallDelta(0)),
    ],
)
async def test_what_comes_without_a_text_does_not_pile_up(held: Event, more: Event) -> None:
    left, _ = await passed(opened(policy("rules", "classifier")), [[held], *([[more]] * 1500), [STOP]])
    assert len(left[0]) == 0
    assert held in [event for batch in left[:1200] for event in batch]
    assert max(map(len, left)) < 1200


def test_a_field_that_comes_in_pieces_is_one_text() -> None:
    text = FieldText()

    def added(value: Any, where: str = "message") -> str | None:
        found = text.takes(Further((where, "x"), value, TextDelta("")))
        return None if found is None else found.text

    assert added([{"type": "reasoning", "text": "sec"}]) == "\nreasoning\nsec"
    assert added([{"type": "reasoning", "text": "ret"}]) == "ret"
    assert added([{"type": "reasoning", "text": "a"}, {"type": "summary", "text": "b"}]) == (
        "\nreasoningreasoningsummary\nreasoning\nsummary\nsecretab\na\nb"
    )
    assert added([{"type": "summary", "text": "c"}]) == "\nreasoningreasoningsummarysummary\nsecretabc"
    assert added({"a name of words": 1}) == "\na name of words"
    assert added("https://example.test", "answer") == "\nhttps://example.test"
    assert added("https://example.test", "answer") is None


@pytest.mark.parametrize("after", ["secret plan.", "et plan."])
async def test_a_text_after_a_gap_is_read_with_it_and_without_it(after: str) -> None:
    before = "the end" if after.startswith("secret") else "the secr"
    batches = [[TextDelta(before)], [ReasoningDelta("Hm.")], *([TextDelta(piece)] for piece in after), [STOP]]
    left, is_cut = await passed(opened(policy("rules")), batches)
    assert is_cut
    assert said(flat(left)).startswith(before)
    assert "plan" not in said(flat(left))


def logged(text: str, *tokens: str) -> TextDelta:
    return TextDelta(text, logprobs={"content": [{"token": token} for token in tokens]})


@pytest.mark.parametrize(
    ("deltas", "kept"),
    [
        ([logged("Well", "\n\n", "We", "ll"), logged(".", "."), logged("", "<|end|>")], [True, True, True]),
        ([logged("Well", "We", "ll"), TextDelta(" then"), logged(" now", " now")], [True, False]),
        ([logged("Well", "Well"), logged("", " sec"), logged(".", ".")], [True, False, False]),
        ([logged("Well.", "W", "ll.")], [False]),
        ([RefusalDelta("No."), logged("", "No", ".")], [True]),
    ],
)
async def test_tokens_go_with_their_text_from_its_beginning_on(deltas: list[Event], kept: list[bool]) -> None:
    left, _ = await passed(opened(policy("rules")), [*([delta] for delta in deltas), [STOP]])
    asked = [delta for delta in deltas if isinstance(delta, TextDelta) and delta.logprobs is not None]
    found = [event.logprobs for event in flat(left) if isinstance(event, TextDelta) and event.logprobs is not None]
    assert found == [delta.logprobs for delta, is_kept in zip(asked, kept, strict=True) if is_kept]


ESCAPES = ["\\n", "\\\\", '\\"', "\\u0061", "\\ud83d\\ude00", "\\/", "\\x", "a", '"', "{", "é", "\n"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(ESCAPES), max_size=20).map("".join), st.integers(16, 40))
def test_a_whole_text_is_undone_as_a_growing_one_is(text: str, piece: int) -> None:
    assert undone(text, piece) == undone(text) == ArgumentText().feed(text)
