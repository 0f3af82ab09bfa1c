"""`modelport usage`: what calls have used and cost."""

from __future__ import annotations

import http.client
import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final, NoReturn
from urllib.parse import urlencode

import typer

from modelport.cli.output import ExitCode, application, fail, write_error_line, write_json, write_table
from modelport.cli.server import ask
from modelport.cli.settings import ConfigOption, DataDirOption, client_settings, settings_or_fail
from modelport.cli.usage_table import usage_table
from modelport.config.client import ClientSettings
from modelport.config.faults import ConfigError
from modelport.config.sources import Flags
from modelport.control import focus
from modelport.control.usage import as_csv, question, read, shown
from modelport.core.usage_reports import (
    GROUPINGS,
    LedgerUnavailable,
    TooManyRows,
    UsageQuestion,
    UsageQuestionError,
    UsageRow,
)
from modelport.stores.sql.address import DriverMissing

if TYPE_CHECKING:
    from modelport.app.ledger import LedgerAtRest
    from modelport.config.settings import Settings

app = application()

ANSWER_SECONDS: Final = 30


class ServerRefused(Exception):
    """A server answered, and not with a report."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@app.command()
def usage(
    by: Annotated[str, typer.Option(help=f"What to divide by: {', '.join(GROUPINGS)}; several with commas.")] = (
        "deployment"
    ),
    since: Annotated[
        str | None, typer.Option(help="From this hour: 2026-11-21, 2026-11-21T12:00:00Z, today, or 24h, 7d, 4w ago.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Until this hour, in the same words.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_focus: Annotated[
        bool, typer.Option("--focus", help="Print CSV in FOCUS columns, by day; --by does not count.")
    ] = False,
    endpoint: Annotated[
        str | None, typer.Option(envvar="MODELPORT_ENDPOINT", help="The server; else host and port of the settings.")
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show what calls have used and cost.

    Example: modelport usage --by deployment,day --since 7d
    """
    if as_json + csv + as_focus > 1:
        raise typer.BadParameter("choose one of --json, --csv and --focus")
    try:
        asked = question(",".join(focus.GROUPINGS) if as_focus else by, since, until, time.time())
    except UsageQuestionError as error:
        raise typer.BadParameter(str(error)) from None
    flags = Flags(data_dir=data_dir)
    settings = client_settings(config, flags)
    rows = asked_rows(asked, settings, endpoint)
    if rows is None:
        rows = from_database(asked, settings_or_fail(config, flags))
    if as_json:
        write_json([shown(row) for row in rows])
    elif csv:
        typer.echo(as_csv(rows, asked.by), nl=False)
    elif as_focus:
        typer.echo(focus.as_focus(rows, "modelport", settings.region), nl=False)
    else:
        write_table(*usage_table(rows, asked.by))


# --- where the numbers come from --------------------------------------------------------------------------------------


def asked_rows(asked: UsageQuestion, settings: ClientSettings, endpoint: str | None) -> list[UsageRow] | None:
    """From a running server; None where none was named and none answers: the database itself must be asked."""
    address = (endpoint or settings.endpoint).rstrip("/")
    try:
        return from_server(asked, settings, address)
    except (OSError, http.client.HTTPException) as error:
        if endpoint is not None:
            fail(ExitCode.SERVER_UNREACHABLE, f"no server at {address}: {error}", "`modelport serve` starts one")
    except ServerRefused as error:
        if endpoint is not None:
            refused(error)
        write_error_line(f"modelport: {address} gives no report ({error}); this one is from the database itself")
    return None


def from_server(asked: UsageQuestion, settings: ClientSettings, endpoint: str) -> list[UsageRow]:
    """Raises OSError, HTTPException, ServerRefused."""
    query = {"by": ",".join(asked.by)}
    query |= {name: iso(at) for name in ("since", "until") if (at := getattr(asked, name)) is not None}
    path = f"/admin/v1/usage?{urlencode(query)}"
    response = ask(settings, endpoint, "GET", path, answer_seconds=ANSWER_SECONDS)
    try:
        found = json.loads(response.body)
        if response.status == 200:
            return [read(row, asked.by) for row in found]
        raise ServerRefused(response.status, str(found["error"]["message"]))
    except (ValueError, KeyError, TypeError, ArithmeticError):
        raise ServerRefused(response.status, f"it answered {response.status}, and is perhaps another server") from None


def from_database(asked: UsageQuestion, settings: Settings) -> list[UsageRow]:
    """Ends the command where that cannot be read."""
    ledger = ledger_or_fail(settings)
    try:
        waiting = ledger.waiting_records()
        if waiting:
            write_error_line(
                f"modelport: {waiting} calls wait in the journal until `modelport serve` runs, and are not counted"
            )
        return ledger.report(asked)
    except TooManyRows:
        fail(ExitCode.REQUEST_REFUSED, "the report has too many rows", "ask for less time or for fewer groupings")
    except LedgerUnavailable as error:
        fail(ExitCode.DATA_DIR_UNUSABLE, str(error))
    except OSError as error:
        fail(ExitCode.DATA_DIR_UNUSABLE, f"the journal cannot be read: {error}")


def ledger_or_fail(settings: Settings) -> LedgerAtRest:
    """The ledger of these settings."""
    try:
        from modelport.app.ledger import LedgerAtRest  # with it comes SQL, which a running server has already

        return LedgerAtRest(settings)
    except ConfigError as error:
        fail(ExitCode.CONFIG_INVALID, str(error))
    except DriverMissing as error:
        fail(ExitCode.EXTRA_MISSING, str(error), "pip install 'modelport[postgres]'")


def refused(error: ServerRefused) -> NoReturn:
    """With the server's own words."""
    fail(ExitCode.NOT_AUTHORISED if error.status == 401 else ExitCode.REQUEST_REFUSED, str(error))


def iso(at: int) -> str:
    """For a query."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
