"""What do you ask: the body → a request of the surface's dialect, or 400, or 422 that names everything that is wrong.

A request that its schema refuses may be wrong for the model as well. Both are told at once, so that nobody has to ask
twice; that is slow, and only on the way to a 422.
"""

from __future__ import annotations

import msgspec

from modelport.core.errors import ExtraParametersRefused, InvalidParameters, ModelportError
from modelport.core.ports.stages import Refusal
from modelport.core.requests import Request
from modelport.gateway.call import CallHead
from modelport.gateway.shape import Shaped


def ask(head: CallHead, body: bytes) -> tuple[Request, InvalidParameters | None]:
    """The request; or what is left of it without the fields that the schema has refused, and that refusal. Raises
    MalformedBody, InvalidParameters and what else the dialect refuses with where nothing is left."""
    try:
        return head.decode(body), None
    except InvalidParameters as error:
        wrong = error
    refused = {offence.loc[1] for offence in wrong.offences if len(offence.loc) > 1}
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        rest = {name: value for name, value in fields.items() if name not in refused}
        return head.decode(msgspec.json.encode(rest)), wrong
    except (ModelportError, msgspec.MsgspecError, ValueError):
        raise wrong from None  # a field that was refused was required


def everything_wrong(error: InvalidParameters, shaped: Shaped | Refusal) -> InvalidParameters:
    """The schema's refusal with that of the model's profile added. Any other outcome leaves it as it is."""
    if isinstance(shaped, Refusal) and isinstance(shaped.error, InvalidParameters):
        return InvalidParameters([*error.offences, *shaped.error.offences])
    return error


def as_sent(error: ModelportError, body: bytes) -> ModelportError:
    """A refusal of extras names them in the order in which they were sent; what is decoded has an order of its own.
    Any other error is left as it is."""
    if not isinstance(error, ExtraParametersRefused) or len(error.names) == 1:
        return error
    try:
        sent = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, ValueError):
        return error  # it was read more leniently
    places = {name: place for place, name in enumerate(sent)}
    return ExtraParametersRefused(sorted(error.names, key=lambda name: places.get(name, len(places))))
