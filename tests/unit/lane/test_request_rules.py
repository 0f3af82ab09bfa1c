"""Heads that RFC 9110 and RFC 9112 forbid, over raw sockets: refused with a reason, and the connection closes."""

from __future__ import annotations

import json

import pytest

from raw_http import exchange, serving

NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def get(*fields: str, version: str = "HTTP/1.1", target: str = "/") -> bytes:
    return "\r\n".join([f"GET {target} {version}", *fields, "", ""]).encode("latin-1")


def post(*fields: str, body: bytes = b"", version: str = "HTTP/1.1") -> bytes:
    return "\r\n".join([f"POST / {version}", "Host: x", *fields, "", ""]).encode("latin-1") + body


CHUNKS = b"2\r\nhi\r\n0\r\n\r\n"
REFUSED = {
    "no host": (get(), 400),
    "an empty host": (get("Host:"), 400),
    "a host of blanks": (get("Host:   "), 400),
    "two hosts": (get("Host: a", "Host: b"), 400),
    "the same host twice": (get("Host: a", "Host: a"), 400),
    "two hosts in 1.0": (get("Host: a", "Host: b", version="HTTP/1.0"), 400),
    "two hosts in one field": (get("Host: a, b"), 400),
    "a host with user information": (get("Host: me@a"), 400),
    "a host with a path": (get("Host: a/b"), 400),
    "a host with a query": (get("Host: a?b"), 400),
    "a host with a space": (get("Host: a b"), 400),
    "a host in brackets that do not close": (get("Host: [::1"), 400),
    "a host with a port that is no number": (get("Host: a:http"), 400),
    "a host with other bytes": (get("Host: \xe9"), 400),
    "a version to come": (get("Host: a", version="HTTP/1.2"), 505),
    "HTTP/2 in words": (get("Host: a", version="HTTP/2.0"), 505),
    "HTTP/2's preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 9, 505),
    "HTTP/0.9 in words": (get("Host: a", version="HTTP/0.9"), 505),
    "HTTP/0.9": (b"GET /\r\n\r\n", 505),
    "HTTP/3": (get("Host: a", version="HTTP/3.0"), 505),
    "no version": (get("Host: a", version="HTTP"), 400),
    "another protocol": (get("Host: a", version="http/1.1"), 400),
    "gzip, chunked": (post("Transfer-Encoding: gzip, chunked", body=CHUNKS), 501),
    "gzip and chunked in two fields": (
        post("Transfer-Encoding: gzip", "Transfer-Encoding: chunked", body=CHUNKS),
        501,
    ),
    "gzip alone": (post("Transfer-Encoding: gzip", body=CHUNKS), 400),
    "identity": (post("Transfer-Encoding: identity", body=CHUNKS), 400),
    "chunked twice": (post("Transfer-Encoding: chunked, chunked", body=CHUNKS), 400),
    "chunked in two fields": (post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=CHUNKS), 400),
    "chunked and then gzip": (post("Transfer-Encoding: chunked, gzip", body=CHUNKS), 400),
    "chunked with a mark": (post("Transfer-Encoding: xchunked", body=CHUNKS), 400),
    "an empty coding": (post("Transfer-Encoding:", body=CHUNKS), 400),
    "chunked in 1.0": (post("Transfer-Encoding: chunked", body=CHUNKS, version="HTTP/1.0"), 400),
    "chunks and a length": (post("Transfer-Encoding: chunked", "Content-Length: 12", body=CHUNKS), 400),
    "a length and chunks": (post("Content-Length: 12", "Transfer-Encoding: chunked", body=CHUNKS), 400),
    "TE with chunked": (get("Host: a", "TE: gzip, chunked", "Connection: TE"), 400),
    "a length twice": (post("Content-Length: 2", "Content-Length: 2", body=b"hi"), 400),
    "two lengths in one field": (post("Content-Length: 2, 2", body=b"hi"), 400),
    "a signed length": (post("Content-Length: +2", body=b"hi"), 400),
    "an empty length": (post("Content-Length:", body=b"hi"), 400),
    "a folded field": (get("Host: a", "X: b", " c"), 400),
    "a folded first field": (get(" Host: a"), 400),
    "a space before the colon": (get("Host: a", "X : b"), 400),
    "a field without a name": (get("Host: a", ": b"), 400),
    "a line feed in a value": (get("Host: a", "X: b\nc: d"), 400),
    "a carriage return in a value": (get("Host: a", "X: b\rc"), 400),
    "a zero in a value": (get("Host: a", "X: b\0c"), 400),
    "a control character in a value": (get("Host: a", "X: b\x01c"), 400),
    "a delete character in a value": (get("Host: a", "X: b\x7fc"), 400),
    "a separator in a name": (get("Host: a", "X(y): b"), 400),
    "another host in the target": (get("Host: a", target="http://b/"), 400),
    "user information in the target": (get("Host: a", target="http://me@a/"), 400),
    "another port in the target": (get("Host: a:1", target="http://a:2/"), 400),
    "another scheme": (get("Host: a", target="ftp://a/"), 400),
    "a target that is only a host": (get("Host: a", target="http://a"), 400),
    "a fragment": (get("Host: a", target="/#x"), 400),
    "a fragment of an absolute target": (get("Host: a", target="http://a/#x"), 400),
    "a relative target": (get("Host: a", target="x"), 400),
    "a star for GET": (get("Host: a", target="*"), 400),
    "other bytes in the target": (get("Host: a", target="/\xe9"), 400),
    "a chunk's size that is no number": (post("Transfer-Encoding: chunked", body=b"zz\r\n"), 400),
    "a line feed after a chunk's size": (post("Transfer-Encoding: chunked", body=b"2\nhi\r\n0\r\n\r\n"), 400),
    "a chunk that is longer than its size": (post("Transfer-Encoding: chunked", body=b"1\r\nhi\r\n0\r\n\r\n"), 400),
}


@pytest.mark.parametrize(("request_", "status"), REFUSED.values(), ids=REFUSED)
async def test_what_a_head_must_not_say_is_refused_and_ends_the_connection(request_: bytes, status: int) -> None:
    async with serving() as port:
        answer = await exchange(port, request_ + NEXT)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1 ") == 1
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nconnection: close" in head
    assert json.loads(body)["error"]["message"]


ACCEPTED = {
    "a port": get("Host: a:8080"),
    "an empty port": get("Host: a:"),
    "an address": get("Host: 127.0.0.1:80"),
    "an IPv6 address": get("Host: [::1]:80"),
    "blanks around a host": get("Host: \t a \t"),
    "a dot at the end": get("Host: a."),
    "an underscore": get("Host: a_b.c"),
    "the same host in the target": get("Host: A:1", target="http://a:1/"),
    "a star for OPTIONS": get("Host: a", target="*").replace(b"GET", b"OPTIONS"),
    "TE with trailers": get("Host: a", "TE: trailers, deflate;q=0.5", "Connection: TE"),
    "chunked in capitals": post("Transfer-Encoding: Chunked", body=CHUNKS),
    "a length with blanks": post("Content-Length: 2 ", body=b"hi"),
    "no host in 1.0": get(version="HTTP/1.0"),
    "empty lines before a request": b"\r\n\r\n" + get("Host: a"),
    "an expectation in 1.0": post("Expect: 100-continue", "Content-Length: 2", body=b"hi", version="HTTP/1.0"),
}


@pytest.mark.parametrize("request_", ACCEPTED.values(), ids=ACCEPTED)
async def test_what_a_head_may_say_is_answered(request_: bytes) -> None:
    async with serving() as port:
        answer = await exchange(port, request_ + NEXT)
    assert answer.startswith(b"HTTP/1.1 200 ")
    is_old = b"HTTP/1.0" in request_
    assert answer.count(b"HTTP/1.1 ") == (1 if is_old else 2)


@pytest.mark.parametrize("name", ["no host", "HTTP/2 in words", "gzip, chunked", "chunked in 1.0", "two hosts"])
async def test_the_rules_hold_for_later_requests_of_a_connection(name: str) -> None:
    request_, status = REFUSED[name]
    async with serving() as port:
        answer = await exchange(port, get("Host: a") + request_ + NEXT)
    first, _, second = answer.partition(b"}HTTP/1.1 ")
    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"%d " % status)
    assert b"/next" not in second
