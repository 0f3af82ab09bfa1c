"""`modelport chat [DEPLOYMENT]`: a conversation with a running server, from the terminal."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from modelport.cli.conversation import Conversation, typed, write
from modelport.cli.output import ExitCode, application, fail
from modelport.cli.server import connection_to
from modelport.cli.settings import ConfigOption, DataDirOption, client_settings, readable_key
from modelport.config.client import ClientSettings
from modelport.config.sources import Flags

app = application()

TIMEOUT_SECONDS = 600
DONE = b"[DONE]"


@app.command()
def chat(
    deployment: Annotated[str | None, typer.Argument(help="The deployment; the default one if none is named.")] = None,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Say this, print the answer, end.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message to begin with.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="The most tokens of one answer.")] = 512,
    endpoint: Annotated[
        str | None, typer.Option(envvar="MODELPORT_ENDPOINT", help="The server; else host and port of the settings.")
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Talk to a deployment of a running server. On a terminal, /help lists the commands, and the lines you type are
    kept in DATA_DIR/chat-history for the arrow keys.

    Example: modelport chat smollm2-135m-instruct --message "Name three colours."
    """
    settings = client_settings(config, Flags(data_dir=data_dir))
    client = Client(endpoint or settings.endpoint, settings)
    interactive = message is None and sys.stdin.isatty()
    ask = partial(client.answer, deployment, max_tokens)
    conversation = Conversation(ask, system, interactive=interactive)
    try:
        if message is not None:
            conversation.say(message)
            return
        if interactive:
            write(f"{deployment or 'The default deployment'} at {client.endpoint}. /help lists the commands.\n")
        for line in typed(settings.data_dir / "chat-history" if interactive else None):
            is_over = conversation.obey(line)
            if is_over:
                return
            if is_over is None:
                conversation.say(line.removeprefix("/") if line.startswith("//") else line)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None


class Client:
    """One server, by the OpenAI v1 surface."""

    def __init__(self, endpoint: str, settings: ClientSettings) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._data_dir = settings.data_dir
        key = readable_key(settings)
        self._key = key.reveal() if key is not None else ""

    def answer(self, deployment: str | None, max_tokens: int, messages: list[dict[str, Any]]) -> StreamedAnswer:
        """Asks when it is iterated."""
        body: dict[str, Any] = {
            "messages": messages,
            "max_tokens": max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if deployment is not None:
            body["model"] = deployment
        parts = urlsplit(self.endpoint)
        headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
        request = (f"{parts.path}/v1/chat/completions", json.dumps(body), headers)
        return StreamedAnswer(connection_to(parts, self._data_dir, TIMEOUT_SECONDS), request, self.endpoint)


class StreamedAnswer:
    """conversation.Answer"""

    def __init__(
        self, connection: http.client.HTTPConnection, request: tuple[str, str, dict[str, str]], endpoint: str
    ) -> None:
        self._connection = connection
        self._request = request
        self._endpoint = endpoint
        self.finish_reason: str | None = None
        self.tokens: int | None = None

    def __iter__(self) -> Iterator[str]:
        try:
            self._connection.request("POST", *self._request)
            response = self._connection.getresponse()
            if response.status != 200:
                refused(response)
            yield from self._pieces(response)
        except (OSError, http.client.HTTPException) as error:
            fail(ExitCode.SERVER_UNREACHABLE, f"no server at {self._endpoint}: {error}", "`modelport serve` starts one")

    def close(self) -> None:
        """Hangs up."""
        self._connection.close()

    def _pieces(self, response: http.client.HTTPResponse) -> Iterator[str]:
        from modelport.dialects.sse import EventStreamParser

        parser = EventStreamParser()
        while data := response.read1(65536):
            for event in parser.feed(data):
                if event == DONE:
                    return
                chunk = json.loads(event)
                if "error" in chunk:
                    fail(ExitCode.REQUEST_REFUSED, chunk["error"].get("message", "the answer broke off"))
                if usage := chunk.get("usage"):
                    self.tokens = usage.get("completion_tokens")
                for choice in chunk.get("choices", ()):
                    self.finish_reason = choice.get("finish_reason") or self.finish_reason
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
