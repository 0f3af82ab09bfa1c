"""A body is an object of bounded depth, or it is refused in words that repeat nothing of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.errors import MalformedBody
from modelport.dialects.body import check_depth, read_object

texts = st.text(alphabet=st.sampled_from('ab\\"[]{}\n\u00e9'), max_size=8)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=12,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


@given(values, st.integers(min_value=0, max_value=6), st.booleans())
def test_depth_is_counted_outside_strings_only(value: Any, limit: int, is_ascii: bool) -> None:
    body = json.dumps(value, ensure_ascii=is_ascii).encode()
    if depth(value) <= limit:
        check_depth(body, limit)
    else:
        with pytest.raises(MalformedBody):
            check_depth(body, limit)


@pytest.mark.parametrize("unit", [b"[", b'{"a":', b'[{"a":', b"[[],"])
def test_a_million_levels_are_refused_without_recursion(unit: bytes) -> None:
    with pytest.raises(MalformedBody):
        check_depth(unit * 1_000_000, 64)


def test_many_shallow_lists_are_not_deep() -> None:
    check_depth(b"[" + b"[1,2]," * 100_000 + b"[]]", 2)


@given(st.binary(max_size=40))
def test_any_bytes_are_an_object_or_refused(body: bytes) -> None:
    try:
        fields = read_object(body, 8)
    except MalformedBody as error:
        assert error.status == 400
    else:
        assert isinstance(fields, dict)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"[]", "must be a JSON object"),
        (b'"secret"', "must be a JSON object"),
        (b'{"a": "secret', "not valid JSON"),
        (b'{"a": "secret\xff"}', "not valid UTF-8"),
        (b'{"a": "secret", }', "not valid JSON"),
        (b'{"a": 1e999}', "not valid JSON"),
        (b'{"a": NaN}', "not valid JSON"),
        (b'{"a": "\\ud800"}', "not valid JSON"),
    ],
)
def test_the_refusal_says_what_is_wrong_and_quotes_nothing(body: bytes, words: str) -> None:
    with pytest.raises(MalformedBody) as refusal:
        read_object(body, 8)
    assert words in refusal.value.message
    assert "secret" not in refusal.value.message


def test_fields_keep_their_order_and_the_last_of_two_counts() -> None:
    assert list(read_object(b'\xef\xbb\xbf{"z":1,"a":2,"z":3}', 8).items()) == [("z", 3), ("a", 2)]
