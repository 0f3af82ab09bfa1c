"""`modelport audit`: who has changed what over the API."""

from __future__ import annotations

import http.client
import json
import time
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from modelport.cli.administration import ANSWER_SECONDS, EndpointOption
from modelport.cli.output import ExitCode, application, fail, write_error_line, write_json, write_line, write_table
from modelport.cli.server import ask
from modelport.cli.settings import ConfigOption, DataDirOption, client_settings, settings_or_fail
from modelport.config.client import ClientSettings
from modelport.config.sources import Flags
from modelport.control.resources import RESOURCES
from modelport.control.usage import moment
from modelport.core.audit_chain import breaks
from modelport.core.ports.control import AuditEntry, ControlStoreUnavailable
from modelport.core.usage_reports import UsageQuestionError
from modelport.stores.sql.address import DriverMissing

app = application(help="Show who has changed what over the API, and check its chain.")
COLUMNS = ("time", "version", "actor", "from", "action", "object", "result")


@app.callback(invoke_without_command=True)
def audit(
    context: typer.Context,
    since: Annotated[
        str | None, typer.Option(help="From this moment: 2026-11-21, 2026-11-21T12:00:00Z, today, or 24h, 7d, 4w ago.")
    ] = None,
    resource: Annotated[
        str | None, typer.Option(help="Of one kind (deployments) or one object (deployments/NAME).")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document, with what was before and after.")
    ] = (False),
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show who has changed what over the API.

    A running server is asked; the database itself is read where none answers. The entries are a chain: one that is
    missing or was changed is named, and ends the command with status 14.

    Example: modelport audit --since 7d --resource deployments/gpt-4o
    """
    if context.invoked_subcommand is not None:
        return
    kind, _, name = (resource or "").partition("/")
    if kind and kind not in (*RESOURCES, "account"):
        raise typer.BadParameter(f"{kind!r} is no kind; there are {', '.join(RESOURCES)}, account")
    try:
        since_us = 0 if since is None else int(moment(since, time.time()) * 1_000_000)
    except UsageQuestionError as error:
        raise typer.BadParameter(str(error)) from None
    entries = all_entries(endpoint, config, data_dir)
    chosen = [
        entry
        for entry in entries
        if entry.time_us >= since_us and kind in ("", entry.kind) and name.lower() in ("", entry.name.lower())
    ]
    found = list(breaks(entries))
    if as_json:
        write_json({"is_whole": not found, "breaks": found, "entries": msgspec.to_builtins(chosen)})
    else:
        write_table(COLUMNS, map(row, chosen))
        for text in found:
            write_error_line(f"modelport: {text}")
        write_line("The chain is whole." if not found else "The chain is broken.")
    if found:
        raise typer.Exit(ExitCode.UNBALANCED)


@app.command()
def verify(
    head: Annotated[
        str | None,
        typer.Option(metavar="NUMBER:DIGEST", help="An entry that an earlier run has named: it must still be there."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Check the hash chain of the audit, and name where it breaks. Ends with status 14 where it does.

    Entries that were cut off at the end leave a chain that is whole: keep the head that is printed somewhere else, and
    give it to a later run.

    Example: modelport audit verify --head 42:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    """
    kept = head_of(head)
    entries = all_entries(endpoint, config, data_dir)
    found = list(breaks(entries))
    if kept is not None and kept not in ((entry.sequence, entry.digest) for entry in entries):
        found.append(f"entry {kept[0]} is not the one whose digest was kept")
    last = f"{entries[-1].sequence}:{entries[-1].digest}" if entries else None
    if as_json:
        write_json({"is_whole": not found, "breaks": found, "entries": len(entries), "head": last})
    else:
        write_line(f"entries  {len(entries)}")
        write_line(f"head     {last or 'none'}")
        for text in found:
            write_error_line(f"modelport: {text}")
        write_line("The chain is whole." if not found else "The chain is broken.")
    if found:
        raise typer.Exit(ExitCode.UNBALANCED)


def head_of(text: str | None) -> tuple[int, str] | None:
    """`NUMBER:DIGEST` as it was printed. Raises BadParameter."""
    if text is None:
        return None
    number, _, digest = text.partition(":")
    if not (number.isascii() and number.isdigit() and len(number) <= 18 and digest):
        raise typer.BadParameter(f"{text!r} is not NUMBER:DIGEST", param_hint="--head")
    return int(number), digest.lower()


def all_entries(endpoint: str | None, config: ConfigOption, data_dir: DataDirOption) -> list[AuditEntry]:
    """From the server, else from the database. Ends the command where neither gives them."""
    flags = Flags(data_dir=data_dir)
    entries = asked_entries(client_settings(config, flags), endpoint)
    return entries_or_fail(config, flags) if entries is None else entries


def asked_entries(settings: ClientSettings, endpoint: str | None) -> list[AuditEntry] | None:
    """From a running server; None where none was named and none gives them: the database itself must be read."""
    address = (endpoint or settings.endpoint).rstrip("/")
    try:
        reply = ask(settings, address, "GET", "/admin/v1/audit", answer_seconds=ANSWER_SECONDS)
        found: list[AuditEntry] = msgspec.convert(json.loads(reply.body)["value"], list[AuditEntry])
    except (OSError, http.client.HTTPException) as error:
        if endpoint is not None:
            fail(ExitCode.SERVER_UNREACHABLE, f"no server at {address}: {error}", "`modelport serve` starts one")
    except (ValueError, KeyError, TypeError):
        failure = f"{address} gives no audit: it answered {reply.status}"
        if endpoint is not None:
            fail(ExitCode.NOT_AUTHORISED if reply.status in (401, 403) else ExitCode.REQUEST_REFUSED, failure)
        write_error_line(f"modelport: {failure}; this one is from the database itself")
    else:
        return found
    return None


def entries_or_fail(config: ConfigOption, flags: Flags) -> list[AuditEntry]:
    """All entries there are, from the database. Ends the command where they cannot be read."""
    settings = settings_or_fail(config, flags)
    from modelport.app.ledger import database_address
    from modelport.stores.sql.control_reading import read_audit

    try:
        return read_audit(database_address(settings))
    except DriverMissing as error:
        fail(ExitCode.EXTRA_MISSING, str(error))
    except ControlStoreUnavailable as error:
        fail(ExitCode.DATA_DIR_UNUSABLE, str(error))


def row(entry: AuditEntry) -> tuple[object, ...]:
    """One line of the table."""
    when = datetime.fromtimestamp(entry.time_us / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    actor = entry.key_id if entry.key_id is not None and "://" not in entry.key_id else entry.actor
    further = (entry.after or {}).get("further_refusals")
    result = f"{entry.result} ({further} times)" if further is not None else entry.result
    return when, entry.version, actor, entry.source or "", entry.action, f"{entry.kind}/{entry.name}", result
