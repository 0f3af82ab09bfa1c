"""An answer's bytes, as uvicorn and the doors would write them: the same heads in the same order, the same chunks."""

from __future__ import annotations

import socket
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from modelport.core.errors import ModelportError, RouteNotFound
from modelport.core.requests import Request
from modelport.gateway.call import CallHead, Origin
from modelport.lane.heads import AnswerHeads, numbers
from modelport.lane.http10 import NO_RESET, RESET
from modelport.lane.lane import Connection, Lane
from modelport.lane.repeated import Repetition
from modelport.lane.ways import Way
from modelport.surfaces import cors
from modelport.surfaces.answer import STREAM_HEADERS, answer_headers
from modelport.surfaces.app import refusal
from modelport.surfaces.asgi import EVENT_STREAM, JSON, Headers
from modelport.surfaces.headers import RequestHead, common_headers, fields_of
from modelport.upstream.wire import RawHeaders

COPIED_BYTES: Final = 16 * 1024
KEPT_HEADS: Final = 16
LAST_CHUNK: Final = b"0\r\n\r\n"


class Reply:
    """gateway.call.Reply on its connection. To uvicorn it is the connection's cycle until it is complete."""

    __slots__ = (
        "_client_request_id",
        "_connection",
        "_has_chunks",
        "_headers",
        "_id",
        "_known_head",
        "_lane",
        "_pieces",
        "_unwritten",
        "_way",
        "keep_alive",
        "response_complete",
        "response_started",
    )

    def __init__(
        self,
        lane: Lane,
        connection: Connection,
        way: Way,
        headers: RawHeaders | Repetition,
        id: str,
        client_request_id: str | None,
        keep_alive: bool,
        has_chunks: bool = True,
    ) -> None:
        """`headers`: the fields of the request's head."""
        self._lane = lane
        self._connection = connection
        self._way = way
        self._headers = headers
        self._id = id
        self._client_request_id = client_request_id
        self.keep_alive = keep_alive
        """Cleared by uvicorn when it shuts down."""
        self._has_chunks = has_chunks
        """HTTP/1.0 has none: there a stream ends with the connection."""
        self._pieces: list[bytes] = []
        self._unwritten = b""
        self._known_head: RequestHead | None = None
        self.response_started = self.response_complete = False

    @property
    def head(self) -> RequestHead:
        """Of the request."""
        if self._known_head is None:
            headers = self._headers
            if isinstance(headers, tuple):
                headers = headers[0].headers(headers[1])
            self._known_head = RequestHead(
                method="POST",
                path=self._way.path,
                headers=fields_of(headers),
                query=self._way.query,
                request_id=self._id,
                link=self._connection.link,
            )
        return self._known_head

    def call_head(self) -> CallHead:
        """gateway.call.Arrival"""
        return head_of(self._lane, self._way, self.head)

    def whole(self, body: bytes, origin: Origin) -> None:
        """gateway.call.Reply"""
        if origin.dropped or origin.load_seconds is not None:
            about = answer_headers(origin)
            about.append((b"content-length", b"%d" % len(body)))
            head = self._begun(200, JSON, about)
        else:
            head = self._formed(len(body), origin)
        if len(body) > COPIED_BYTES:
            self._connection.transport.writelines([head, body])
        else:
            self._connection.transport.write(head + body)
        self._over()

    def _formed(self, length: int, origin: Origin) -> bytes:
        """The same head, filled in."""
        lane, quota, fields = self._lane, origin.quota, self._connection.server_state.default_headers
        limits = (quota.limit_requests, quota.limit_tokens)
        heads: AnswerHeads | None = origin.kept.get(limits)
        if heads is None or heads.fields is not fields:
            said, closes = lane.default_headers(fields)
            origins = lane.options.cors_origins
            heads = AnswerHeads.of(self.head, origin, fields, said, closes, lane.region, origins)
            if len(origin.kept) >= KEPT_HEADS:
                origin.kept.clear()
            origin.kept[limits] = heads
        form = heads.kept
        if form is None or lane.gateway.draining or not self.keep_alive:
            self.keep_alive, form = False, heads.closing
        self.response_started = True
        id, echoed = self._id.encode(), self._client_request_id
        client, reset, of_tokens = (
            id if echoed is None else echoed.encode(),
            quota.reset_seconds,
            quota.remaining_tokens,
        )
        if quota.remaining_requests is None or of_tokens is None:
            return form % (id, id, client, *numbers(quota), length)
        tokens_reset = reset if quota.reset_tokens_seconds is None else quota.reset_tokens_seconds
        return form % (id, id, client, quota.remaining_requests, reset, of_tokens, tokens_reset, length)

    def stream(self, origin: Origin) -> None:
        """gateway.call.Reply"""
        about = answer_headers(origin)
        about += STREAM_HEADERS
        if not self._has_chunks:
            self.keep_alive = False
            self._linger(RESET)  # a client that reads until the end must not take a broken answer for a whole one
        self._unwritten = self._begun(200, EVENT_STREAM, about, is_chunked=self._has_chunks)

    def piece(self, data: bytes) -> None:
        """More of a stream. What one read of the target gives is one write to the client: `flush` makes it."""
        self._pieces.append(data)

    def flush(self) -> None:
        """Writes the pieces."""
        if self._unwritten or self._pieces:
            self._connection.transport.write(self._pending())

    def last(self, data: bytes) -> None:
        """The end of a stream."""
        self._pieces.append(data)
        if self._has_chunks:
            self._connection.transport.write(self._pending() + LAST_CHUNK)
        else:
            self._connection.transport.write(self._pending())
            self._linger(NO_RESET)
        self._over()

    def _linger(self, option: bytes) -> None:
        connection: Any = self._connection.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)

    def _pending(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        if self._has_chunks and not self._unwritten and len(pieces) == 1 and pieces[0]:
            return b"%x\r\n%b\r\n" % (len(pieces[0]), pieces[0])
        head, self._unwritten = self._unwritten, b""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if not self._has_chunks:
            return head + data
        return b"%b%x\r\n%b\r\n" % (head, len(data), data) if data else head

    def refuse(self, error: ModelportError) -> None:
        """The error in the surface's own words, instead of an answer."""
        said = refusal(error, self.head, self._way.door, self._way.inference.operation)
        more = [*said.headers, (b"content-length", b"%d" % len(said.body))]
        self._connection.transport.write(self._begun(said.status, JSON, more) + said.body)
        self._over()

    def cut(self, last_word: bytes) -> None:
        """Breaks a stream off: an error chunk, and no end."""
        self._pieces.append(last_word)
        self._connection.transport.write(self._pending())
        self.keep_alive = False
        self._over()

    def abandoned(self) -> None:
        """Nobody is there any more."""
        self._unwritten, self._pieces = b"", []
        self.response_complete = True

    def _begun(self, status: int, content_type: bytes, more: Headers, *, is_chunked: bool = False) -> bytes:
        """The head, from status line to empty line."""
        lane, head = self._lane, self.head
        self.response_started = True
        dates, closes = lane.default_headers(self._connection.server_state.default_headers)
        parts = [STATUS_LINE[status], dates]
        for name, value in common_headers(head, lane.region):
            parts += (name, b": ", value, b"\r\n")
        parts += (b"content-type: ", content_type, b"\r\n")
        for name, value in more:
            parts += (name, b": ", value, b"\r\n")
        if lane.options.cors_origins:
            for name, value in cors.answer_headers(head, lane.options.cors_origins):
                parts += (name, b": ", value, b"\r\n")
        if lane.gateway.draining or closes:
            self.keep_alive = False
        if not self.keep_alive and not closes:
            parts.append(b"connection: close\r\n")
        parts.append(b"transfer-encoding: chunked\r\n\r\n" if is_chunked else b"\r\n")
        return b"".join(parts)

    def _over(self) -> None:
        self.response_complete = True
        if not self.keep_alive:
            self._connection.transport.close()


def head_of(lane: Lane, way: Way, head: RequestHead) -> CallHead:
    """What the head of a call says, in our words."""
    inference, limits = way.inference, lane.options.limits
    speech = inference.speech()
    read = speech.reader(limits.json_containers, limits.json_depth)

    def read_in_version(body: bytes) -> Request:
        # Only now, so that an unauthenticated caller learns nothing about versions.
        if without_fields(way).api_version is None:
            raise RouteNotFound
        return read(body)

    return CallHead(
        operation=inference.operation,
        surface=way.door.surface,
        credential=head.credential,
        selector=inference.selector(head, way.parameters),
        decode=read_in_version if way.has_odd_version else read,
        speech=speech,
        reasoning=way.reasoning,
        extra_parameters=head.extra_parameters if inference.checks_extras else None,
        checks_extras=inference.checks_extras,
        explains=head.explains,
    )


def without_fields(way: Way) -> RequestHead:
    """What the URL alone says."""
    return RequestHead(method="POST", path=way.path, headers={}, query=way.query, request_id="")
