"""The call that nearly all are: a chat of texts, answered whole by the one target, with nothing in the way.

    start → (journal written) → ask → answered → (journal written) → finish

It is gateway.machine.CallMachine in a few steps instead of many, with what `lane/standing.py` knows beforehand.
Whatever turns out differently (another status, an answer that is not one text, a time-out, a client that goes) becomes
a CallMachine at that moment, with all that was taken until then; so how calls fail is written in one place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from modelport.core.answers import AnswerHead, ChatAnswer, ChatChoice, PlainAnswer
from modelport.core.errors import ModelportError
from modelport.core.events import FinishReason
from modelport.core.excerpts import optional_excerpt
from modelport.core.ports.providers import ANSWER_BYTES_LIMIT, UpstreamRequest
from modelport.core.ports.quota import DirectAccount, Reservation
from modelport.core.usage import TokenUsage, UsageRow
from modelport.dialects import fresh_ids
from modelport.gateway.estimate import MESSAGE_TOKENS, RESERVED_BYTES_PER_TOKEN, byte_length
from modelport.gateway.forms import CLOSED_BY_CLASS_VALUES, CLOSED_VALUES, OPENED_VALUES, PriceForms, encoded
from modelport.gateway.machine import CallMachine
from modelport.gateway.receiving import raised
from modelport.lane.calls import call_made
from modelport.lane.lane import Connection, Lane
from modelport.lane.repeated import RepeatedHead
from modelport.lane.standing import NO_REQUEST, Ask, Standing, answer_form
from modelport.lane.ways import Way
from modelport.surfaces.headers import ECHOABLE
from modelport.upstream.wire import Exchange, RawHeaders

RECORDS: Final = msgspec.json.Decoder(UsageRow)
COPIED_BYTES: Final = 16 * 1024


class PlainCall(Exchange):
    """upstream.wire.Exchange and its Receiver, lane.Waiting, and to uvicorn the cycle of its connection.

    One object instead of three, and without `__init__`, which would be two frames more: `start` sets what it needs."""

    __slots__ = (
        "_account",
        "_answer",
        "_began",
        "_client_json",
        "_connection",
        "_covered_tokens",
        "_has_begun",
        "_id",
        "_id_bytes",
        "_is_asked",
        "_lane",
        "_left",
        "_pieces",
        "_prices",
        "_received",
        "_reserved",
        "_standing",
        "_started",
        "_started_at",
        "_started_json",
        "_successor",
        "_way",
        "client_request_id",
        "head_given",
        "keep_alive",
        "repeated",
        "response_complete",
        "response_started",
    )

    _account: DirectAccount
    _answer: bytes | None
    _left: tuple[int, int, int, int]
    _pieces: list[bytes] | None
    _prices: PriceForms
    _standing: Standing
    _successor: CallMachine | None
    keep_alive: bool
    """Cleared by uvicorn when it shuts down."""
    repeated: RepeatedHead | None
    head_given: Any
    """The fields of its head, or what `repeated` finds them by."""

    # --- before anything is taken ------------------------------------------------------------------------------------

    def start(
        self,
        lane: Lane,
        connection: Connection,
        way: Way,
        ask: Ask,
        body: bytes,
        client_request_id: bytes,
    ) -> bool:
        """Takes the call as far as its reservation and its journal line; False: nothing is taken. Where its head is
        found, and whether its connection is kept, has been set."""
        standing, turns, completion, self.body = ask
        pipeline = lane.pipeline
        started_at = pipeline.clock.now()
        if len(body) > standing.longest_body:
            return False
        if started_at >= standing.expires_at or (standing.readiness is not None and standing.readiness() is not None):
            return False
        admissions = pipeline.quota
        echoed, client_json = None, b"null"
        if client_request_id and ECHOABLE.fullmatch(client_request_id) is not None:
            echoed = client_request_id.decode()
            client_json = encoded(echoed)
            if admissions.failures:
                return False  # this may be a repeat
        if admissions.queue.waiters:
            return False  # somebody goes first
        prompt = -(-len(body) // RESERVED_BYTES_PER_TOKEN) + MESSAGE_TOKENS * (turns + 1)
        self._covered_tokens = -1
        if completion is None:
            completion = self._covered_tokens = standing.step_beside(prompt)
        self._standing = standing
        self._reserved = reserved = prompt + completion
        self._started = started = pipeline.clock.monotonic()
        account = standing.account
        if account is None or not account.is_open:
            account = standing.direct(started)
        self._account = account
        self._lane = lane
        if not account.take(standing.limits, reserved, started):
            return False
        prices = standing.prices
        if not prices.begins <= started_at < prices.ends:
            prices = standing.prices_on(started_at)
        self._id = id = fresh_ids.uuid()
        self._id_bytes = id_bytes = id.encode()
        self._started_json = started_json = encoded(started_at)
        price = prices.unpriced or prices.bound(prompt, completion)
        try:
            pipeline.journal.open_formed(
                id,
                standing.forms.opened,
                OPENED_VALUES % (id_bytes, started_json, prompt, completion, reserved, client_json, price),
            )
        except OSError:
            self._held().cancel()
            return False
        self._client_json, self.client_request_id = client_json, echoed
        self._prices, self._started_at = prices, started_at
        self._connection, self._way, self._received = connection, way, body
        self._is_asked = self._has_begun = self.response_started = self.response_complete = False
        self._answer = self._pieces = self._successor = self.connection = self.connecting = None
        self.is_paused = connection.flow.write_paused
        self._began = connection.loop.time()
        lane.gateway.running += 1
        standing.series.in_flight += 1
        lane.when_written(self)
        return True

    def _held(self) -> Reservation:
        """What is taken, in its general form."""
        standing = self._standing
        return standing.quota.held(self._account, standing.limits, self._reserved, self._started)

    def written(self, failure: ModelportError | None) -> None:
        """lane.Waiting: the lines are with the kernel, so on we go."""
        if self._successor is not None:
            self._successor.written(failure)
        elif failure is not None:
            self.become().written(failure)
        else:
            try:
                if self._answer is None:
                    self._ask()
                elif not self.response_complete:
                    self._finish(self._answer)
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
        pool = standing.pool
        assert pool is not None
        self.pool, self.head, self.receiver = pool, standing.request_head, self
        self.timeouts = timeouts = standing.deployment.timeouts
        self.deadline = self.whole_deadline = self._began + timeouts.whole
        self.is_queued, self.left_bytes = False, ANSWER_BYTES_LIMIT
        self._is_asked = True
        pool.take(self)

    def answer_began(self, status: int, headers: Callable[[], RawHeaders]) -> None:
        """upstream.wire.Receiver"""
        if status == 200:
            self._has_begun = True
        else:
            self.become().answer_began(status, headers)

    def answer_grew(self, data: bytes) -> None:
        """upstream.wire.Receiver"""
        if self._pieces is None:
            self._pieces = []
        self._pieces.append(data)

    def answer_ended(self) -> None:
        """upstream.wire.Receiver"""
        self.answer_whole(b"".join(self._pieces or ()))

    def answer_whole(self, body: bytes) -> None:
        """upstream.wire.Receiver"""
        try:
            answer, covered = self._standing.codec.decode(body), self._covered_tokens
            # Where the caller has set no bound: what is reserved must be enough for sure, even if each byte is a token.
            if answer is not None and answer.prompt and (covered < 0 or byte_length(answer.text) <= covered):
                self._answered(answer)
                return
        except Exception as error:  # noqa: BLE001 - the end of a request
            self._failed(error)
            return
        self._has_begun, self._pieces = True, [body] if body else None
        self.become().answer_ended()

    def answer_failed(self, error: Exception) -> None:
        """upstream.wire.Receiver"""
        self.become().answer_failed(error)

    # --- our answer --------------------------------------------------------------------------------------------------

    def _answered(self, answer: PlainAnswer) -> None:
        standing, pipeline = self._standing, self._lane.pipeline
        prompt, completion, usage, reserved = answer.prompt, answer.completion, answer.usage, self._reserved
        now = pipeline.clock.monotonic()
        seconds = now - self._started
        # Both may fail, and do so before anything is settled.
        price = self._prices.unpriced or self._prices.of(
            usage or TokenUsage(input=prompt, output=completion), standing.target, seconds
        )
        if answer.model != standing.model:
            standing.model = optional_excerpt(answer.model)
            standing.model_json = encoded(standing.model)
        id, started, named, ended = self._id_bytes, self._started_json, standing.model_json, encoded(seconds)
        created, answer_id, total = int(self._started_at + seconds), standing.speech.new_id(), prompt + completion
        if usage is None:
            known = (id, started, named, prompt, completion, reserved, ended, ended, self._client_json, price)
            values = CLOSED_VALUES % known
        else:
            counts = encoded(usage)
            classes = (id, started, named, counts, reserved, ended, ended, self._client_json, price)
            values = CLOSED_BY_CLASS_VALUES % classes
        if usage is None and answer.extra is None:
            words = standing.answers.get(answer.finish_reason._value_) or self._words(answer.finish_reason)
            said = words % (answer_id.encode(), created, encoded(answer.text), prompt, total, completion)
        else:
            said = self._whole(answer, AnswerHead(answer_id, created, standing.deployment.answered_name))
        self._answer = said
        self._left = self._account.settle(standing.limits, reserved, total, seconds, now)
        form = standing.forms.closed
        pipeline.journal.close_formed(self._id, form, values)
        if usage is None:
            standing.series.completed(form, values, seconds, prompt, completion, reserved)
        else:
            self._count_in_general()
            pipeline.observer.call_ended(RECORDS.decode(form.filled(values)).record())
        self._lane.when_written(self)

    def _count_in_general(self) -> None:
        """Not as one of many like it."""
        self._standing.series.in_flight -= 1
        self._lane.pipeline.observer.call_started(self._way.inference.operation, self._way.door.surface)

    def _whole(self, answer: PlainAnswer, head: AnswerHead) -> bytes:
        """An answer that says more than the form of most has room for, by the surface's own writer."""
        usage = answer.usage or TokenUsage(input=answer.prompt, output=answer.completion)
        choice = ChatChoice(0, answer.text, answer.finish_reason, extra=answer.extra)
        whole = ChatAnswer((choice,), usage, answer.extra.answer if answer.extra is not None else {})
        return self._standing.speech.whole(head, NO_REQUEST, whole, self._way.reasoning)

    def _words(self, reason: FinishReason) -> bytes:
        """The surface's own, for an answer that ended so."""
        standing = self._standing
        words = standing.answers[reason._value_] = answer_form(standing, self._way, reason)
        return words

    def _finish(self, body: bytes) -> None:
        lane, connection, standing, left = self._lane, self._connection, self._standing, self._left
        self.response_started = self.response_complete = True
        fields = connection.server_state.default_headers
        heads = standing.heads
        if heads is None or heads.fields is not fields:
            heads = standing.heads_of(fields, *lane.default_headers(fields))
        form = heads.kept
        if form is None or lane.gateway.draining or not self.keep_alive:
            self.keep_alive, form = False, heads.closing
        id = self._id_bytes
        echoed = id if self.client_request_id is None else self.client_request_id.encode()
        if standing.is_limited:
            requests, reset, tokens, same = left
            head = form % (id, id, echoed, requests, reset, tokens, same, len(body))
        else:
            head = form % (id, id, echoed, standing.quota_lines(left), len(body))
        if len(body) > COPIED_BYTES:
            connection.transport.writelines([head, body])
        else:
            connection.transport.write(head + body)
        if not self.keep_alive:
            connection.transport.close()
        lane.gateway.running -= 1
        connection.call_over(self)

    # --- other ends --------------------------------------------------------------------------------------------------

    def become(self) -> CallMachine:
        """The same call in the general form, as far as it has come."""
        standing, pieces, is_settled = self._standing, self._pieces, self._answer is not None
        if not is_settled:
            self._count_in_general()
        is_under_way = self._is_asked and not is_settled and self.receiver is not None
        headers = self.head_given if self.repeated is None else self.repeated.headers(self.head_given)
        call = call_made(self._lane, self._connection, self._way, headers, self.keep_alive, request_id=self._id)
        call.adopt(
            self._received,
            standing.snapshot,
            standing.runtime,
            standing.principal,
            self._held(),
            (self._started_at, self._started),
            self._began + self._lane.options.limits.request_seconds,
            self if is_under_way else None,
            is_asked=self._is_asked and not is_settled,
            is_settled=is_settled,
        )
        if is_under_way:
            self.receiver = call
        self._successor = call
        self._connection.replaced(self, call, call.reply)
        if is_settled:
            return call  # all that is left is to say why there is no answer
        if self._has_begun:
            call.answer_began(200, list)
        self._pieces = None
        for piece in pieces or ():
            call.answer_grew(piece)
        return call

    def _failed(self, error: Exception) -> None:
        """The general form knows how to end it."""
        if self._successor is not None or self.response_complete:
            raise error
        call = self.become()
        if self._is_asked:
            call.guarded(raised, error)
        else:
            call.written(None)

    def client_gone(self) -> None:
        """The connection is lost."""
        if self._answer is None:
            self.become().client_gone()
        else:
            self.response_complete = True
            self._lane.gateway.running -= 1
            self._connection.call_over(self)

    def sweep(self, now: float) -> None:
        """Ends a call that outlasts the request's own limit."""
        if now > self._began + self._lane.options.limits.request_seconds:
            self.become().sweep(now)

    def end_now(self) -> None:
        """The time to drain is over."""
        self.become().end_now()
