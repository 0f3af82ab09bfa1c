"""Records and answers as forms: what differs in a few fields shares the rest, which is made and written once."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec
from msgspec import Raw

from modelport.core.answers import AnswerHead, ChatAnswer, ChatChoice
from modelport.core.events import FinishReason
from modelport.core.pricing import plain
from modelport.core.record_forms import RecordForm
from modelport.core.requests import ChatRequest
from modelport.core.usage import TokenUsage, UsageRecord
from modelport.dialects.reasoning import ReasoningPlace
from modelport.gateway.charge import Charge, Priced
from modelport.gateway.codec import Speech

MONEY: Final = ("cost", "currency", "price_version", "pricing")
OPENED: Final = ("id", "started_at", "usage", "reserved_tokens", "client_request_id", *MONEY)
CLOSED: Final = (
    "id",
    "started_at",
    "answered_model",
    "usage",
    "reserved_tokens",
    "first_event_seconds",
    "duration_seconds",
    "client_request_id",
    *MONEY,
)
"""What differs between the calls that share a form: a list of these, in JSON; MONEY is one piece of it."""
DAY_SECONDS: Final = 86_400

encoded: Final = msgspec.json.Encoder().encode


def opened_form(record: UsageRecord) -> RecordForm:
    """Of calls that are let in, from one such record; its variable fields do not matter."""
    return form(record, OPENED)


def closed_form(record: UsageRecord) -> RecordForm:
    """Of calls that are answered, likewise."""
    return form(record, CLOSED)


def form(record: UsageRecord, variable: Collection[str]) -> RecordForm:
    """What the records share that differ in these fields alone."""
    names = UsageRecord.__struct_fields__
    row = [None if name in variable else getattr(record, name) for name in names]
    return RecordForm(encoded(row), [index for index, name in enumerate(names) if name in variable])


def price_json(priced: Priced) -> Raw:
    """The fields of money, with the commas between them."""
    return Raw(encoded((priced.cost, priced.currency, priced.version, priced.pricing))[1:-1])


class PriceForms:
    """The fields of money for calls of one deployment on one day, with nothing special about them."""

    __slots__ = ("_forms", "begins", "charge", "ends", "unpriced")

    def __init__(self, charge: Charge, day: float) -> None:
        """`day`: counted from the epoch."""
        self.begins = day * DAY_SECONDS
        self.ends = self.begins + DAY_SECONDS
        """In unix seconds: between them a call must start."""
        self.charge = charge
        self._forms: dict[str, bytes] = {}
        self.unpriced: Raw | None = price_json(charge.bound(1, 1)) if charge.is_unpriced else None

    def bound(self, prompt: int, completion: int) -> Raw:
        """As Charge.bound."""
        return self.unpriced or self.written(self.charge.bound(prompt, completion))

    def written(self, priced: Priced) -> Raw:
        """What this charge has said."""
        amount = priced.amount
        if amount is None:
            return price_json(priced)
        form = self._forms.get(priced.pricing)
        if form is None:
            said = encoded((priced.currency, priced.version, priced.pricing))[1:-1].replace(b"%", b"%%")
            form = self._forms[priced.pricing] = b'"%b",' + said
        return Raw(form % plain(amount).encode())


PLACE: Final = "@@%s@@"
ID, CONTENT = PLACE % "id", PLACE % "content"
CREATED, PROMPT, COMPLETION = 7_100_000_000_000_001, 7_200_000_000_000_003, 7_300_000_000_000_007
"""Stand in an answer for what differs, and are found again in its bytes."""
NO_REQUEST: Final = ChatRequest(messages=())


def answer_form(speech: Speech, model: str, reason: FinishReason, reasoning: ReasoningPlace) -> bytes:
    """The surface's own words around one text: (id, created, content, prompt, total, completion). Empty: what stands
    for them is in the words themselves (in a deployment's name), or they come in another order."""
    answer = ChatAnswer((ChatChoice(0, CONTENT, reason),), TokenUsage(input=PROMPT, output=COMPLETION))
    form = speech.whole(AnswerHead(id=ID, created=CREATED, model=model), NO_REQUEST, answer, reasoning)
    form, last = form.replace(b"%", b"%%"), -1
    for place, name in (
        (ID.encode(), b"%b"),
        (b"%d" % CREATED, b"%d"),
        (b'"%b"' % CONTENT.encode(), b"%b"),
        (b"%d" % PROMPT, b"%d"),
        (b"%d" % (PROMPT + COMPLETION), b"%d"),
        (b"%d" % COMPLETION, b"%d"),
    ):
        found = form.find(place)
        if found <= last or form.count(place) != 1:
            return b""
        form, last = form.replace(place, name), found
    return form
