"""`modelport identity`: tokens for development, in Entra's shapes."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
import yaml

from modelport.cli.output import ExitCode, application, fail, write_line
from modelport.cli.settings import DataDirOption, client_settings
from modelport.config.faults import ConfigError
from modelport.config.listen import is_loopback
from modelport.config.sources import Flags
from modelport.config.tls import RenewedCertificate, TlsFiles, self_signed
from modelport.identity.environment import as_json, as_shell, environment_file
from modelport.identity.identities import Directory, IdentityFault, open_directory, read_identities
from modelport.identity.server import IdentityServer, IssuerOptions

app = application(help="Issue tokens for development, in Entra's shapes.", no_args_is_help=True)


@app.callback()
def identity() -> None:
    """Issue tokens for development, in Entra's shapes."""


@app.command()
def serve(
    data_dir: DataDirOption = None,
    host: Annotated[str, typer.Option(help="A loopback address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the authority, https; 0 takes a free one.")] = 8443,
    managed_port: Annotated[int, typer.Option(help="Port of managed identities, http; 0 takes a free one.")] = 8444,
    identities: Annotated[
        Path | None, typer.Option(help="YAML list of identities; the first one is the default.")
    ] = None,
    role: Annotated[list[str] | None, typer.Option(help="A role of the identity `developer`. May be repeated.")] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="A group of the identity `developer`. May be repeated.")
    ] = None,
    token_version: Annotated[int, typer.Option(min=1, max=2, help="Shape of tokens: Entra's v1 or v2.")] = 1,
    token_seconds: Annotated[int, typer.Option(min=1, max=86_400, help="How long a token counts.")] = 3600,
    rotate_every: Annotated[
        float | None, typer.Option(min=1, help="Seconds after which a new key signs; absent: one key.")
    ] = None,
    imds: Annotated[
        bool, typer.Option("--imds", help="Also as a virtual machine does: any program on this machine gets tokens.")
    ] = False,
    print_env: Annotated[str | None, typer.Option(help="Print the client's environment: sh or json.")] = None,
) -> None:
    """Issue tokens on loopback, until it is stopped. `modelport serve --identity dev` accepts them.

    Example: modelport identity serve --role "Inference User"
    """
    if print_env not in (None, "sh", "json"):
        fail(ExitCode.USAGE, f"--print-env {print_env!r} is not known", "sh or json")
    if not is_loopback(host):
        fail(ExitCode.UNSAFE_LISTEN, f"{host} is reachable from other machines: a development issuer is for loopback")
    if identities is not None and (role or group):
        fail(ExitCode.USAGE, "--role and --group are for the identity `developer`; a file of identities has its own")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    logging.getLogger("modelport.identity").setLevel(logging.INFO)
    folder = client_settings(None, Flags(data_dir=data_dir)).data_dir
    version: Literal["1.0", "2.0"] = "1.0" if token_version == 1 else "2.0"
    options = IssuerOptions(token_seconds=token_seconds, rotate_seconds=rotate_every, version=version, imds=imds)
    developer = {"name": "developer", "roles": role or ["Inference User"], "groups": group or []}
    try:
        wanted = [developer] if identities is None else read_identities(identities)
        directory = open_directory(folder, wanted, os.environ)
        certificate = RenewedCertificate(lambda: _files(folder))
        listeners = _listener(host, port), _listener(host, managed_port)
        server = IdentityServer(directory, certificate, listeners, options)
        asyncio.run(server.serve(lambda: _announce(server, directory, folder, print_env)))
    except (IdentityFault, ConfigError) as error:
        fail(ExitCode.CONFIG_INVALID, str(error))
    except OSError as error:
        fail(ExitCode.DATA_DIR_UNUSABLE, f"the data directory {folder} cannot be used: {error}")


def _files(folder: Path) -> TlsFiles:
    return self_signed(folder, [], datetime.now(UTC))


def _listener(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        reason = "it is in use" if "in use" in str(error) else error.strerror or str(error)
        fail(ExitCode.PORT_IN_USE, f"cannot listen on {host}:{port}: {reason}", "choose another, or 0 for a free one")
    listener.setblocking(False)
    return listener


def _announce(server: IdentityServer, directory: Directory, folder: Path, print_env: str | None) -> None:
    """Where it is, and what to do next. With `print_env` the environment alone, for programs."""
    if print_env is not None:
        sys.stdout.write(as_shell(server.variables()) if print_env == "sh" else as_json(server.variables()))
        sys.stdout.flush()
        return
    write_line(f"the development issuer listens on {server.authority} and, for managed identities, {server.managed}")
    write_line(f"tenant {directory.tenant_id}")
    for found in directory.identities:
        write_line(f"  {found.name}  client id {found.client_id}  roles {', '.join(found.roles) or '-'}")
    write_line()
    write_line("# the server, in another shell")
    write_line(f"modelport serve --tls-self-signed --identity dev --data-dir {folder}")
    write_line("# clients: DefaultAzureCredential() works in this environment")
    write_line(f". {environment_file(directory, directory.identities[0])}")
    write_line()
    write_line("# or, for a server with another data directory, in its configuration")
    for line in yaml.safe_dump({"auth": {"oidc": [server.oidc_entry()]}}, sort_keys=False).splitlines():
        write_line(line)
    sys.stdout.flush()
