"""Errors of OpenAI-shaped upstreams as ours."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.errors import (
    ContentFiltered,
    CredentialRefused,
    EngineFailed,
    InvalidParameters,
    ModelportError,
    Offence,
    Unavailable,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimedOut,
)
from modelport.core.limit_errors import ContextLengthExceeded, RateLimited
from modelport.dialects.azure_inference import errors as azure_inference_errors
from modelport.dialects.openai_chat import errors as openai_errors
from modelport.dialects.openai_chat.upstream_failures import failure, failure_in_stream


def said(status, error=None, headers=None, engine=False, **body):
    raw = json.dumps({"error": error} if error is not None else body).encode()
    return failure(status, headers or {}, raw, engine=engine)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": "too long", "code": "context_length_exceeded", "param": "messages"}}),
        (400, {"object": "error", "message": "This model's maximum context length is 4096 tokens.", "code": 400}),
        (400, {"error": {"code": 400, "message": "exceeds", "type": "exceed_context_size_error"}}),
        (400, {"message": "Prompt contains 9 tokens … too large for model with 8 maximum context length"}),
        (413, {"error": {"code": "tokens_limit_reached", "message": "Request body too large for gpt-4o model."}}),
    ],
)
def test_too_long_a_prompt_is_told_as_such(status, body):
    error = failure(status, {}, json.dumps(body).encode())
    assert isinstance(error, ContextLengthExceeded)
    assert error.message


def test_bad_request_keeps_the_upstreams_words():
    error = said(
        400, {"message": "Unsupported value: 'temperature'.", "code": "unsupported_value", "param": "temperature"}
    )
    assert isinstance(error, UpstreamRefused)
    assert (error.status, error.message) == (400, "Unsupported value: 'temperature'.")
    assert (error.code, error.target) == ("unsupported_value", "temperature")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"error":"model is required"}', "model is required"),
        (b'{"detail":"Not like this"}', "Not like this"),
        (b'[{"error":{"code":400,"message":"Invalid","status":"INVALID_ARGUMENT"}}]', "Invalid"),
        (b'{"object":"error","message":"bad n","type":"BadRequestError","param":null,"code":400}', "bad n"),
        (b"<html>bad request</html>", "The upstream called the request invalid."),
        (b"", "The upstream called the request invalid."),
        (b'{"error":{"message":"a\\nb\\u0000c"}}', "a b c"),
    ],
)
def test_refusals_are_understood_in_every_shape(raw, message):
    error = failure(400, {}, raw)
    assert isinstance(error, UpstreamRefused)
    assert error.message == message


def test_long_words_are_cut():
    assert len(said(400, {"message": "x" * 100_000}).message) == 1000


def test_parameter_that_is_refused_is_named():
    error = said(422, {"message": "no", "param": "messages[0].role", "code": "parameter_not_supported"})
    assert isinstance(error, InvalidParameters)
    assert error.offences == (Offence("parameter_not_supported", ("body", "messages", "0", "role"), "no", None),)
    assert error.target == "messages.0.role"


@pytest.mark.parametrize(
    "body",
    [
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "user"], "msg": "Extra", "input": "u"}]},
        {"message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "user"], "msg": "Extra", "input": "u"}]}},
    ],
)
def test_list_of_offences_is_kept(body):
    error = said(422, **body)
    assert isinstance(error, InvalidParameters)
    assert error.offences == (Offence("extra_forbidden", ("body", "user"), "Extra", "u"),)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": "x", "message": "No.", "details": [{"loc": ["body", "seed"], "msg": "odd", "input": 7}]}},
        {"status": 422, "message": "odd", "detail": {"loc": ["body", "seed"], "input": 7}},
        {"status": 422, "message": "No.", "detail": [{"loc": ["body", "seed"], "msg": "odd", "input": 7}]},
        {"error": {"message": "No.", "detail": {"loc": "seed", "message": "odd", "input": 7}}},
        {"error": {"message": json.dumps({"detail": [{"loc": ["body", "seed"], "msg": "odd", "input": 7}]})}},
        {
            "error": {"code": "x", "message": "No.", "details": [{"code": "x", "target": "seed", "message": "odd"}]},
            "detail": [{"type": "parameter_not_supported", "loc": ["body", "seed"], "msg": "odd", "input": 7}],
        },
    ],
)
def test_place_words_and_value_survive_in_every_shape(body):
    error = failure(422, {}, json.dumps(body).encode())
    assert isinstance(error, InvalidParameters)
    assert error.offences == (Offence("parameter_not_supported", ("body", "seed"), "odd", 7),)


def test_what_we_refuse_ourselves_is_the_same_behind_us():
    ours = InvalidParameters(
        [
            Offence("literal_error", ("body", "messages", "0", "role"), "Not a role.", "judge"),
            Offence("missing", ("body", "messages", "1", "content"), "Field required", {"role": "user"}),
        ]
    )
    for encoded in (azure_inference_errors.encode(ours), openai_errors.encode(ours)):
        error = failure(encoded.status, {}, encoded.body)
        assert isinstance(error, InvalidParameters)
        assert error.offences == ours.offences


def test_a_bad_request_that_only_lists_what_is_wrong_says_it():
    error = failure(400, {}, b'{"detail":[{"loc":["body","top_p"],"msg":"too much"},{"loc":["body","n"],"msg":"odd"}]}')
    assert isinstance(error, UpstreamRefused)
    assert error.message == "top_p: too much; n: odd"


def test_unprocessable_without_a_place_is_a_refusal():
    assert isinstance(said(422, {"message": "no"}), UpstreamRefused)


@pytest.mark.parametrize(
    "error",
    [
        {"code": "content_filter", "message": "filtered", "param": "prompt", "status": 400},
        {"code": None, "message": "x", "innererror": {"content_filter_result": {"hate": {"filtered": True}}}},
        {"code": "content_policy_violation", "message": "x"},
    ],
)
def test_filtered_prompt_is_told_as_such(error):
    assert isinstance(said(400, error), ContentFiltered)


def test_verdicts_of_the_filter_are_kept():
    verdicts = {"violence": {"filtered": True, "severity": "medium"}}
    error = said(400, {"code": "content_filter", "innererror": {"content_filter_result": verdicts}})
    assert error.results == verdicts


@pytest.mark.parametrize("status", [301, 401, 402, 403, 404, 405, 407, 409, 500, 501, 502, 503, 529, 599])
def test_troubles_between_us_and_the_upstream_are_ours_and_say_nothing_of_it(status):
    error = said(
        status, {"message": "Incorrect API key provided: sk-abc at https://10.0.0.7", "code": "invalid_api_key"}
    )
    assert isinstance(error, UpstreamFailed)
    assert (error.status, error.retry_after) == (503, 1)
    assert "sk-abc" not in error.message
    assert "10.0.0.7" not in error.message


@pytest.mark.parametrize("status", [408, 504])
def test_slow_upstream_is_a_time_out(status):
    assert isinstance(said(status, {"message": "slow"}), UpstreamTimedOut)


def test_too_large_a_body_is_a_refusal_with_its_code():
    assert said(413, {"message": "big"}).code == "RequestEntityTooLarge"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 1),
        ({"retry-after": "26"}, 26),
        ({"retry-after": "0"}, 1),
        ({"retry-after": "1.2"}, 2),
        ({"retry-after-ms": "2500", "retry-after": "9"}, 3),
        ({"retry-after": "86400"}, 300),
        ({"retry-after": "-5"}, 1),
        ({"retry-after": "soon"}, 1),
        ({"retry-after-ms": "nan"}, 1),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}, 1),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT", "date": "never"}, 1),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 300),
        ({"retry-after": "Friday, 31-Dec-99 23:59:59 -0000", "date": "Fri, 31 Dec 1999 23:59:41 GMT"}, 18),
        ({"retry-after": "Wed, 99 Foo 2026 27:28:30 GMT"}, 1),
        ({"retry-after": "9" * 400}, 300),
        ({"retry-after": "inf"}, 300),
        ({"retry-after": "1e400"}, 300),
        ({"retry-after": " 7 "}, 7),
        ({"retry-after": ""}, 1),
        ({"retry-after-ms": "soon", "retry-after": "8"}, 8),
        ({"retry-after-ms": "0.2"}, 1),
        ({"retry-after-ms": "-1"}, 1),
        ({"retry-after": "soon", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 1),
    ],
)
def test_waiting_time_is_honoured_and_bounded(headers, seconds):
    limited = said(429, {"message": "slow down"}, headers)
    assert isinstance(limited, RateLimited)
    assert (limited.kind, limited.retry_after) == ("upstream", seconds)
    assert said(503, {"message": "busy"}, headers).retry_after == seconds


def test_a_date_is_a_waiting_time_by_our_clock_where_the_upstream_shows_none():
    then = datetime.now(UTC) + timedelta(seconds=200)
    limited = said(429, {"message": "slow down"}, {"retry-after": format_datetime(then, usegmt=True)})
    assert 100 < limited.retry_after <= 200


def test_full_engine_is_not_available_and_says_when():
    error = said(503, {"message": "The queue is full.", "code": "queue_full"}, {"retry-after": "4"}, engine=True)
    assert isinstance(error, Unavailable)
    assert (error.code, error.retry_after, error.message) == ("NoCapacity", 4, "The queue is full.")


def test_engine_refuses_by_name():
    error = said(
        422, {"message": "no beams", "param": "use_beam_search", "code": "parameter_not_supported"}, engine=True
    )
    assert isinstance(error, InvalidParameters)
    assert error.target == "use_beam_search"


def test_engines_context_is_the_callers_business():
    error = said(400, {"message": "too long", "code": "context_length_exceeded"}, engine=True)
    assert isinstance(error, ContextLengthExceeded)


@pytest.mark.parametrize("status", [401, 404, 500, 502])
def test_broken_engine_is_the_engines_failure(status):
    error = said(status, {"message": "at /home/x", "code": "engine_failed"}, engine=True)
    assert isinstance(error, EngineFailed)
    assert "/home" not in error.message


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": 429}, RateLimited),
        ({"code": "429"}, RateLimited),
        ({"type": "rate_limit_error"}, RateLimited),
        ({"code": "content_filter"}, ContentFiltered),
        ({"type": "BadRequestError", "message": "n"}, UpstreamRefused),
        ({"code": 504}, UpstreamTimedOut),
        ({"message": "?"}, UpstreamFailed),
        ("?", UpstreamFailed),
    ],
)
def test_error_inside_an_answer_is_read_like_one_outside(error, expected):
    assert isinstance(failure_in_stream({"error": error}), expected)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "code", "detail", "loc", "param", "innererror", "type", "msg"]), inner
        )
    ),
    max_leaves=15,
)


@given(st.integers(100, 599), JSON | st.binary(max_size=30), st.booleans())
def test_any_error_body_becomes_an_error_of_ours(status, body, engine):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    error = failure(status, {}, raw, engine=engine)
    assert isinstance(error, ModelportError)
    if isinstance(error, InvalidParameters):
        assert all(isinstance(part, str) for offence in error.offences for part in offence.loc)


@pytest.mark.parametrize(
    "message",
    [
        "Incorrect API key provided: sk-a***z.",
        "Invalid API key",
        "Error: invalid x-api-key",
        "API key not valid. Please pass a valid API key.",
        "Your API key is expired",
        "You didn't provide an API key.",
        "Access denied due to invalid subscription key or wrong API endpoint.",
        "Missing Authentication header",
        "No auth credentials found",
        "Authentication failed",
        "Invalid token.",
    ],
)
@pytest.mark.parametrize("status", [400, 401, 403, 422, 500])
def test_complaint_about_a_credential_is_about_the_gateways(status, message):
    error = said(status, {"message": message})
    assert isinstance(error, CredentialRefused)
    assert (error.status, error.upstream_status, error.upstream_words) == (503, status, message)
    assert message not in error.message


@pytest.mark.parametrize(
    "message",
    [
        "Invalid value for 'metadata.api_key': expected a string.",
        "Invalid token id 70000 in logit_bias.",
        "tools[0].function.parameters: 'authorization' is required",
        "The prompt names no key.",
        "Missing required parameter: 'messages'.",
    ],
)
def test_other_words_about_keys_and_tokens_are_the_callers(message):
    assert isinstance(said(400, {"message": message}), UpstreamRefused)


def test_credential_complaint_in_a_stream_is_one_too():
    error = failure_in_stream({"error": {"message": "bad", "code": "invalid_api_key"}})
    assert isinstance(error, CredentialRefused)


def test_worker_of_ours_that_refuses_its_secret_has_broken():
    assert isinstance(said(401, {"message": "no"}, engine=True), EngineFailed)
