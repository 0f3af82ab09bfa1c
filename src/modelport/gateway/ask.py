"""What do you ask: the body → a request of the surface's dialect, or 400, or 422 that names everything that is wrong.

A request that its schema refuses may be wrong for the model as well. Both are told at once, so that nobody has to ask
twice; that is slow, and only on the way to a 422.
"""

from __future__ import annotations

import msgspec

from modelport.core.catalog import Deployment, Snapshot
from modelport.core.errors import InvalidParameters, ModelportError
from modelport.core.identity import Principal
from modelport.core.ports.stages import Refusal
from modelport.core.requests import Request
from modelport.gateway.authorize import authorize
from modelport.gateway.call import CallHead
from modelport.gateway.resolve import resolve
from modelport.gateway.shape import Shaped, shape


def ask(call: CallHead, body: bytes, snapshot: Snapshot, principal: Principal) -> Request:
    """The request. Raises MalformedBody, InvalidParameters and what else the dialect refuses with."""
    try:
        return call.decode(body)
    except InvalidParameters as error:
        raise everything_wrong(error, call, body, snapshot, principal) from None


def everything_wrong(
    error: InvalidParameters, call: CallHead, body: bytes, snapshot: Snapshot, principal: Principal
) -> ModelportError:
    """The schema's refusal with the model's added: what is left of the request without the fields already refused is
    held against the profile. Any other outcome leaves the refusal as it is, also a model that is not the caller's."""
    refused = {offence.loc[1] for offence in error.offences if len(offence.loc) > 1}
    try:
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        rest = {name: value for name, value in fields.items() if name not in refused}
        outcome = shaped(call, call.decode(msgspec.json.encode(rest)), snapshot, principal)
    except (ModelportError, msgspec.MsgspecError, ValueError):
        return error  # a field that was refused was required
    if isinstance(outcome, Refusal) and isinstance(outcome.error, InvalidParameters):
        return InvalidParameters([*error.offences, *outcome.error.offences])
    return error


def shaped(call: CallHead, request: Request, snapshot: Snapshot, principal: Principal) -> Shaped | Refusal:
    """What its deployment's profile says of it."""
    deployment = resolve(call.selector, request.model, request.operation, snapshot, principal)
    if isinstance(deployment, Refusal):
        return deployment
    return shaped_for(call, request, principal, deployment, snapshot)


def shaped_for(
    call: CallHead, request: Request, principal: Principal, deployment: Deployment, snapshot: Snapshot
) -> Shaped | Refusal:
    """What this deployment would be asked, if this caller may."""
    if (no := authorize(principal, request.operation)) is not None:
        return no
    header, checks = call.extra_parameters, call.checks_extras
    return shape(request, deployment, header=header, checks_extras=checks, strict=snapshot.strict)
