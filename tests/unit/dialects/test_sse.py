"""The event-stream reader gives the same events however the bytes are cut, and holds no more than it may."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.errors import UpstreamFailed
from modelport.dialects.sse import DONE, EventStreamParser, encode_event


def read(*pieces: bytes) -> list[bytes]:
    parser = EventStreamParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.end()


def test_what_is_written_is_read_back() -> None:
    assert read(encode_event(b'{"a":1}') + DONE) == [b'{"a":1}', b"[DONE]"]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_of_the_standard_is_read(line_end: bytes) -> None:
    assert read(b"data: a" + line_end * 2 + b"data: b" + line_end * 2) == [b"a", b"b"]


def test_comments_and_other_fields_are_read_over() -> None:
    stream = b": ping\n\nevent: delta\nid: 7\nretry: 100\ndata: a\n\n:\nunknown\ndata:b\n\n"
    assert read(stream) == [b"a", b"b"]


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"])
def test_a_line_end_inside_of_an_object_ends_nothing(line_end: bytes) -> None:
    stream = b'data: {"a":"b' + line_end + b'c"}\n\ndata: {"d":\n: ping\nid: 7\ndata: 1}\nunknown\n\n'
    assert EventStreamParser().feed(stream) == [b'{"a":"b\nc"}', b'{"d":\n1}']


def test_data_lines_of_one_event_are_joined_with_a_newline() -> None:
    assert read(b"data: {\ndata:  x\ndata\ndata: }\n\n") == [b"{\n x\n\n}"]


def test_an_event_without_data_is_none() -> None:
    assert read(b"event: ping\ndata:\n\ndata: a\n\n") == [b"a"]


def test_a_byte_order_mark_at_the_start_is_dropped() -> None:
    assert read(b"\xef\xbb", b"\xbfdata: a\n\n") == [b"a"]


def test_the_last_event_may_lack_its_empty_line() -> None:
    assert read(b"data: a\n\ndata: [DONE]") == [b"a", b"[DONE]"]
    assert read(b"data: a\n\ndata: [DONE]\n") == [b"a", b"[DONE]"]


def test_events_come_out_as_soon_as_their_empty_line_is_there() -> None:
    parser = EventStreamParser()
    assert parser.feed(b"data: a\r\n\r") == [b"a"]
    assert parser.feed(b"\ndata: b\n\n") == [b"b"]


def test_an_endless_line_is_refused() -> None:
    parser = EventStreamParser(max_event_bytes=100)
    with pytest.raises(UpstreamFailed):
        for _ in range(200):
            parser.feed(b"x")


def test_endless_data_lines_are_refused() -> None:
    parser = EventStreamParser(max_event_bytes=100)
    with pytest.raises(UpstreamFailed):
        for _ in range(200):
            parser.feed(b"data: x\n")


def test_many_events_may_be_longer_than_the_limit_together() -> None:
    parser = EventStreamParser(max_event_bytes=20)
    assert sum(len(parser.feed(b"data: 0123456789\n\n")) for _ in range(50)) == 50


lines = st.one_of(
    st.binary(max_size=12).map(lambda value: b"data: " + value),
    st.sampled_from([b"", b"", b"data", b"data:", b": note", b"event: x", b"id: 1", b"\xef\xbb\xbfdata: y"]),
)
streams = st.lists(st.tuples(lines, st.sampled_from([b"\n", b"\r\n", b"\r"]))).map(
    lambda parts: b"".join(line + end for line, end in parts)
)


@given(streams, st.lists(st.integers(min_value=0, max_value=400)))
def test_any_cutting_gives_the_same_events(stream: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[start:stop] for start, stop in pairwise(places)]
    assert read(*pieces) == read(stream) == read(*(stream[i : i + 1] for i in range(len(stream))))


@given(st.lists(st.binary(min_size=1).filter(lambda data: b"\n" not in data and b"\r" not in data)))
def test_any_payloads_survive_writing_and_reading(payloads: list[bytes]) -> None:
    assert read(b"".join(map(encode_event, payloads))) == payloads
