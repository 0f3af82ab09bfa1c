"""`modelport bench`: how fast an endpoint answers. Any one that speaks the OpenAI API or Azure's, ours or not."""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, quote, urlsplit

import typer
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from modelport.cli import bench_figures, charts
from modelport.cli.bench_client import Bounds, Question, Sample, ask_once, run
from modelport.cli.output import ExitCode, application, fail, write_error_line, write_json, write_line, write_table

app = application()

PROMPT = "Write a short paragraph about a lighthouse and the people who keep it."
DEFAULT_REQUESTS = 100
DEFAULT_SECONDS = 30.0
ANY_REQUESTS = 10**9
ANY_SECONDS = 3600.0
MAX_CONNECTIONS = 1024
MODELS_VERSION = "2024-05-01-preview"
AZURE_VERSION = "2024-10-21"


class Surface(StrEnum):
    """Which of the usual forms of the API to speak."""

    V1 = "v1"
    MODELS = "models"
    AZURE = "azure"


@app.command()
def bench(
    endpoint: Annotated[str, typer.Option(help="The address: https://host, https://host/v1, https://host/models.")],
    key: Annotated[str, typer.Option(envvar="MODELPORT_BENCH_KEY", help="The endpoint's key.")],
    model: Annotated[
        str | None, typer.Option(help="The model or deployment; the endpoint's default if absent.")
    ] = None,
    surface: Annotated[
        Surface, typer.Option(help="v1: OpenAI. models: Azure AI Model Inference. azure: Azure OpenAI deployments.")
    ] = Surface.V1,
    connections: Annotated[int, typer.Option(min=1, max=MAX_CONNECTIONS, help="Requests at the same time.")] = 8,
    requests: Annotated[
        int | None, typer.Option(min=1, help=f"How many in all. [default: {DEFAULT_REQUESTS}]", show_default=False)
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help=f"How long to begin new ones. [default: {DEFAULT_SECONDS:g}]", show_default=False),
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Ask for streams: shows when tokens come.")] = False,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of each answer.")] = 64,
    prompt: Annotated[str, typer.Option(help="What to ask.")] = PROMPT,
    body: Annotated[
        Path | None, typer.Option(help="A JSON file with the request's other fields, instead of prompt and max_tokens.")
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="A PEM file with a certificate authority to trust.")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one answer.")] = 120,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Write a page with charts (.html), or the charts alone (.svg).")
    ] = None,
) -> None:
    """Measure an endpoint.

    Prints requests per second, time to first token, time between tokens, errors.

    Sends real requests, which may cost money: 100 of them, or 30 seconds, unless told otherwise.

    Example: modelport bench --endpoint http://127.0.0.1:8080/v1 --requests 50
    """
    target = parsed(endpoint)
    fields = given_fields(body) if body is not None else asked_fields(prompt, max_tokens)
    sent = request(target, key, surface, model, payload(fields, surface, model, stream))
    question = Question(
        host=target.hostname or "",
        port=target.port or (443 if target.scheme == "https" else 80),
        tls=trust(ca) if target.scheme == "https" else None,
        request=sent,
        timeout_seconds=timeout,
    )
    samples: list[Sample] = []
    interrupted = measured(question, connections, bounds(requests, seconds), samples, endpoint)
    found = bench_figures.figures(samples)
    about = {
        "endpoint": endpoint,
        "surface": surface.value,
        "model": model,
        "streamed": stream,
        "connections": connections,
    }
    show(about | found, samples, as_json, plot)
    if interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)


def bounds(requests: int | None, seconds: float | None) -> Bounds:
    """What the caller names is a bound; without a name, both defaults are."""
    if requests is None and seconds is None:
        return Bounds(DEFAULT_REQUESTS, DEFAULT_SECONDS)
    return Bounds(requests or ANY_REQUESTS, seconds or ANY_SECONDS)


def parsed(endpoint: str) -> SplitResult:
    """The endpoint's parts. Ends the command for what is no address, and for one with a password in it."""
    try:
        parts = urlsplit(endpoint)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        fail(ExitCode.USAGE, f"{endpoint!r} is not an address", "https://host, with a path where there is one")
    if parts.username is not None or parts.password is not None:
        fail(ExitCode.USAGE, "the endpoint holds a user name or password", "use --key")
    return parts


def given_fields(file: Path) -> dict[str, Any]:
    """The request's fields as a file has them."""
    try:
        fields = json.loads(file.read_bytes())
    except OSError as error:
        fail(ExitCode.USAGE, f"{str(file)!r} cannot be read: {error.strerror}")
    except ValueError as error:
        fail(ExitCode.USAGE, f"{str(file)!r} is not JSON: {error}")
    if not isinstance(fields, dict):
        fail(ExitCode.USAGE, f"{str(file)!r} is not a JSON object")
    return fields


def asked_fields(prompt: str, max_tokens: int) -> dict[str, Any]:
    """The request's fields where no file has them."""
    return {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens}


def payload(fields: dict[str, Any], surface: Surface, model: str | None, stream: bool) -> bytes:
    """The request's body."""
    value = dict(fields)
    if model is not None and surface is not Surface.AZURE:
        value["model"] = model
    if stream:
        value["stream"] = True
        if surface is not Surface.MODELS:  # there it is no field of the API
            value.setdefault("stream_options", {"include_usage": True})
    return json.dumps(value, ensure_ascii=False).encode()


def path(target: SplitResult, surface: Surface, model: str | None) -> str:
    """Where chat completions are, for a base with or without the surface's own prefix."""
    base = target.path.rstrip("/")
    query = target.query
    if surface is Surface.V1:
        base = base if base.endswith("/v1") else f"{base}/v1"
    elif surface is Surface.MODELS:
        base = base if base.endswith("/models") else f"{base}/models"
        query = query or f"api-version={MODELS_VERSION}"
    else:
        if model is None:
            fail(ExitCode.USAGE, "the azure surface needs --model: the path names the deployment")
        base = f"{base.removesuffix('/openai')}/openai/deployments/{quote(model, safe='')}"
        query = query or f"api-version={AZURE_VERSION}"
    return f"{base}/chat/completions{f'?{query}' if query else ''}"


def request(target: SplitResult, key: str, surface: Surface, model: str | None, body: bytes) -> bytes:
    """The bytes of the request."""
    if any(ord(character) < 33 or ord(character) > 126 for character in key):
        fail(ExitCode.USAGE, "the key has characters that no key has", "spaces, line ends, letters beyond ASCII")
    credential = f"Authorization: Bearer {key}" if surface is Surface.V1 else f"api-key: {key}"
    host = target.netloc.encode("idna").decode() if not target.netloc.isascii() else target.netloc
    lines = [
        f"POST {quote(path(target, surface, model), safe='/?&=%:@+,;~!$()*')} HTTP/1.1",
        f"Host: {host}",
        credential,
        "Content-Type: application/json",
        "Accept: text/event-stream, application/json",
        "User-Agent: modelport-bench",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def trust(ca: Path | None) -> ssl.SSLContext:
    """Whom to believe."""
    context = ssl.create_default_context()
    try:
        if ca is not None:
            context.load_verify_locations(ca)
    except OSError as error:  # SSLError is one
        fail(ExitCode.USAGE, f"{str(ca)!r} is no certificate authority: {error.strerror or error}")
    return context


def measured(question: Question, connections: int, bounds: Bounds, samples: list[Sample], endpoint: str) -> bool:
    """Fills `samples`; a first request, which does not count, finds out whether there is anything to measure.

    True: stopped by Ctrl-C, with the samples until then."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            first = runner.run(ask_once(question))
            if first.problem is not None:
                refused(first, endpoint)
            with progress(bounds) as tell:
                runner.run(run(question, connections, bounds, samples, tell))
        except KeyboardInterrupt:
            if not samples:
                raise typer.Exit(ExitCode.INTERRUPTED) from None
            return True
    return False


def refused(first: Sample, endpoint: str) -> None:
    """Ends the command: the first request failed."""
    codes = {0: ExitCode.SERVER_UNREACHABLE, 401: ExitCode.NOT_AUTHORISED, 403: ExitCode.NOT_AUTHORISED}
    codes[404] = ExitCode.NOT_FOUND
    fail(codes.get(first.status, ExitCode.REQUEST_REFUSED), f"{endpoint}: {first.problem}")


@contextmanager
def progress(bounds: Bounds) -> Iterator[Callable[[int, float], None]]:
    """A bar on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda count, elapsed: None
        return
    columns = (BarColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        task = display.add_task("", total=1.0)

        def tell(count: int, elapsed: float) -> None:
            share = max(count / bounds.requests, elapsed / bounds.seconds)
            display.update(task, completed=min(share, 1.0), description=f"{count} answers, {elapsed:.0f} s")

        yield tell


def show(found: dict[str, Any], samples: list[Sample], as_json: bool, plot: Path | None) -> None:
    """The result, printed and drawn."""
    if as_json:
        write_json(found)
    else:
        for line in bench_figures.sentences(found):
            write_line(line)
        write_line()
        write_table(bench_figures.TIME_COLUMNS, bench_figures.time_rows(found))
        for said, count in found["problems"].items():
            write_error_line(f"{count} failed: {said}")
    if plot is None:
        return
    kind = "streams" if found["streamed"] else "whole answers"
    about = [
        f"{found['endpoint']}, surface {found['surface']}, model {found['model'] or '(default)'}",
        f"{kind}, {found['connections']} connections, {time.strftime('%Y-%m-%d')}",
    ]
    drawn = (
        charts.stacked(bench_figures.plot(found, samples))
        if plot.suffix == ".svg"
        else bench_figures.page("How fast an endpoint answers", about, found, samples)
    )
    try:
        plot.write_text(drawn)
    except OSError as error:
        fail(ExitCode.USAGE, f"{str(plot)!r} cannot be written: {error.strerror}")
