"""Request heads and response headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from modelport.core.errors import BadRequest, InternalError, MethodNotAllowed, ModelportError, Unavailable
from modelport.core.identity import Shown
from modelport.core.limit_errors import RateLimited
from modelport.core.quota import QuotaState
from modelport.dialects.error_body import ErrorBody
from modelport.surfaces.headers import RequestHead, common_headers, error_headers, listed, quota_headers


def head(*headers: tuple[str, str], query: str = "", path: str = "/models/chat/completions") -> RequestHead:
    return RequestHead.of(
        {
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
        }
    )


API_KEY, BEARER = Shown("api-key", "", "K"), Shown("authorization", "bearer", "K")


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ([("api-key", "K")], (API_KEY,)),
        ([("authorization", "Bearer K")], (BEARER,)),
        ([("authorization", "bearer K")], (BEARER,)),
        ([("authorization", "BEARER   K ")], (BEARER,)),
        ([("authorization", "Bearer K"), ("api-key", "K")], (API_KEY, BEARER)),
        ([("api-key", "1"), ("authorization", "Bearer 2")], (replace(API_KEY, value="1"), replace(BEARER, value="2"))),
        ([("ocp-apim-subscription-key", "K")], (Shown("ocp-apim-subscription-key", "", "K"),)),
        ([("authorization", "Basic K")], ()),
        ([("api-key", " my key 1 ")], (replace(API_KEY, value="my key 1"),)),
        ([("authorization", "Bearer my key 1")], (replace(BEARER, value="my key 1"),)),
        ([("authorization", "bearer  two  spaces ")], (replace(BEARER, value="two  spaces"),)),
        ([("authorization", "Bearer")], ()),
        ([("authorization", "Bearer ")], ()),
        ([("api-key", " ")], ()),
        ([], ()),
    ],
)
def test_every_form_of_a_credential_is_found(headers: list[tuple[str, str]], shown: tuple[Shown, ...]) -> None:
    assert head(*headers).credential.shown == shown


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        ([], None),
        ([("extra-parameters", "pass-through")], "pass-through"),
        ([("extra-params", "pass-through")], "pass-through"),
        ([("unknown-parameters", "pass_through")], "pass-through"),
        ([("extra-parameters", "DROP")], "drop"),
        ([("unknown-parameters", "drop"), ("extra-params", "error")], "error"),
        ([("extra-params", "error"), ("extra-parameters", "drop")], "drop"),
        ([("extra-parameters", "ignore")], "ignore"),
        ([("extra-parameters", "let_it_be")], "let_it_be"),
        ([("extra-parameters", ""), ("extra-params", "drop")], "drop"),
    ],
)
def test_every_spelling_of_the_extra_parameters_header_is_read(headers: list[tuple[str, str]], value: str) -> None:
    assert head(*headers).extra_parameters == value


@pytest.mark.parametrize("version", ["2023-05-15", "2024-05-01-preview", "2025-08-28", "preview", "latest", "v1", None])
def test_every_api_version_in_use_is_taken(version: str | None) -> None:
    assert head(query=f"api-version={version}" if version else "").api_version == version


def test_an_empty_api_version_is_none() -> None:
    assert head(query="api-version=").api_version is None


@pytest.mark.parametrize("version", ["2024", "yesterday", "2024-05-01-beta", "2024-05-01 ", "v2"])
def test_what_is_no_api_version_is_a_bad_request(version: str) -> None:
    with pytest.raises(BadRequest):
        _ = head(query=f"api-version={version}").api_version


def test_the_callers_request_id_is_echoed_and_ours_is_a_guid() -> None:
    asked = head(("x-ms-client-request-id", "b7f0-42"))
    headers = dict(common_headers(asked, b"East US 2"))
    assert headers[b"x-ms-client-request-id"] == b"b7f0-42"
    assert headers[b"x-request-id"] == headers[b"apim-request-id"]
    assert len(headers[b"x-request-id"]) == 36
    assert headers[b"x-ms-region"] == b"East US 2"


@pytest.mark.parametrize("sent", ["", "a b", "ü", "x" * 129])
def test_a_request_id_that_cannot_be_echoed_is_replaced(sent: str) -> None:
    asked = head(("x-ms-client-request-id", sent))
    assert asked.client_request_id is None
    headers = dict(common_headers(asked, b"local"))
    assert headers[b"x-ms-client-request-id"] == headers[b"x-request-id"]


def test_who_sends_no_request_id_is_told_ours_under_both_names() -> None:
    headers = dict(common_headers(head(), b"local"))
    assert headers[b"x-ms-client-request-id"] == headers[b"x-request-id"] == headers[b"apim-request-id"]
    assert len(headers[b"x-request-id"]) == 36


def test_the_first_of_two_equal_headers_or_query_names_wins() -> None:
    asked = head(("api-key", "one"), ("api-key", "two"), query="model=a&model=b")
    assert asked.credential.shown == (Shown("api-key", "", "one"),)
    assert asked.query["model"] == "a"


def encoded(error: ModelportError, **headers: str) -> ErrorBody:
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return ErrorBody(status=error.status, code=error.code, body=b"{}", headers=pairs)


def test_retry_after_is_only_on_429_and_503() -> None:
    limited = RateLimited("requests", 10, 7)
    assert dict(error_headers(limited, encoded(limited)))[b"retry-after"] == b"7"
    assert dict(error_headers(limited, encoded(limited)))[b"retry-after-ms"] == b"7000"
    unavailable = Unavailable("later", retry_after=3)
    assert dict(error_headers(unavailable, encoded(unavailable)))[b"retry-after"] == b"3"
    bad = BadRequest("no", retry_after=5)
    assert b"retry-after" not in dict(error_headers(bad, encoded(bad, retry_after="5")))


def test_a_used_up_quota_is_told_in_numbers() -> None:
    limited = RateLimited("tokens", 1000, 7)
    headers = dict(error_headers(limited, encoded(limited, retry_after="7")))
    assert headers[b"x-ratelimit-limit-tokens"] == b"1000"
    assert headers[b"x-ratelimit-remaining-tokens"] == b"0"
    assert headers[b"x-ratelimit-reset-tokens"] == b"7"


def test_no_header_is_there_twice() -> None:
    error = MethodNotAllowed(["POST"])
    headers = error_headers(error, encoded(error, allow="POST", x_ms_error_code="405"))
    assert sorted(headers) == [(b"allow", b"POST"), (b"x-ms-error-code", b"405")]


def test_an_error_code_is_on_every_error() -> None:
    assert dict(error_headers(InternalError(), encoded(InternalError())))[b"x-ms-error-code"] == b"InternalServerError"


def test_an_unlimited_deployment_says_nothing_of_its_quota() -> None:
    assert quota_headers(QuotaState()) == []


def test_what_is_left_of_the_quota_is_told() -> None:
    quota = QuotaState(limit_requests=10, remaining_requests=9, limit_tokens=100, remaining_tokens=-5, reset_seconds=60)
    assert dict(quota_headers(quota)) == {
        b"x-ratelimit-limit-requests": b"10",
        b"x-ratelimit-remaining-requests": b"9",
        b"x-ratelimit-reset-requests": b"60",
        b"x-ratelimit-limit-tokens": b"100",
        b"x-ratelimit-remaining-tokens": b"0",
        b"x-ratelimit-reset-tokens": b"60",
    }


def test_ordinary_names_are_listed_as_they_are() -> None:
    assert listed(["seed", "safe_mode"]) == b"seed, safe_mode"


@given(st.lists(st.text(), max_size=40))
def test_whatever_the_body_keys_are_the_header_is_one_printable_line(names: list[str]) -> None:
    value = listed(names)
    assert all(0x20 <= byte < 0x7F for byte in value)
    assert len(value) <= 2048
