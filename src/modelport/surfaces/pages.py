"""`GET /`: for a browser, what this is and how to call it, with the deployments that the caller may use; for anything
else the word `healthy`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Final

from modelport import __version__
from modelport.core.catalog import Deployment
from modelport.core.operations import Operation
from modelport.core.ports.states import DeploymentState
from modelport.surfaces.asgi import HTML, TEXT, Reply
from modelport.surfaces.door import Door, Route
from modelport.surfaces.exchange import Exchange

HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"vary", b"Accept, Authorization, api-key"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"),
)
STATE_WORDS: Final = {
    "ready": "ready",
    "unloaded": "ready at first use",
    "loading": "loading",
    "restarting": "restarting",
    "failed": "failed",
}
KINDS: Final = (
    (Operation.CHAT_COMPLETIONS, "chat"),
    (Operation.EMBEDDINGS, "embeddings"),
    (Operation.IMAGE_EMBEDDINGS, "image embeddings"),
    (Operation.COMPLETIONS, "text completions"),
)


def routes(door: Door) -> list[Route]:
    """The one page, or the word that health probes of managed endpoints look for."""
    frame = Template(files("modelport.surfaces").joinpath("front.html").read_text(encoding="utf-8"))

    async def front(exchange: Exchange) -> Reply:
        if b"text/html" not in exchange.head.headers.get(b"accept", b"").lower():
            return Reply(b"healthy", content_type=TEXT, headers=((b"vary", b"Accept"),))
        gateway, caller = exchange.gateway, await exchange.caller()
        states = gateway.visible_states(caller) if caller is not None else None
        page = rendered(frame, states, address(exchange), gateway.snapshot().default)
        return Reply(page.encode(), content_type=HTML, headers=HEADERS)

    return [
        Route(method="GET", path="/", permission="public", door=door, endpoint=front),
        Route(method="GET", path="/favicon.ico", permission="public", door=door, endpoint=no_icon),
    ]


def no_icon(exchange: Exchange) -> Reply:
    """Browsers ask for one with each page."""
    return Reply(b"", status=204, content_type=None, headers=((b"cache-control", b"public, max-age=86400"),))


def address(exchange: Exchange) -> str:
    """Where the browser found us, which is where programs find us too."""
    host = exchange.head.text(b"host") or "localhost"
    return f"{exchange.scheme}://{host}"


def rendered(frame: Template, states: Sequence[DeploymentState] | None, base: str, default: str | None) -> str:
    """The whole page; without `states` it names no deployment. Everything that is not ours is escaped."""
    chat = example(states or (), Operation.CHAT_COMPLETIONS, default)
    name = chat.name if chat is not None else "DEPLOYMENT"
    body = json.dumps({"model": name, "messages": [{"role": "user", "content": "Hello!"}]}, ensure_ascii=False)
    return frame.substitute(
        version=escape(__version__),
        summary=escape(summary(states)) if states is not None else UNKNOWN_CALLER,
        rows="\n".join(row(state, default) for state in states or ()) or NO_ROWS,
        base=escape(base),
        body=escape(body.replace("'", "'\\''")),
        name=escape(json.dumps(name, ensure_ascii=False)),
    )


NO_ROWS: Final = '<tr><td colspan="4">None to show.</td></tr>'
UNKNOWN_CALLER: Final = "A key shows the deployments that it may use: <code>GET /v1/models</code> lists them"


def row(state: DeploymentState, default: str | None) -> str:
    """One deployment."""
    deployment = state.deployment
    kinds = ", ".join(word for operation, word in KINDS if operation in deployment.profile.operations)
    mark = ' <span class="mark">default</span>' if deployment.name.lower() == default else ""
    return (
        f'<tr><th scope="row">{escape(deployment.name)}{mark}</th>'
        f"<td>{escape(deployment.model.name)}<br><small>{escape(deployment.model.provider_name)}</small></td>"
        f'<td>{escape(kinds)}</td><td><span class="state {state.state}">{STATE_WORDS[state.state]}</span></td></tr>'
    )


def summary(states: Sequence[DeploymentState]) -> str:
    """How many can answer."""
    able = sum(state.state in ("ready", "unloaded") for state in states)
    if able == len(states):
        return f"{able} deployment{'' if able == 1 else 's'}, ready"
    return f"{able} of {len(states)} deployments ready"


def example(states: Sequence[DeploymentState], operation: Operation, default: str | None) -> Deployment | None:
    """The deployment to show a call of: the default one if it can do that, else the first that can."""
    able = [state.deployment for state in states if operation in state.deployment.profile.operations]
    return next((one for one in able if one.name.lower() == default), able[0] if able else None)
