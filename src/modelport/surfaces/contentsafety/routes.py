"""The paths of this surface. Its blocklists are the control plane's (admin/contentsafety.py)."""

from __future__ import annotations

from typing import Final

from modelport.core.errors import ModelportError
from modelport.core.operations import Operation
from modelport.core.roles import Permission
from modelport.core.safety import Category, Source
from modelport.dialects.azure_content_safety import answers, errors, requests
from modelport.dialects.error_body import ErrorBody
from modelport.surfaces.asgi import Reply
from modelport.surfaces.door import Door, Recorded, Route
from modelport.surfaces.exchange import Exchange
from modelport.surfaces.headers import RequestHead

BASE: Final = "/contentsafety"


def refuse(error: ModelportError, head: RequestHead, operation: Operation | None) -> ErrorBody:
    """The error in Azure AI Content Safety's shape."""
    return errors.encode(error)


DOOR: Final = Door(surface="contentsafety", refuse=refuse)


def routes() -> list[Route]:
    """All of them."""
    return [
        Route(
            method="POST",
            path=f"{BASE}/text:analyze",
            permission=Permission.INFER,
            door=DOOR,
            endpoint=Recorded(answer=analyze_text),
        )
    ]


async def analyze_text(exchange: Exchange) -> Reply:
    """Blocklists first: where they halt, nothing is said of the categories."""
    assert exchange.principal is not None
    safety, head = exchange.gateway.content_safety, exchange.head
    async with safety.recorded(head.request_id, exchange.principal, head.client_request_id) as noted:
        _ = head.api_version
        options = requests.decode(await exchange.body.read())
        found = await safety.matches(options.text, options.blocklist_names) if options.blocklist_names else []
        is_halted = bool(found) and options.halt_on_blocklist_hit is True
        harms = () if is_halted else options.harms
        severities = await safety.severities(options.text, harms) if harms else {}
        noted.add(Source.PROMPT, {category: {"severity": severity.word} for category, severity in severities.items()})
        noted.add(Source.PROMPT, {Category.CUSTOM_BLOCKLISTS: {"detected": bool(found)}})
        matches = [answers.BlocklistMatch(name, entry.id, entry.exact or entry.regex or "") for name, entry in found]
        return Reply(answers.encode(matches, severities))
