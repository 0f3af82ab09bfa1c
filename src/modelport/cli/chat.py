"""`modelport chat [DEPLOYMENT]`: a conversation with a running server, from the terminal."""

from __future__ import annotations

import http.client
import json
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from modelport.cli.keys import ConfigOption, DataDirOption, client_settings, readable_key
from modelport.cli.output import ExitCode, application, fail
from modelport.config.load import Loaded
from modelport.config.settings import Settings
from modelport.config.sources import Flags
from modelport.dialects.sse import EventStreamParser

app = application()

TIMEOUT_SECONDS = 600
DONE = b"[DONE]"


@app.command()
def chat(
    deployment: Annotated[str | None, typer.Argument(help="The deployment; the default one if none is named.")] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Say this, print the answer, end.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message to begin with.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(envvar="MODELPORT_ENDPOINT", help="The server; else host and port of the settings.")
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Talk to a deployment of a running server."""
    loaded = client_settings(config, Flags(data_dir=data_dir))
    client = Client(endpoint or local_endpoint(loaded.settings), loaded)
    messages: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
    for text in [message] if message is not None else typed():
        messages.append({"role": "user", "content": text})
        answer = ""
        for piece in client.answer(deployment, messages):
            answer += piece
            sys.stdout.write(piece)
            sys.stdout.flush()
        sys.stdout.write("\n")
        messages.append({"role": "assistant", "content": answer})


def typed() -> Iterator[str]:
    """What a person types, until the end of input."""
    interactive = sys.stdin.isatty()
    while True:
        try:
            line = input("> " if interactive else "")
        except (EOFError, KeyboardInterrupt):
            if interactive:
                sys.stdout.write("\n")
            return
        if line.strip():
            yield line


def local_endpoint(settings: Settings) -> str:
    """Where a server with these settings listens."""
    server = settings.server
    host = "localhost" if server.host in ("0.0.0.0", "::") else server.host  # noqa: S104
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if server.tls.is_enabled else 'http'}://{shown}:{server.port}"


class Client:
    """One server, by the OpenAI v1 surface."""

    def __init__(self, endpoint: str, loaded: Loaded) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._ca = loaded.settings.server.data_dir / "tls" / "ca.pem"
        key = readable_key(loaded)
        self._key = key.reveal() if key is not None else ""

    def answer(self, deployment: str | None, messages: list[dict[str, str]]) -> Iterator[str]:
        """The answer's pieces as they come. Ends the command on every failure, with what the server said."""
        body: dict[str, Any] = {"messages": messages, "stream": True}
        if deployment is not None:
            body["model"] = deployment
        parts = urlsplit(self._endpoint)
        connection = self._connection(parts.scheme, parts.netloc)
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        try:
            connection.request("POST", f"{parts.path}/v1/chat/completions", json.dumps(body), headers)
            response = connection.getresponse()
            if response.status != 200:
                refused(response)
            yield from pieces(response)
        except (OSError, http.client.HTTPException) as error:
            fail(ExitCode.SERVER_UNREACHABLE, f"no server at {self._endpoint}: {error}", "`modelport serve` starts one")
        finally:
            connection.close()

    def _connection(self, scheme: str, netloc: str) -> http.client.HTTPConnection:
        if scheme != "https":
            return http.client.HTTPConnection(netloc, timeout=TIMEOUT_SECONDS)
        context = ssl.create_default_context()
        if Path(self._ca).exists():
            context.load_verify_locations(self._ca)
        return http.client.HTTPSConnection(netloc, timeout=TIMEOUT_SECONDS, context=context)


def pieces(response: http.client.HTTPResponse) -> Iterator[str]:
    """The text in a stream of chunks."""
    parser = EventStreamParser()
    while data := response.read1(65536):
        for event in parser.feed(data):
            if event == DONE:
                return
            chunk = json.loads(event)
            if "error" in chunk:
                fail(ExitCode.REQUEST_REFUSED, chunk["error"].get("message", "the answer broke off"))
            for choice in chunk.get("choices", ()):
                if content := choice.get("delta", {}).get("content"):
                    yield content


def refused(response: http.client.HTTPResponse) -> None:
    """Ends the command with the server's own words."""
    try:
        error = json.loads(response.read())["error"]
        message = f"{error.get('message')} ({error.get('code')})"
    except (ValueError, KeyError, TypeError, AttributeError):
        message = f"the server answered {response.status}"
    fail(ExitCode.NOT_AUTHORISED if response.status == 401 else ExitCode.REQUEST_REFUSED, message)
