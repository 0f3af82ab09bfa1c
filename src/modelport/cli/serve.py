"""`modelport serve`: runs the endpoint until it is told to stop."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import signal
import socket
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from modelport.app.build import serving
from modelport.app.certificate import watch_certificate
from modelport.app.control.opening import open_control
from modelport.app.http_server import http_server, settle_memory
from modelport.app.processes import owner_process
from modelport.app.processes.fleet import FleetFailed
from modelport.app.processes.listening import shared
from modelport.app.processes.nursery_process import NurseryFailed
from modelport.app.reload_on_signal import ReloadOnSignal
from modelport.app.runtime import ProviderFault
from modelport.cli.output import ExitCode, application, fail, write_error_line, write_line
from modelport.cli.settings import ConfigOption, DataDirOption
from modelport.cli.startup import announce
from modelport.config.faults import ConfigError
from modelport.config.load import read
from modelport.config.preflight import problems
from modelport.config.secrets import GeneratedKey, generated_key, prepare_data_dir
from modelport.config.settings import Settings
from modelport.config.sources import Flags
from modelport.config.tls import RenewedCertificate, server_context, tls_files
from modelport.control.profiles import ProfileError
from modelport.engine.weights.faults import WeightsError
from modelport.lane.server import Server
from modelport.telemetry.logging import configure_logging

app = application()


@app.command()
def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. [env: MODELPORT_HOST]")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one. [env: MODELPORT_PORT]")] = None,
    data_dir: DataDirOption = None,
    tls_self_signed: Annotated[
        bool | None,
        typer.Option("--tls-self-signed", help="https with a certificate made here. [env: MODELPORT_TLS_SELF_SIGNED]"),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate chain. [env: MODELPORT_TLS_CERT]")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its PEM key. [env: MODELPORT_TLS_KEY]")] = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error. [env: MODELPORT_LOG_LEVEL]")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that serve. [env: MODELPORT_WORKERS]")] = None,
    default_content_filter: Annotated[
        str | None,
        typer.Option(
            help="The filter of deployments that name none, say Microsoft.Nill. [env: MODELPORT_DEFAULT_CONTENT_FILTER]"
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Deploy this model of `modelport models list`, as the default one.")
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option(help="`dev`: accept the tokens of `modelport identity serve`. [env: MODELPORT_IDENTITY]"),
    ] = None,
) -> None:
    """Run the endpoint.

    Without a configuration file it deploys the embedded models on 127.0.0.1:8080 and makes a key at its first start.

    Example: modelport serve --config modelport.yaml --workers 2
    """
    flags = Flags(
        host=host,
        port=port,
        data_dir=data_dir,
        tls_self_signed=tls_self_signed,
        tls_cert=tls_cert,
        tls_key=tls_key,
        log_level=log_level,
        workers=workers,
        default_content_filter=default_content_filter,
        model=model,
        identity=identity,
    )
    # A core file would hold keys and prompts; a child process inherits this.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    signal.signal(signal.SIGHUP, lambda *_: None)  # before the server can reload, it has nothing to read again
    settings = settings_that_start(config, flags)
    configure_logging(settings.telemetry.log, settings.telemetry.log_level)
    key = operator_key_or_fail(settings)
    held = hold(settings.server.data_dir)
    listener = listener_or_fail(settings)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            if settings.server.workers > 1:
                runner.run(run_processes(settings, key, listener, config, flags))
            else:
                runner.run(run(settings, key, listener, config, flags))
        write_line("modelport has stopped")
    except ConfigError as error:
        fail(ExitCode.CONFIG_INVALID, str(error))
    except (ProfileError, ProviderFault) as error:
        fail(ExitCode.CONFIG_INVALID, str(error))
    except WeightsError as error:
        fail(ExitCode.WEIGHTS_MISSING, str(error))
    except (NurseryFailed, FleetFailed) as error:
        fail(ExitCode.UNEXPECTED, str(error))
    except OSError as error:
        if not is_inside(settings.server.data_dir, error.filename):
            raise
        fail(ExitCode.DATA_DIR_UNUSABLE, f"the data directory {settings.server.data_dir} cannot be used: {error}")
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    finally:
        listener.close()
        if held is not None:
            os.close(held)


EXIT_CODES = {
    "listen": ExitCode.UNSAFE_LISTEN,
    "extra": ExitCode.EXTRA_MISSING,
    "weights": ExitCode.WEIGHTS_MISSING,
}
"""By the kind of a problem; CONFIG_INVALID for the others. Several problems end with the code of the first one."""


def settings_that_start(config: Path | None, flags: Flags) -> Settings:
    """The settings. Ends the command with a line for each fault that `modelport check` would find."""
    try:
        loaded = read(config, os.environ, flags)
    except ConfigError as error:
        fail(ExitCode.CONFIG_INVALID, str(error))
    for warning in loaded.warnings:
        write_error_line(f"warning: {warning}")
    if found := list(problems(loaded.settings)):
        fail(
            EXIT_CODES.get(found[0].kind, ExitCode.CONFIG_INVALID),
            "\n".join(str(loaded.fault(item.path, item.what)) for item in found),
        )
    return loaded.settings


async def run(
    settings: Settings, key: GeneratedKey | None, listener: socket.socket, config: Path | None, flags: Flags
) -> None:
    """Opens the application and serves it until a signal has drained it."""
    files = tls_files(settings)
    opened = await open_control(settings, config, flags, os.environ)
    secret = key.secret if key is not None else None
    async with serving(opened.settings, secret, opened=opened) as application:
        certificate: RenewedCertificate | None = None
        if files is not None:
            certificate = RenewedCertificate(lambda: tls_files(application.reconciler.current.settings))
        context = certificate.context if certificate is not None else None
        server = http_server(settings, application, context, Server)
        display = asyncio.create_task(announce(settings, key, listener, application, files, config))
        assert application.control is not None
        reloading = ReloadOnSignal(application.control, certificate)
        watching = asyncio.create_task(watch_certificate(certificate))
        settle_memory()
        try:
            await server.serve(sockets=[listener])
        finally:
            display.cancel()
            watching.cancel()
            reloading.close()


async def run_processes(
    settings: Settings, key: GeneratedKey | None, listener: socket.socket, config: Path | None, flags: Flags
) -> None:
    """The same with several processes: this one is their owner."""
    files = tls_files(settings)
    if files is not None:
        server_context(files)  # the workers make their own; a wrong file is told here
    listeners = shared(listener, settings.server.workers)
    secret = key.secret if key is not None else None
    await owner_process.run(
        settings,
        secret,
        listeners,
        config,
        flags,
        lambda shown: announce(settings, key, listeners[0], shown, files, config),
    )


def is_inside(directory: Path, name: object) -> bool:
    """Whether an error is about this directory or something in it."""
    return isinstance(name, str | Path) and Path(name).is_relative_to(directory)


def operator_key_or_fail(settings: Settings) -> GeneratedKey | None:
    """The key made at the first start, where the operator set none."""
    try:
        prepare_data_dir(settings.server.data_dir)
        if settings.auth.keys or settings.auth.anonymous:
            return None
        return generated_key(settings.server.data_dir)
    except OSError as error:
        fail(ExitCode.DATA_DIR_UNUSABLE, f"the data directory {settings.server.data_dir} cannot be used: {error}")


def hold(data_dir: Path) -> int | None:
    """Marks the data directory as this server's until the descriptor is closed. Warns where another server has it: that
    is allowed (a quota in SQLite is shared so), and seldom meant."""
    try:
        lock = os.open(data_dir / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        return None  # the first write that needs the directory names the fault
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        other = os.pread(lock, 32, 0).decode("ascii", "replace").strip()
        os.close(lock)
        write_error_line(
            f"warning: another modelport (process {other}) serves from {data_dir}, with the same keys, journal and "
            "ledger; give one of them another --data-dir"
        )
        return None
    os.truncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def listener_or_fail(settings: Settings) -> socket.socket:
    """The listening socket, bound before anything is loaded."""
    host, port = settings.server.host, settings.server.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        reason = "it is in use" if "in use" in str(error) else error.strerror or str(error)
        fail(
            ExitCode.PORT_IN_USE,
            f"cannot listen on {host}:{port}: {reason}",
            "choose another with --port, or 0 for a free one",
        )
    listener.setblocking(False)
    os.set_inheritable(listener.fileno(), False)
    return listener
