"""Text completions, embeddings of texts and pictures, and `/score`."""

from __future__ import annotations

from typing import Any

import pytest

from modelport.core.content import Message
from modelport.core.errors import MalformedBody
from modelport.core.requests import (
    ChatRequest,
    CompletionsRequest,
    EmbeddingsRequest,
    ImageEmbeddingsRequest,
    ImageInput,
    StreamOptions,
)
from modelport.dialects.azure_inference.requests import (
    ScoreRequest,
    decode_completions,
    decode_embeddings,
    decode_image_embeddings,
    decode_score,
)

from .refusals import USER, body_of, offences


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("a", ("a",)),
        ("", ("",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
        ([1.0, 2], ((1, 2),)),
    ],
)
def test_prompts_and_inputs_are_texts_or_token_ids(sent: Any, read: Any) -> None:
    assert decode_completions(body_of({"prompt": sent})).prompt == read
    assert decode_embeddings(body_of({"input": sent})).input == read


@pytest.mark.parametrize(
    ("sent", "type", "place"),
    [
        ([], "too_short", ""),
        ([[]], "too_short", ".0"),
        (["a", 1], "string_type", ".1"),
        ([1, "a"], "int_parsing", ".1"),
        ([[1], "a"], "list_type", ".1"),
        ([-1], "greater_than_equal", ".0"),
        ([2**31], "less_than_equal", ".0"),
        ([[1, 1.5]], "int_from_float", ".0.1"),
        ([True], "int_type", ".0"),
        ({"text": "a"}, "string_type", ""),
        (5, "string_type", ""),
    ],
)
def test_mixed_and_empty_ones_are_refused(sent: Any, type: str, place: str) -> None:
    [prompt] = offences(decode_completions, body_of({"prompt": sent}))
    [input] = offences(decode_embeddings, body_of({"input": sent}))
    assert prompt[:2] == (type, f"body.prompt{place}")
    assert input[:2] == (type, f"body.input{place}")


def test_how_many_there_may_be() -> None:
    assert len(decode_completions(body_of({"prompt": ["a"] * 128})).prompt) == 128
    assert offences(decode_completions, body_of({"prompt": ["a"] * 129}))[0][0] == "too_long"
    assert len(decode_embeddings(body_of({"input": ["a"] * 2048})).input) == 2048
    assert offences(decode_embeddings, body_of({"input": ["a"] * 2049}))[0][0] == "too_long"
    assert len(decode_embeddings(body_of({"input": [7] * 9000})).input) == 1
    assert offences(decode_image_embeddings, body_of({"input": [{"image": "i"}] * 2049}))[0][0] == "too_long"


def test_a_completion_has_a_prompt_even_if_none_was_sent() -> None:
    assert decode_completions(b"{}") == CompletionsRequest(prompt=("<|endoftext|>",), body_bytes=2)
    assert decode_completions(b'{"prompt":null}').prompt == ("<|endoftext|>",)


def test_all_fields_of_a_completion_are_read() -> None:
    fields = {
        "prompt": "p",
        "model": "m",
        "max_tokens": 3,
        "temperature": 1,
        "top_p": 0.5,
        "stop": "s",
        "stream": True,
        "stream_options": {"include_usage": True},
        "frequency_penalty": 1,
        "presence_penalty": -1,
        "seed": 4,
        "n": 2,
        "best_of": 3,
        "echo": True,
        "suffix": "x",
        "logprobs": 10,
        "user": "u",
    }
    body = body_of(fields)
    assert decode_completions(body) == CompletionsRequest(
        prompt=("p",),
        model="m",
        max_tokens=3,
        temperature=1.0,
        top_p=0.5,
        stop=("s",),
        stream=True,
        stream_options=StreamOptions(True),
        frequency_penalty=1.0,
        presence_penalty=-1.0,
        seed=4,
        n=2,
        best_of=3,
        echo=True,
        suffix="x",
        logprobs=10,
        extra={"user": "u"},
        body_bytes=len(body),
    )


def test_logprobs_of_a_completion_may_be_a_truth() -> None:
    assert decode_completions(b'{"logprobs":true}').logprobs == 0
    assert decode_completions(b'{"logprobs":false}').logprobs is None


def test_the_bounds_of_a_completion() -> None:
    body = body_of({"n": 129, "best_of": 0, "logprobs": 21, "echo": "loud", "suffix": 1, "temperature": 3})
    assert [(type, place) for type, place, _ in offences(decode_completions, body)] == [
        ("less_than_equal", "body.temperature"),
        ("less_than_equal", "body.n"),
        ("greater_than_equal", "body.best_of"),
        ("string_type", "body.suffix"),
        ("less_than_equal", "body.logprobs"),
        ("bool_type", "body.echo"),
    ]


def test_all_fields_of_an_embeddings_call_are_read() -> None:
    body = body_of(
        {
            "input": ["a"],
            "model": "m",
            "dimensions": "256",
            "encoding_format": "ubinary",
            "input_type": "query",
            "user": "u",
        }
    )
    assert decode_embeddings(body) == EmbeddingsRequest(
        input=("a",),
        model="m",
        dimensions=256,
        encoding_format="ubinary",
        input_type="query",
        extra={"user": "u"},
        body_bytes=len(body),
    )
    nulls = b'{"input":"a","model":null,"dimensions":null,"encoding_format":null,"input_type":null,"user":null}'
    assert decode_embeddings(nulls) == EmbeddingsRequest(input=("a",), body_bytes=len(nulls))


def test_the_bounds_of_an_embeddings_call() -> None:
    body = body_of({"model": 1, "dimensions": 0, "encoding_format": "float16", "input_type": "poem"})
    assert [(type, place) for type, place, _ in offences(decode_embeddings, body)] == [
        ("missing", "body.input"),
        ("string_type", "body.model"),
        ("literal_error", "body.encoding_format"),
        ("greater_than_equal", "body.dimensions"),
        ("literal_error", "body.input_type"),
    ]


def test_pictures_are_read() -> None:
    body = body_of({"input": [{"image": "data:image/png;base64,AA==", "text": "t", "more": 1}, {"image": "i"}], "n": 1})
    assert decode_image_embeddings(body) == ImageEmbeddingsRequest(
        input=(ImageInput("data:image/png;base64,AA==", "t"), ImageInput("i")), extra={"n": 1}, body_bytes=len(body)
    )


@pytest.mark.parametrize(
    ("fields", "offence"),
    [
        ({}, ("missing", "body.input", {})),
        ({"input": []}, ("too_short", "body.input", [])),
        ({"input": "i"}, ("list_type", "body.input", "i")),
        ({"input": ["i"]}, ("dict_type", "body.input.0", "i")),
        ({"input": [{"image": "i"}, {"text": "t"}]}, ("missing", "body.input.1.image", {"text": "t"})),
        ({"input": [{"image": "i", "text": 5}]}, ("string_type", "body.input.0.text", 5)),
    ],
)
def test_pictures_that_are_none_are_named(fields: Any, offence: Any) -> None:
    assert offences(decode_image_embeddings, body_of(fields)) == [offence]


def test_score_with_messages_is_a_chat() -> None:
    parameters = {"max_new_tokens": 5, "temperature": 0.1, "do_sample": True, "return_full_text": False, "top_k": 3}
    body = body_of({"input_data": {"input_string": [USER], "parameters": parameters}})
    assert decode_score(body) == ScoreRequest(
        ChatRequest(
            messages=(Message("user", "hi"),),
            max_tokens=5,
            temperature=0.1,
            extra={"top_k": 3},
            body_bytes=len(body),
        )
    )


@pytest.mark.parametrize(
    ("fields", "prompt", "is_listed"),
    [
        ({"input_data": ["a", "b"], "params": {"do_sample": False}}, ("a", "b"), True),
        ({"input_data": {"input_string": ["a"], "parameters": {"do_sample": False}}}, ("a",), True),
        ({"input_data": {"input_string": "a"}, "params": {"do_sample": False}}, ("a",), False),
    ],
)
def test_score_with_texts_is_a_completion(fields: Any, prompt: Any, is_listed: bool) -> None:
    score = decode_score(body_of(fields))
    assert isinstance(score.request, CompletionsRequest)
    assert (score.request.prompt, score.is_listed, score.request.temperature) == (prompt, is_listed, 0.0)


@pytest.mark.parametrize(
    ("fields", "offence"),
    [
        ({"data": 1}, ("missing", "body.input_data", {"data": 1})),
        ({"input_data": {}}, ("missing", "body.input_data.input_string", {})),
        ({"input_data": []}, ("too_short", "body.input_data", [])),
        ({"input_data": ["a"], "params": 5}, ("dict_type", "body.params", 5)),
        ({"input_data": ["a"], "params": {"top_p": 2}}, ("less_than_equal", "body.params.top_p", 2)),
        (
            {"input_data": {"input_string": [{"role": "robot"}]}},
            ("literal_error", "body.input_data.input_string.0.role", "robot"),
        ),
        (
            {"input_data": {"input_string": ["a"], "parameters": {"max_new_tokens": -1}}},
            ("greater_than_equal", "body.input_data.parameters.max_new_tokens", -1),
        ),
    ],
)
def test_offences_of_score_are_named_where_they_stand(fields: Any, offence: Any) -> None:
    assert offences(decode_score, body_of(fields)) == [offence]


@pytest.mark.parametrize("decode", [decode_completions, decode_embeddings, decode_image_embeddings, decode_score])
def test_no_route_takes_what_is_no_object(decode: Any) -> None:
    for body in (b"", b"[]", b"{", b"[" * 1000, b"\xff"):
        with pytest.raises(MalformedBody):
            decode(body)
