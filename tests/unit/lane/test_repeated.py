"""A head that is known again is what a parser would make of it, byte by byte; or it is not known."""

from __future__ import annotations

from typing import Any

import httptools
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from modelport.lane.repeated import VARIABLE, RepeatedHead

RawHeaders = list[tuple[bytes, bytes]]
BODY = b'{"messages":[]}'


class Read:
    """What a fresh parser makes of one read."""

    def __init__(self, data: bytes) -> None:
        self.url = self.body = b""
        self.headers: RawHeaders = []
        self.messages = 0
        self.keeps_alive = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.keeps_alive = self.parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.messages += 1

    @property
    def head(self) -> tuple[bytes, bytes, str, bool, int]:
        """All but the fields."""
        return self.parser.get_method(), self.url, self.parser.get_http_version(), self.keeps_alive, self.messages


def read(data: bytes) -> Read | None:
    """None: it cannot be parsed."""
    try:
        return Read(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None


def learned(data: bytes) -> tuple[RepeatedHead, Read] | None:
    """As lane/protocol.py learns a head: from one read that was one request whose connection is kept."""
    found = read(data)
    if found is None or found.messages != 1 or not found.keeps_alive or not data.endswith(found.body):
        return None
    nothing: Any = None
    head = RepeatedHead.of(data, found.headers, nothing, b"", nothing, 32 * 1024)
    return None if head is None else (head, found)


def agrees(head: RepeatedHead, first: Read, data: bytes) -> bool:
    """Whether it is known again; and then it is what the parser reads."""
    known = head.match(data)
    if known is None:
        return False
    again, body = known
    fresh = read(data)
    assert fresh is not None
    assert fresh.head == first.head
    assert (fresh.body, fresh.headers) == (body, head.headers(again))
    return True


def request(fields: RawHeaders, body: bytes, line: bytes = b"POST /v1/chat/completions HTTP/1.1") -> bytes:
    return b"\r\n".join([line, *(name + b": " + value for name, value in fields), b"", b""]) + body


names = st.sampled_from(
    [
        b"Host",
        b"Authorization",
        b"api-key",
        b"Accept",
        b"X-Request-Id",
        b"x-ms-client-request-id",
        b"X-MS-Client-Request-ID",
        b"traceparent",
        b"Connection",
        b"Transfer-Encoding",
        b"Content-Length",
        b"content-length",
        b"Upgrade",
        b"Expect",
    ]
) | st.from_regex(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}", fullmatch=True)
printable = st.from_regex(rb"[\x21-\x7e]{1,40}", fullmatch=True)
values = (
    printable
    | st.sampled_from(
        [b"", b" ", b"a b", b" a", b"a ", b"\ta", b"close", b"chunked", b"keep-alive", b"12", b"0", b"+1"]
    )
    | st.binary(max_size=20)
    | st.integers(250, 260).map(lambda size: b"x" * size)
)
bodies = st.binary(max_size=60) | st.just(BODY)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Mostly ones that can be learned."""
    body = draw(bodies)
    fields = draw(st.lists(st.tuples(names, values | printable), max_size=6))
    if draw(st.integers(0, 4)):
        decisive = set(VARIABLE) | {b"transfer-encoding", b"upgrade"}
        fields = [field for field in fields if field[0].lower() not in decisive]
        for name in draw(st.sets(st.sampled_from(sorted(set(VARIABLE) - {b"content-length"})))):
            fields.insert(
                draw(st.integers(0, len(fields))), (draw(st.sampled_from([name, name.title()])), draw(printable))
            )
        fields.insert(draw(st.integers(0, len(fields))), (b"Content-Length", b"%d" % len(body)))
    return request(fields, body)


@st.composite
def mutations(draw: st.DrawFn, data: bytes) -> bytes:
    """The same bytes but for a few."""
    for _ in range(draw(st.integers(1, 3))):
        near = draw(st.sampled_from([0, *(data.find(name) + len(name) for name in (b"equest-Id: ", b"parent: "))]))
        start = min(len(data), max(0, near) + draw(st.integers(0, 8) | st.integers(0, len(data))))
        end = min(len(data), start + draw(st.integers(0, 4)))
        piece = draw(
            st.sampled_from([b"", b"\r\n", b"\n", b"\r", b" ", b":", b"\0", b"0", b"1", b"\r\n\r\n", b"\xff"])
            | st.binary(max_size=6)
            | printable
        )
        data = data[:start] + piece + data[end:]
    return data


def with_values(data: bytes, changes: dict[bytes, bytes], body: bytes) -> bytes:
    """The request with other values of the fields that may differ, and another body."""
    lines = data[: data.index(b"\r\n\r\n")].split(b"\r\n")
    for index, line in enumerate(lines[1:], 1):
        name = line.partition(b":")[0]
        if name.lower() == b"content-length":
            lines[index] = name + b": %d" % len(body)
        elif name.lower() in changes:
            lines[index] = name + b": " + changes[name.lower()]
    return b"\r\n".join([*lines, b"", b""]) + body


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_mutated_request_is_what_a_fresh_parser_makes_of_it(data: st.DataObject) -> None:
    sent = data.draw(requests())
    found = learned(sent)
    assume(found is not None)
    assert found is not None
    assert agrees(*found, sent)
    agrees(*found, data.draw(mutations(sent)))


@settings(max_examples=300, deadline=None)
@given(requests(), st.dictionaries(st.sampled_from(sorted(VARIABLE)), values), bodies, st.booleans())
@example(request([(b"Content-Length", b"15"), (b"x-request-id", b"1")], BODY), {b"x-request-id": b"x" * 256}, b"", True)
def test_other_values_and_bodies_are_what_a_fresh_parser_makes_of_them(
    sent: bytes, changes: dict[bytes, bytes], body: bytes, is_odd: bool
) -> None:
    found = learned(sent)
    assume(found is not None)
    assert found is not None
    changed = with_values(sent, changes, body)
    is_fit = all(len(value) <= 256 and value.isascii() and value.decode().isprintable() for value in changes.values())
    is_known = agrees(*found, changed)
    if is_fit and all(value and b" " not in value for value in changes.values()):
        assert is_known
    if is_odd:
        agrees(*found, changed + b"x")
        agrees(*found, changed[:-1])
        agrees(*found, b"\r\n" + changed)


def test_a_longer_and_a_shorter_body_are_known() -> None:
    fields = [(b"Host", b"x"), (b"X-Ms-Client-Request-Id", b"a"), (b"Content-Length", b"15"), (b"Accept", b"*/*")]
    found = learned(request(fields, BODY))
    assert found is not None
    for body, id in ((b"", b"b"), (BODY * 100, b"c" * 200), (b"\r\n\r\n", b'"%"')):
        fields[1:3] = [(b"X-Ms-Client-Request-Id", id), (b"Content-Length", b"%d" % len(body))]
        sent = request(fields, body)
        assert agrees(*found, sent)
        known = found[0].match(sent)
        assert known is not None
        assert (known[0][found[0].client] if found[0].client else b"") == id


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Authorization: k", b"Authorization: K"),
        (b"POST /", b"POST /x"),
        (b"POST ", b"PUT "),
        (b"Content-Length: 15", b"Content-Length: 14"),
        (b"Content-Length: 15", b"Content-Length: 16"),
        (b"Content-Length: 15", b"Content-Length:  15"),
        (b"Content-Length: 15", b"content-length: 15"),
        (b"Content-Length: 15", b"Content-Length: 15\r\nX: 1"),
        (b"Content-Length: 15", b"Content-Length: 15\r\nConnection: close"),
        (b"Content-Length: 15", b"Content-Length: 15\r\nContent-Length: 15"),
        (b"Content-Length: 15", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 15", b"Content-Length: +15"),
        (b"Content-Length: 15", b"Content-Length: 1_5"),
        (b"x-request-id: 1", b"x-request-id: 1\r\nConnection: close"),
        (b"x-request-id: 1", b"x-request-id: 1\rX: 2"),
        (b"x-request-id: 1", b"x-request-id: 1\nX: 2"),
        (b"x-request-id: 1", b"x-request-id: "),
        (b"x-request-id: 1", b"x-request-id: 1 "),
        (b"x-request-id: 1", b"x-request-id: \xc3\xbc"),
        (b"x-request-id: 1", b"x-request-id: " + b"1" * 257),
        (b"\r\n\r\n", b"\r\n\r\n\r\n"),
        (b"\r\n", b"\n"),
    ],
)
def test_what_may_not_differ_is_not_known(old: bytes, new: bytes) -> None:
    fields = [(b"Authorization", b"k"), (b"x-request-id", b"1"), (b"Content-Length", b"15"), (b"Accept", b"*/*")]
    sent = request(fields, BODY)
    found = learned(sent)
    assert found is not None
    assert old in sent
    assert found[0].match(sent.replace(old, new, 1)) is None


@pytest.mark.parametrize(
    "sent",
    [
        request([(b"Host", b"x")], b""),
        request([(b"Content-Length", b"15"), (b"x-request-id", b"1"), (b"X-Request-Id", b"2")], BODY),
        request([(b"Content-Length", b"15"), (b"x-request-id", b"")], BODY),
        request([(b"Content-Length", b"15"), (b"x-request-id", b"a b")], BODY),
        request([(b"Content-Length", b"15"), (b"x-request-id", b"a ")], BODY),
        request([(b"Content-Length", b"015 ")], BODY),
        request([(b"Transfer-Encoding", b"chunked")], b"f\r\n" + BODY + b"\r\n0\r\n\r\n"),
        b"\r\n" + request([(b"Content-Length", b"15")], BODY),
        request([(b"Content-Length", b"15")], BODY).replace(b": ", b":"),
    ],
)
def test_a_head_that_is_not_of_the_simplest_form_is_not_learned(sent: bytes) -> None:
    assert read(sent) is not None
    assert learned(sent) is None
