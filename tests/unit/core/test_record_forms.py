"""A form, filled in, is the row that its values were taken from."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.record_forms import RecordForm

encode = msgspec.json.Encoder().encode
words = st.text(st.characters(exclude_categories=("Cs",)), max_size=6) | st.sampled_from(
    ["%", "%b", "%%", '"', "],[", "\\", "\n", "ü", "null"]
)
values = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | words | st.floats(allow_nan=False)
rows = st.lists(values | st.lists(values, max_size=3) | st.dictionaries(words, values, max_size=3), max_size=12)


@given(rows, st.data())
def test_what_is_taken_out_and_filled_in_again_is_what_it_was(row: list[object], data: st.DataObject) -> None:
    places = sorted(data.draw(st.sets(st.sampled_from(range(len(row)))) if row else st.just(set())))
    shared = [None if index in places else value for index, value in enumerate(row)]
    form = RecordForm(encode(shared), places)
    assert form.filled(encode([row[place] for place in places])) == encode(row)


@pytest.mark.parametrize("places", [(3,), (-1,), (1, 0), (1, 1)])
def test_places_that_are_none_are_refused(places: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a row of 3 values has no places"):
        RecordForm(b"[1,2,3]", places)


@pytest.mark.parametrize("values", [b"[]", b"[1]", b"[1,2,3]", b"[[1,2]]"])
def test_as_many_values_as_places(values: bytes) -> None:
    with pytest.raises(ValueError, match="for 2 places"):
        RecordForm(b"[1,2,3]", (0, 2)).filled(values)


@pytest.mark.parametrize("row", [b"", b"{}", b"[1", b"1"])
def test_what_is_no_row_makes_no_form(row: bytes) -> None:
    with pytest.raises((ValueError, msgspec.DecodeError)):
        RecordForm(row, ())
