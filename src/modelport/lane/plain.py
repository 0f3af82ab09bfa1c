"""The call that nearly all are: a chat of texts, answered whole by the one target, with nothing in the way.

    start → (journal written) → ask → answer → (journal written) → finish

It is driver.LaneCall in a few steps instead of many, with what `lane/standing.py` knows beforehand. Whatever turns out
differently (another status, an answer that is not one text, a time-out, a client that goes) becomes a LaneCall at that
moment, with all that was taken until then; so how calls fail is written in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from modelport.core.answers import AnswerHead, ChatAnswer, ChatChoice
from modelport.core.errors import ModelportError
from modelport.core.ports import (
    DirectAccount,
    NeedsWaiting,
    QuotaRefusal,
    QuotaState,
    Refusal,
    Reservation,
    UpstreamRequest,
)
from modelport.core.usage import TokenUsage, UsageRow
from modelport.dialects import fresh_ids
from modelport.dialects.plain_chat import PlainAnswer, PlainChat
from modelport.gateway.estimate import MESSAGE_TOKENS, RESERVED_BYTES_PER_TOKEN, byte_length
from modelport.gateway.forms import SIMPLE_USAGE, PriceForms, encoded
from modelport.lane.driver import LaneCall, raised
from modelport.lane.lane import Connection, Lane
from modelport.lane.standing import NO_REQUEST, Caller, Standing, answer_form, lines
from modelport.lane.ways import Way
from modelport.surfaces.headers import ECHOABLE, quota_headers
from modelport.upstream.wire import Exchange, RawHeaders

RESPONSE: Final = (
    b"HTTP/1.1 200 OK\r\n%bx-request-id: %b\r\napim-request-id: %b\r\nx-ms-client-request-id: %b\r\n%b%b%b%d%b%b%b"
)
RECORDS: Final = msgspec.json.Decoder(UsageRow)
COPIED_BYTES: Final = 16 * 1024


class PlainCall:
    """upstream.wire.Receiver, lane.Waiting, and to uvicorn the cycle of its connection."""

    __slots__ = (
        "_account",
        "_answer",
        "_asked",
        "_client_json",
        "_connection",
        "_covered_tokens",
        "_has_begun",
        "_id",
        "_lane",
        "_left",
        "_next",
        "_pieces",
        "_prices",
        "_quota",
        "_reservation",
        "_standing",
        "_started_json",
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
        "reserved",
        "response_complete",
        "response_started",
        "started",
        "started_at",
    )

    _account: DirectAccount | None
    _answer: bytes
    _asked: PlainChat
    _left: tuple[int, int, int, int] | None
    _prices: PriceForms
    _quota: QuotaState
    _reservation: Reservation
    _standing: Standing

    def __init__(
        self, lane: Lane, connection: Connection, way: Way, headers: Callable[[], RawHeaders], keep_alive: bool
    ) -> None:
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

    def start(self, body: bytes, caller: Caller, decisive: Sequence[bytes], client_request_id: bytes) -> bool:
        """Takes the call as far as its reservation and its journal line; False: nothing is taken."""
        lane, way = self._lane, self._way
        pipeline = lane.pipeline
        assert way.plain is not None
        asked = way.plain(body)
        if asked is None:
            return False
        standing = caller.standing(asked.model, decisive)
        started_at = pipeline.clock.now()
        if standing is None or started_at >= standing.expires_at or not standing.takes(asked):
            return False
        admissions = pipeline.quota
        self.client_request_id = None
        if client_request_id and ECHOABLE.fullmatch(client_request_id) is not None:
            self.client_request_id = client_request_id.decode()
        if admissions.queue or (admissions.failures and self.client_request_id is not None):
            return False  # somebody goes first, or this may be a repeat
        prompt = -(-len(body) // RESERVED_BYTES_PER_TOKEN) + MESSAGE_TOKENS * (len(asked.messages) + 1)
        completion = asked.max_tokens
        self._covered_tokens = -1
        if completion is None:
            completion = self._covered_tokens = standing.step_beside(prompt)
        self.reserved = reserved = prompt + completion
        self.started = started = pipeline.clock.monotonic()
        self._standing = standing
        account = self._account = standing.direct(started)
        if not (self._reserves() if account is None else account.take(standing.limits, reserved, started)):
            return False
        self.id = id = fresh_ids.uuid()
        self._id = id.encode()
        self._started_json = encoded(started_at)
        self._client_json = encoded(self.client_request_id)
        prices = self._prices = standing.prices_on(started_at)
        price = prices.unpriced or prices.bound(prompt, completion)
        known = (self._id, self._started_json, prompt, completion, reserved, self._client_json, price)
        try:
            pipeline.journal.open_encoded(id, standing.forms.opened % known)
        except OSError:
            self.held().cancel()
            return False
        self.started_at, self.body, self._asked = started_at, body, asked
        self.deadline = self._connection.loop.time() + lane.options.limits.request_seconds
        lane.gateway.running += 1
        standing.series.in_flight += 1
        lane.when_written(self)
        return True

    def _reserves(self) -> bool:
        """From a quota that others share."""
        standing = self._standing
        quota = self._lane.pipeline.quota.quota
        taken = quota.reserve(standing.subject, standing.limits, self.reserved, self.started)
        if isinstance(taken, QuotaRefusal | Refusal | NeedsWaiting):
            return False
        self._reservation = taken
        return True

    def held(self) -> Reservation:
        """What is taken, in its general form."""
        standing = self._standing
        if self._account is None:
            return self._reservation
        assert standing.quota is not None
        return standing.quota.held(self._account, standing.limits, self.reserved, self.started)

    def written(self, failure: ModelportError | None) -> None:
        """lane.Waiting: the lines are with the kernel, so on we go."""
        if self._successor is not None:
            self._successor.written(failure)
        elif failure is not None:
            self.become().written(failure)
        elif not self.response_complete:
            try:
                self._next()
            except Exception as error:  # noqa: BLE001 - the end of a request
                self._failed(error)

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

    def answer_began(self, status: int, headers: Callable[[], RawHeaders]) -> None:
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
        try:
            self._answered()
        except Exception as error:  # noqa: BLE001 - the end of a request
            self._failed(error)

    def answer_whole(self, body: bytes) -> None:
        """upstream.wire.Receiver"""
        self._has_begun = True
        if body:
            self._pieces.append(body)
        self.answer_ended()

    def answer_failed(self, error: ModelportError) -> None:
        """upstream.wire.Receiver"""
        self.become().answer_failed(error)

    # --- our answer --------------------------------------------------------------------------------------------------

    def _answered(self) -> None:
        standing, pipeline, pieces = self._standing, self._lane.pipeline, self._pieces
        answer = standing.codec.decode(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        covered = self._covered_tokens
        # Where the caller has set no bound: what is reserved is enough for sure, even if each byte is a token.
        is_covered = answer is not None and (covered < 0 or byte_length(answer.text) <= covered)
        if answer is None or not answer.prompt or not is_covered:
            call = self.become()
            if not call.has_stopped_asking:
                call.answer_ended()
            return
        prompt, completion, usage, reserved = answer.prompt, answer.completion, answer.usage, self.reserved
        self._answer = self._written(answer)
        now = pipeline.clock.monotonic()
        seconds = now - self.started
        price = self._prices.unpriced
        if price is None:
            classes = usage or TokenUsage(input=prompt, output=completion)
            price = self._prices.of(classes, standing.target, seconds)
        seconds_json = encoded(seconds)
        record = standing.forms.closed % (
            self._id,
            self._started_json,
            encoded(answer.model),
            SIMPLE_USAGE % (prompt, completion) if usage is None else encoded(usage),
            reserved,
            seconds_json,
            seconds_json,
            self._client_json,
            price,
        )
        self.is_settled = True
        account = self._account
        if account is not None:
            self._left = account.settle(standing.limits, reserved, prompt + completion, seconds, now)
        else:
            self._left, self._quota = None, self._reservation.state()
            self._reservation.settle(prompt + completion)
        pipeline.journal.close_encoded(self.id, record)
        if usage is None:
            standing.series.completed(record, seconds, prompt, completion, reserved)
        else:
            self._count_in_general()
            pipeline.observer.call_ended(RECORDS.decode(record).record())
        self.exchange = None
        self._next = self._finish
        self._lane.when_written(self)

    def _count_in_general(self) -> None:
        """Not as one of many like it."""
        self._standing.series.in_flight -= 1
        self._lane.pipeline.observer.call_started(self._way.inference.operation, self._way.door.surface)

    def _written(self, answer: PlainAnswer) -> bytes:
        """The answer in the surface's own words."""
        standing = self._standing
        speech, created = standing.speech, int(self._lane.options.clock.now())
        if answer.usage is None:
            form = standing.answers.get(answer.finish_reason)
            if form is None:
                form = standing.answers[answer.finish_reason] = answer_form(standing, self._way, answer.finish_reason)
            return form % {
                b"id": speech.new_id().encode(),
                b"created": created,
                b"content": encoded(answer.text),
                b"prompt": answer.prompt,
                b"completion": answer.completion,
                b"total": answer.prompt + answer.completion,
            }
        head = AnswerHead(id=speech.new_id(), created=created, model=standing.deployment.answered_name)
        whole = ChatAnswer((ChatChoice(0, answer.text, answer.finish_reason),), answer.usage)
        return speech.whole(head, NO_REQUEST, whole, self._way.reasoning)

    def _finish(self) -> None:
        lane, connection, standing, body = self._lane, self._connection, self._standing, self._answer
        self.response_started = self.response_complete = True
        dates, closes = lane.default_headers(connection.server_state.default_headers)
        if self._left is None:
            left = lines(quota_headers(self._quota))
        else:
            left = standing.quota_form % self._left if standing.is_limited else standing.quota_of(self._left)
        last = b"\r\n"
        if lane.gateway.draining or closes or not self.keep_alive:
            self.keep_alive = False
            last = b"\r\n" if closes else b"connection: close\r\n\r\n"
        id, echoed = self._id, self.client_request_id
        said = (dates, id, id, id if echoed is None else echoed.encode(), standing.before, left, standing.between)
        if len(body) > COPIED_BYTES:
            connection.transport.writelines([RESPONSE % (*said, len(body), standing.after, last, b""), body])
        else:
            connection.transport.write(RESPONSE % (*said, len(body), standing.after, last, body))
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
        if not self.is_settled:
            self._count_in_general()
        call = LaneCall(self._lane, self._connection, self._way, self.headers(), self.keep_alive, request_id=self.id)
        call.adopt(
            self.body,
            standing.snapshot,
            standing.principal,
            self.held(),
            (self.started_at, self.started),
            self.deadline,
            self.exchange,
            is_settled=self.is_settled,
        )
        self._successor = call
        self._connection.replaced(self, call, call.reply)
        if self.is_settled:
            return call  # all that is left is to say why there is no answer
        if self._has_begun:
            call.answer_began(200, list)
        if pieces:
            call.answer_grew(b"".join(pieces))
        return call

    def _failed(self, error: Exception) -> None:
        """The general form knows how to end it."""
        if self._successor is not None:
            raise error
        is_asked = self.exchange is not None or self.is_settled
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
