"""The call that nearly all are: a chat of texts, answered whole by the one target, with nothing in the way.

    start → (journal written) → ask → answer → (journal written) → finish

It is driver.LaneCall in a few steps instead of many, with what `lane/standing.py` knows beforehand. Whatever turns out
differently (another status, an answer that is not one text, a time-out, a client that goes) becomes a LaneCall at that
moment, with all that was taken until then; so how calls fail is written in one place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from modelport.core.answers import AnswerHead, ChatAnswer, ChatChoice
from modelport.core.errors import ModelportError
from modelport.core.ports import NeedsWaiting, QuotaRefusal, QuotaState, Refusal, Reservation, UpstreamRequest
from modelport.core.usage import TokenUsage, UsageSource
from modelport.dialects import fresh_ids
from modelport.dialects.plain_chat import PlainAnswer
from modelport.gateway.estimate import MESSAGE_TOKENS, RESERVED_BYTES_PER_TOKEN, byte_length
from modelport.gateway.forms import client_json, encoded, price_json, usage_json
from modelport.lane.driver import LaneCall, raised
from modelport.lane.lane import Connection, Lane
from modelport.lane.standing import MEANINGLESS, NO_REQUEST, answer_form, lines
from modelport.lane.ways import Way
from modelport.surfaces.headers import ECHOABLE, quota_headers
from modelport.upstream.wire import Exchange, RawHeaders

DAY_SECONDS: Final = 86_400
CLIENT_REQUEST_ID: Final = b"x-ms-client-request-id"
BEGINNING: Final = b"HTTP/1.1 200 OK\r\n%bx-request-id: %b\r\napim-request-id: %b\r\nx-ms-client-request-id: %b\r\n%b"
QUOTA: Final = (
    b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\nx-ratelimit-reset-requests: %d\r\n"
    b"x-ratelimit-limit-tokens: %d\r\nx-ratelimit-remaining-tokens: %d\r\nx-ratelimit-reset-tokens: %d\r\n"
)
COPIED_BYTES: Final = 16 * 1024


class PlainCall:
    """upstream.wire.Receiver, lane.Waiting, and to uvicorn the cycle of its connection."""

    __slots__ = (
        "_answer",
        "_asked",
        "_client_json",
        "_connection",
        "_covered_tokens",
        "_has_begun",
        "_lane",
        "_next",
        "_pieces",
        "_quota",
        "_standing",
        "_successor",
        "_way",
        "body",
        "client_request_id",
        "deadline",
        "exchange",
        "headers",
        "id",
        "is_settled",
        "keep_alive",
        "reservation",
        "response_complete",
        "response_started",
        "started",
        "started_at",
    )

    reservation: Reservation
    _answer: bytes
    _quota: QuotaState

    def __init__(self, lane: Lane, connection: Connection, way: Way, headers: RawHeaders, keep_alive: bool) -> None:
        self._lane = lane
        self._connection = connection
        self._way = way
        self.headers = headers
        self.keep_alive = keep_alive
        """Cleared by uvicorn when it shuts down."""
        self.response_started = self.response_complete = self.is_settled = self._has_begun = False
        self.exchange: Exchange | None = None
        self._pieces: list[bytes] = []
        self._next: Callable[[], None] = self._ask
        """What to do once the journal's lines are written."""
        self._successor: LaneCall | None = None
        """What this has become."""

    # --- before anything is taken ------------------------------------------------------------------------------------

    def start(self, body: bytes) -> bool:
        """Takes the call as far as its reservation and its journal line; False: nothing is taken."""
        lane, way = self._lane, self._way
        pipeline = lane.pipeline
        if way.plain is None or lane.gateway.draining:
            return False
        asked = way.plain(body)
        if asked is None:
            return False
        said, words = b"", [way.url]
        for header in self.headers:
            name = header[0]
            if name not in MEANINGLESS:
                words += header
            elif name == CLIENT_REQUEST_ID and not said:
                said = header[1]
        standing = lane.standings.find(way, words, self.headers, asked.model, pipeline.snapshot())
        started_at = pipeline.clock.now()
        if standing is None or started_at >= standing.expires_at:
            return False
        if standing.rules and not all(rule.allows(getattr(asked, rule.name)) for rule in standing.rules):
            return False
        if standing.readiness is not None and standing.readiness() is not None:
            return False
        admissions = pipeline.quota
        self.client_request_id = said.decode() if said and ECHOABLE.fullmatch(said) else None
        if admissions.queue or (admissions.failures and self.client_request_id is not None):
            return False  # somebody goes first, or this may be a repeat
        prompt = -(-len(body) // RESERVED_BYTES_PER_TOKEN) + MESSAGE_TOKENS * (len(asked.messages) + 1)
        completion = asked.max_tokens
        self._covered_tokens = -1
        if completion is None:
            completion = self._covered_tokens = standing.step_beside(prompt)
        started = pipeline.clock.monotonic()
        taken = admissions.quota.reserve(standing.subject, standing.limits, prompt + completion, started)
        if isinstance(taken, QuotaRefusal | Refusal | NeedsWaiting):
            return False
        self.id = fresh_ids.uuid()
        self._client_json = client_json(self.client_request_id)
        price = standing.charge_on(started_at).bound(prompt, completion)
        known = (self.id.encode(), started_at, prompt + completion, prompt, completion)
        try:
            pipeline.journal.open_encoded(
                self.id, standing.forms.opened % (*known, self._client_json, price_json(price))
            )
        except OSError:
            taken.cancel()
            return False
        self.started, self.started_at, self.reservation, self.body = started, started_at, taken, body
        self._standing, self._asked = standing, asked
        self.deadline = self._connection.loop.time() + lane.options.limits.request_seconds
        lane.gateway.running += 1
        pipeline.observer.call_started(way.inference.operation, way.door.surface)
        lane.when_written(self)
        return True

    def written(self, failure: ModelportError | None) -> None:
        """lane.Waiting: the lines are with the kernel, so on we go."""
        if self._successor is not None:
            self._successor.written(failure)
        elif failure is not None:
            self.become().written(failure)
        elif not self.response_complete:
            self._guarded(self._next)

    # --- the target --------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        standing, lane = self._standing, self._lane
        address = standing.provider.address
        if address is not standing.address:
            standing.address, standing.pool = address, lane.wire.pool(address)
            said = UpstreamRequest(path=standing.codec.path, body=b"", headers=standing.codec.headers, streamed=False)
            standing.request_head = standing.pool.head(said)
        timeouts = standing.deployment.timeouts
        body = standing.codec.encode(self._asked)
        assert standing.pool is not None
        self.exchange = standing.pool.ask(standing.request_head, body, timeouts, timeouts.whole, self)
        if self._connection.flow.write_paused:
            self.exchange.pause()

    def answer_began(self, status: int, headers: RawHeaders) -> None:
        """upstream.wire.Receiver"""
        if status == 200:
            self._has_begun = True
        else:
            self.become().answer_began(status, headers)

    def answer_grew(self, data: bytes) -> None:
        """upstream.wire.Receiver"""
        self._pieces.append(data)

    def answer_ended(self) -> None:
        """upstream.wire.Receiver"""
        self._guarded(self._answered)

    def answer_failed(self, error: ModelportError) -> None:
        """upstream.wire.Receiver"""
        self.become().answer_failed(error)

    # --- our answer --------------------------------------------------------------------------------------------------

    def _answered(self) -> None:
        standing, pipeline = self._standing, self._lane.pipeline
        pieces = self._pieces
        answer = standing.codec.decode(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if answer is None or answer.usage is None or not self._covers(answer.text):
            call = self.become()
            if not call.has_stopped_asking:
                call.answer_ended()
            return
        usage, reservation = answer.usage, self.reservation
        self._answer = self._written(answer, usage)
        self._quota = reservation.state()
        seconds = pipeline.clock.monotonic() - self.started
        price = standing.charge_on(self.started_at).of(
            usage, UsageSource.REPORTED, "completed", standing.target, seconds
        )
        record = standing.forms.closed % (
            self.id.encode(),
            self.started_at,
            reservation.reserved_tokens,
            usage_json(usage),
            self._client_json,
            price_json(price),
            encoded(answer.model),
            seconds,
            seconds,
        )
        self.exchange = None
        self.is_settled = True
        reservation.settle(usage.total)
        pipeline.journal.close_encoded(self.id, record)
        standing.series.completed(record, usage, reservation.reserved_tokens, seconds)
        self._next = self._finish
        self._lane.when_written(self)

    def _covers(self, text: str) -> bool:
        """Whether what is reserved covers this answer for sure, even where each byte is a token."""
        return self._covered_tokens < 0 or byte_length(text) <= self._covered_tokens

    def _written(self, answer: PlainAnswer, usage: TokenUsage) -> bytes:
        """The answer in the surface's own words."""
        standing = self._standing
        speech, created = standing.speech, math.floor(self._lane.options.clock.now())
        prompt, completion = usage.input, usage.output
        if prompt + completion == usage.total:
            form = standing.answers.get(answer.finish_reason)
            if form is None:
                form = standing.answers[answer.finish_reason] = answer_form(standing, self._way, answer.finish_reason)
            return form % {
                b"id": speech.new_id().encode(),
                b"created": created,
                b"content": encoded(answer.text),
                b"prompt": prompt,
                b"completion": completion,
                b"total": prompt + completion,
            }
        head = AnswerHead(id=speech.new_id(), created=created, model=standing.deployment.answered_name)
        whole = ChatAnswer((ChatChoice(0, answer.text, answer.finish_reason),), usage)
        return speech.whole(head, NO_REQUEST, whole, self._way.reasoning)

    def _finish(self) -> None:
        lane, connection, standing, body, quota = (
            self._lane,
            self._connection,
            self._standing,
            self._answer,
            self._quota,
        )
        self.response_started = self.response_complete = True
        dates, closes = lane.default_headers(connection.server_state.default_headers)
        id = self.id.encode()
        echoed = self.client_request_id or fresh_ids.uuid()
        if quota.limit_requests is not None and quota.limit_tokens is not None:
            reset = quota.reset_seconds
            left = QUOTA % (
                quota.limit_requests,
                quota.remaining_requests,
                reset,
                quota.limit_tokens,
                quota.remaining_tokens,
                reset,
            )
        else:
            left = lines(quota_headers(quota))
        if lane.gateway.draining or closes:
            self.keep_alive = False
        last = b"\r\n" if self.keep_alive or closes else b"connection: close\r\n\r\n"
        beginning = BEGINNING % (dates, id, id, echoed.encode(), standing.before)
        head = b"%b%b%b%d%b%b" % (beginning, left, standing.between, len(body), standing.after, last)
        if len(body) > COPIED_BYTES:
            connection.transport.writelines([head, body])
        else:
            connection.transport.write(head + body)
        if not self.keep_alive:
            connection.transport.close()
        self._over()

    def _over(self) -> None:
        self._lane.gateway.running -= 1
        self._connection.call_over(self)

    # --- other ends --------------------------------------------------------------------------------------------------

    def become(self) -> LaneCall:
        """The same call in the general form, as far as it has come."""
        standing, pieces = self._standing, self._pieces
        call = LaneCall(self._lane, self._connection, self._way, self.headers, self.keep_alive, request_id=self.id)
        call.adopt(
            self.body,
            standing.snapshot,
            standing.principal,
            self.reservation,
            (self.started_at, self.started),
            self.deadline,
            self.exchange,
            is_settled=self.is_settled,
        )
        self._successor = call
        self._connection.replaced(self, call, call.reply)
        if self._has_begun:
            call.answer_began(200, [])
        if pieces:
            call.answer_grew(b"".join(pieces))
        return call

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # the general form knows how to end it
            if self._successor is not None:
                raise
            is_asked = self.exchange is not None
            call = self.become()
            if is_asked:
                call.guarded(raised, error)
            else:
                call.written(None)

    def client_gone(self) -> None:
        """The connection is lost."""
        if self.is_settled:
            self.response_complete = True
            self._over()
        else:
            self.become().client_gone()

    def sweep(self, now: float) -> None:
        """Ends a call that outlasts the request's own limit."""
        if now > self.deadline:
            self.become().sweep(now)

    def stop(self) -> None:
        """The time to drain is over."""
        self.become().stop()

    def pause(self) -> None:
        """The client reads more slowly than we write."""
        if self.exchange is not None:
            self.exchange.pause()

    def resume(self) -> None:
        """It has caught up."""
        if self.exchange is not None:
            self.exchange.resume()
