"""What a content filter says, in the bytes of each dialect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelport.core.answers import (
    AnswerHead,
    ChatAnswer,
    ChatChoice,
    CompletionChoice,
    CompletionsAnswer,
    EmbeddingsAnswer,
)
from modelport.core.events import (
    Annotation,
    ChoiceFinished,
    Event,
    ExtraFields,
    FinishReason,
    TextDelta,
    TextOffsets,
    UsageReported,
)
from modelport.core.usage import TokenUsage
from modelport.dialects.azure_inference import answers as azure
from modelport.dialects.openai_chat import answers as openai

HEAD = AnswerHead(id="ours", created=7, model="served")
SAFE: dict[str, Any] = {"hate": {"filtered": False, "severity": "safe"}}
FILTERED: dict[str, Any] = {"hate": {"filtered": True, "severity": "high"}}
STOP = ChoiceFinished(FinishReason.STOP)
CUT = ChoiceFinished(FinishReason.CONTENT_FILTER)
USAGE = UsageReported(TokenUsage(input=1, output=1))
LATER = Annotation(SAFE, 0, offsets=TextOffsets(44, 12, 44), is_last=False)


def chunks(writer: Any, *events: Event) -> list[Any]:
    data = writer.feed([*events]) + writer.end()
    *found, done = data.decode().strip().split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(one.removeprefix("data: ")) for one in found]


@pytest.mark.check(111)
def test_streams_of_openai_begin_with_the_prompts() -> None:
    said = [Annotation(SAFE, is_notable=False), Annotation(FILTERED, prompt=1, is_notable=False)]
    first, *rest = chunks(openai.ChatStream(HEAD), *said, TextDelta("Hi"), STOP, USAGE)
    found = [
        {"prompt_index": index, "content_filter_results": results} for index, results in enumerate((SAFE, FILTERED))
    ]
    nameless = {"id": "", "object": "", "created": 0, "model": "", "choices": [], "usage": None}
    assert first == {**nameless, "prompt_filter_results": found}
    assert not any("prompt_filter_results" in chunk for chunk in rest)


def test_those_of_models_have_no_chunk_without_a_choice() -> None:
    said = Annotation(SAFE)
    found = chunks(azure.ChatStream(HEAD), said, TextDelta("Hi"), STOP, USAGE)
    assert all(chunk["choices"] and "content" in chunk["choices"][0]["delta"] for chunk in found)
    assert [chunk.get("prompt_filter_results") for chunk in found] == [
        None,
        [{"prompt_index": 0, "content_filter_results": SAFE}],
        None,
        None,
    ]


@pytest.mark.check(110)
@pytest.mark.parametrize("dialect", [openai, azure])
def test_the_last_chunk_says_why_and_counts_more_than_the_source(dialect: Any) -> None:
    theirs = ExtraFields(choice={"content_filter_results": SAFE, "kept": 1})
    for finish in (CUT, ChoiceFinished(FinishReason.STOP, extra=theirs)):
        *_, last = chunks(dialect.ChatStream(HEAD), TextDelta("Hi"), Annotation(FILTERED, 0), finish, USAGE)
        choice = last["choices"][0]
        assert (choice["content_filter_results"], choice["finish_reason"]) == (FILTERED, finish.reason)
        assert choice.get("kept") == (1 if finish.extra else None)


def test_chunks_of_an_asynchronous_filter_have_a_delta_and_a_name() -> None:
    found = chunks(openai.ChatStream(HEAD), TextDelta("Hi"), LATER, TextDelta("you"), STOP, LATER, USAGE)
    of_text = [chunk for chunk in found if "content_filter_offsets" in chunk["choices"][0]]
    offsets = {"check_offset": 44, "start_offset": 12, "end_offset": 44}
    for chunk in of_text:
        assert (chunk["id"], chunk["model"]) == ("ours", "served")
        assert chunk["choices"][0] == {
            "index": 0, "delta": {}, "logprobs": None, "finish_reason": None, "content_filter_results": SAFE,
            "content_filter_raw": [], "content_filter_offsets": offsets,
        }  # fmt: skip
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in found]
    assert reasons == [None, None, None, None, "stop", None]
    assert len(of_text) == 2


def test_strictly_they_are_as_azure_writes_them() -> None:
    bare = Annotation(SAFE, 0, offsets=TextOffsets(44, 12, 44), is_last=False, is_bare=True)
    data = openai.ChatStream(HEAD).feed([TextDelta("Hi"), bare])
    assert data.endswith(
        b'data: {"id":"","object":"","created":0,"model":"","choices":[{"index":0,"finish_reason":null,'
        b'"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}},"content_filter_raw":[],'
        b'"content_filter_offsets":{"check_offset":44,"start_offset":12,"end_offset":44}}],"usage":null}\n\n'
    )


def test_whole_answers() -> None:
    quiet, notable = Annotation(SAFE, is_notable=False), Annotation(FILTERED, 0)
    usage = TokenUsage(input=1, output=1)
    chat = ChatAnswer((ChatChoice(0, "Hi", FinishReason.STOP, annotation=notable),), usage, annotations=(quiet,))
    text = CompletionsAnswer((CompletionChoice(0, "Hi", FinishReason.STOP, annotation=notable),), usage, {}, (quiet,))
    vectors = EmbeddingsAnswer((b"\0\0\0\0",), usage, {}, (quiet,))
    for dialect, always in ((openai, True), (azure, False)):
        for written in (dialect.whole_chat(HEAD, chat), dialect.whole_completions(HEAD, text)):
            answer = json.loads(written)
            assert answer["choices"][0]["content_filter_results"] == FILTERED
            assert ("prompt_filter_results" in answer) is always
        assert ("prompt_filter_results" in json.loads(dialect.whole_embeddings(HEAD, vectors))) is always
