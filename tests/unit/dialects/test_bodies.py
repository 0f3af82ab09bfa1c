"""A body is an object of bounded depth, or it is refused in words that repeat nothing of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.errors import MalformedBody
from modelport.dialects import body as bodies
from modelport.dialects.body import check_counts, check_depth, excess, holds_more, read_object

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


def counts(value: Any) -> tuple[int, int, int]:
    """Containers, names, and commas as `json.dumps` writes them."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    below = [counts(item) for item in inner]
    containers, names, commas = (sum(column) for column in zip(*below, strict=True)) if below else (0, 0, 0)
    own = isinstance(value, dict | list)
    return containers + own, names + len(inner) * isinstance(value, dict), commas + max(0, len(inner) - 1)


@given(values, st.integers(min_value=1, max_value=6), st.booleans(), st.integers(min_value=1, max_value=9))
def test_objects_names_and_values_are_counted_outside_strings_only(
    value: Any, limit: int, is_ascii: bool, window: int
) -> None:
    body = json.dumps(value, ensure_ascii=is_ascii).encode()
    containers, names, commas = counts(value)
    allowed = containers <= limit and names <= 2 * limit and commas <= 8 * limit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "_WINDOW_BYTES", window)  # whatever is cut in two, the counts are the same
        assert (excess(body, limit) is None) == allowed
        assert holds_more(body, limit) == (containers > limit)


FEW = 1000
HOSTILE = {
    "lists beside each other": (b"[" + b"[]," * FEW + b"1]", "objects and lists"),
    "deep lists": (b"[" + (b"[" * 50 + b"]" * 50 + b",") * (FEW // 50) + b"1]", "objects and lists"),
    "objects": (b"[" + b"{}," * FEW + b"1]", "objects and lists"),
    "lists between strings with brackets": (b"[" + b'"[",["["],' * FEW + b"1]", "objects and lists"),
    "names": (b"{" + b",".join(b'"k%d":1' % number for number in range(3 * FEW)) + b"}", "names"),
    "one name again and again": (b"{" + b'"k":1,' * 3 * FEW + b'"k":1}', "names"),
    "numbers": (b"[" + b"1," * 9 * FEW + b"1]", "values"),
    "strings with commas": (b"[" + b'"a, b",' * 9 * FEW + b"1]", "values"),
    "brackets without end": (b"[" * 3 * FEW, "objects and lists"),
}


@pytest.mark.parametrize(("body", "words"), HOSTILE.values(), ids=HOSTILE)
def test_more_than_the_limit_is_refused_and_named(body: bytes, words: str) -> None:
    with pytest.raises(MalformedBody, match=words):
        check_counts(body, FEW)


@pytest.mark.parametrize("text", [b"[{,:]}" * 5 * FEW, b'\\"[' * 5 * FEW, b"\\\\" * 5 * FEW + b"[" * 5 * FEW])
def test_marks_in_a_long_text_count_for_nothing(text: bytes) -> None:
    body = b'{"messages":[{"role":"user","content":"' + text + b'"}]}'
    json.loads(body)
    check_counts(body, FEW)


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
        (b'{"a": "\\ud83d and more"}', "half of a surrogate pair"),
        (b'{"a": "\\ude00"}', "half of a surrogate pair"),
        (b'{"a": "\\ud83d\\ude00', "truncated"),
        (b'{"a": "\\\\ud83d', "truncated"),
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
