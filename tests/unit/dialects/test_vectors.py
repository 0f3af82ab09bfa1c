"""Vectors in every encoding: exact where they can be, in Cohere's shapes where not."""

from __future__ import annotations

import base64
import json
import math
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.dialects.vectors import dimensions, encode_vector, number_list

floats = st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=40)


def packed(*components: float) -> bytes:
    return struct.pack(f"<{len(components)}f", *components)


@given(floats)
def test_floats_and_base64_are_exact(components: list[float]) -> None:
    vector = packed(*components)
    assert encode_vector(vector, "float") == components
    assert base64.b64decode(encode_vector(vector, "base64"), validate=True) == vector


@given(floats)
def test_a_list_of_numbers_passes_as_it_was_written(components: list[float]) -> None:
    text = json.dumps(components).encode()
    vector = number_list(text)
    assert vector is not None
    assert dimensions(vector) == len(components)
    assert bytes(encode_vector(vector, "float")) == text.replace(b" ", b"")
    assert dimensions(packed(*components)) == len(components)
    for encoding_format in ("base64", "int8", "ubinary"):
        assert encode_vector(vector, encoding_format) == encode_vector(packed(*components), encoding_format)


@given(st.lists(st.sampled_from(["1", "-0.5", "2.5e-07", "1E-3", "9" * 38, "0." + "1" * 37, " 7\n"]), min_size=1))
def test_other_ways_of_writing_numbers_pass_too(numbers: list[str]) -> None:
    text = f"[{','.join(numbers)}]".encode()
    vector = number_list(text)
    assert vector is not None
    assert dimensions(vector) == len(numbers)
    assert encode_vector(vector, "base64") == encode_vector(packed(*map(float, numbers)), "base64")


@given(st.lists(st.sampled_from([*'019.,-+eE[]{}:" ntx', "e-", "null", "1e39"]), max_size=50).map("".join))
def test_what_passes_unread_is_finite(text: str) -> None:
    try:
        value = msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError:
        return
    if (found := number_list(bytes(value))) is not None:
        numbers = msgspec.json.decode(text, type=list[float])
        assert dimensions(found) == len(numbers) > 0
        packed(*numbers)


@pytest.mark.parametrize(
    "json", ["[]", "[[1]]", '["1"]', "[null]", "[NaN]", "[1e39]", "[1e9]", f"[{10**38}]", "1", '"AAAA"', "{}", "[true]"]
)
def test_what_may_be_no_list_of_numbers_has_to_be_read(json: str) -> None:
    assert number_list(json.encode()) is None


def test_integers_scale_to_the_largest_component() -> None:
    assert encode_vector(packed(0.5, -1.0, 0.25, 0.0), "int8") == [64, -127, 32, 0]
    assert encode_vector(packed(0.5, -1.0, 0.25, 0.0), "uint8") == [192, 1, 160, 128]
    assert encode_vector(packed(0.0, 0.0), "int8") == [0, 0]


def test_signs_are_packed_with_the_first_dimension_highest() -> None:
    vector = packed(1, -1, 0, 0.1, -2, -2, -2, 3, 5, -5)
    assert encode_vector(vector, "ubinary") == [0b10010001, 0b10000000]
    assert encode_vector(vector, "binary") == [0b10010001 - 128, 0]


@given(floats)
def test_ranges_and_lengths_are_coheres(components: list[float]) -> None:
    vector = packed(*components)
    assert all(-127 <= each <= 127 for each in encode_vector(vector, "int8"))
    assert all(0 <= each <= 255 for each in encode_vector(vector, "uint8"))
    assert len(encode_vector(vector, "int8")) == len(components)
    assert all(-128 <= each <= 127 for each in encode_vector(vector, "binary"))
    assert len(encode_vector(vector, "ubinary")) == math.ceil(len(components) / 8)


def test_directions_survive_eight_bits() -> None:
    components = [math.sin(i) / 20 for i in range(384)]
    scaled = encode_vector(packed(*components), "int8")
    cosine = sum(a * b for a, b in zip(components, scaled, strict=True)) / (
        math.hypot(*components) * math.hypot(*scaled)
    )
    assert cosine == pytest.approx(1.0, abs=1e-4)
