"""The administration of a running server, for commands: what it refuses ends the command with the server's words."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn
from urllib.parse import quote

import typer

from modelport.cli.output import ExitCode, fail
from modelport.cli.server import NO_HEADERS, Reply, ask
from modelport.cli.settings import client_settings
from modelport.config.client import ClientSettings, read_client
from modelport.config.faults import ConfigError
from modelport.config.sources import Flags

ANSWER_SECONDS: Final = 120
"""A change is answered when every process serves it."""
COMPLETION_SECONDS: Final = 2

Body = dict[str, Any]
Object = dict[str, Any]
"""name, kind, origin, settings; etag, place, created_at and changed_at where there are such."""

EndpointOption = Annotated[
    str | None,
    typer.Option("--endpoint", envvar="MODELPORT_ENDPOINT", help="The server; else host and port of the settings."),
]


class Administration:
    """`/admin/v1` of one server, with the operator's key."""

    def __init__(self, settings: ClientSettings, endpoint: str | None) -> None:
        self._settings = settings
        self._address = (endpoint or settings.endpoint).rstrip("/")

    def objects(self, kind: str) -> list[Object]:
        """All of a kind, by name."""
        found: list[Object] = self._document(self._ask("GET", f"/admin/v1/{kind}"))["value"]
        return found

    def object(self, kind: str, name: str) -> Object:
        """One of them."""
        return self._document(self._ask("GET", path_of(kind, name)))

    def create(self, kind: str, name: str, settings: Body) -> Object:
        """Creates it; one of this name is a refusal."""
        return self._document(self._ask("PUT", path_of(kind, name), {"settings": settings}, {"if-none-match": "*"}))

    def put(self, kind: str, name: str, settings: Body) -> tuple[Object, bool]:
        """Creates or replaces it; True: it was created."""
        reply = self._ask("PUT", path_of(kind, name), {"settings": settings})
        return self._document(reply), reply.status == 201

    def patch(self, kind: str, name: str, settings: Body) -> Object:
        """Changes these settings and no others (null removes one)."""
        return self._document(self._ask("PATCH", path_of(kind, name), {"settings": settings}))

    def delete(self, kind: str, name: str) -> None:
        """Removes it."""
        self._ask("DELETE", path_of(kind, name))

    def post(self, path: str, body: Body) -> Body:
        """What an operation beyond these answers."""
        return self._document(self._ask("POST", f"/admin/v1/{path}", body))

    def call(self, path: str, body: Body, headers: Mapping[str, str]) -> Body:
        """What a path beyond the administration's answers."""
        return self._document(self._ask("POST", path, body, headers))

    def _ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] = NO_HEADERS) -> Reply:
        given, seconds = (self._settings, self._address, method, path), ANSWER_SECONDS
        try:
            reply = ask(*given, body=body, headers=headers, answer_seconds=seconds)
        except (OSError, http.client.HTTPException) as error:
            remedy = "`modelport serve` starts one"
            fail(ExitCode.SERVER_UNREACHABLE, f"no server at {self._address}: {error}", remedy)
        if reply.status >= 300:
            self._refused(reply)
        return reply

    def _document(self, reply: Reply) -> Body:
        try:
            found: Body = json.loads(reply.body)
        except ValueError:
            self._stranger(reply)
        return found

    def _refused(self, reply: Reply) -> NoReturn:
        try:
            message = str(json.loads(reply.body)["error"]["message"])
        except (ValueError, KeyError, TypeError):
            self._stranger(reply)
        codes = {401: ExitCode.NOT_AUTHORISED, 404: ExitCode.NOT_FOUND}
        if reply.status == 403 and b'"RequestDisallowedByPolicy"' not in reply.body:
            fail(ExitCode.NOT_AUTHORISED, message)
        fail(codes.get(reply.status, ExitCode.REQUEST_REFUSED), message)

    def _stranger(self, reply: Reply) -> NoReturn:
        what = f"{self._address} answered {reply.status}, and is perhaps another server"
        fail(ExitCode.REQUEST_REFUSED, what)


def administration(config: Path | None, data_dir: Path | None, endpoint: str | None) -> Administration:
    """Of the server that these options name."""
    return Administration(client_settings(config, Flags(data_dir=data_dir)), endpoint)


def path_of(kind: str, name: str) -> str:
    """The address of an object."""
    return f"/admin/v1/{kind}/{quote(name, safe='')}"


def names_of(kind: str) -> Callable[[str], list[str]]:
    """Completes the names of a kind from the server of the environment's settings; from none, where it is silent."""

    def complete(incomplete: str) -> list[str]:
        try:
            settings = read_client(None, os.environ, Flags())
            address = os.environ.get("MODELPORT_ENDPOINT") or settings.endpoint
            path = f"/admin/v1/{kind}"
            reply = ask(settings, address.rstrip("/"), "GET", path, answer_seconds=COMPLETION_SECONDS)
            names = [str(found["name"]) for found in json.loads(reply.body)["value"]]
        except (OSError, http.client.HTTPException, ConfigError, ValueError, KeyError, TypeError):
            return []
        return [name for name in names if name.lower().startswith(incomplete.lower())]

    return complete
