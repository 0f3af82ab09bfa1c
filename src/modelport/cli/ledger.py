"""`modelport ledger`: whether the books balance."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from modelport.cli.output import ExitCode, application, fail, write_error_line, write_json, write_line
from modelport.cli.settings import ConfigOption, DataDirOption, settings_or_fail
from modelport.cli.usage import ledger_or_fail
from modelport.config.sources import Flags
from modelport.core.usage_reports import LedgerUnavailable

app = application(help="Check the record of all calls.", no_args_is_help=True)


@app.callback()
def ledger() -> None:
    """Check the record of all calls."""


@app.command()
def verify(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check the journal's chain, that its calls are in the ledger once each, and that roll-ups are their sums.

    Example: modelport ledger verify --json
    """
    settings = settings_or_fail(config, Flags(data_dir=data_dir))
    try:
        found = ledger_or_fail(settings).audit()
    except LedgerUnavailable as error:
        fail(ExitCode.DATA_DIR_UNUSABLE, str(error))
    except OSError as error:
        fail(ExitCode.DATA_DIR_UNUSABLE, f"the journal cannot be read: {error}")
    if as_json:
        write_json({"balances": found.balances, **msgspec.to_builtins(found)})
    else:
        journal = found.journal
        write_line(f"journal  {journal.lines} lines, {journal.calls} calls ended, {journal.open_calls} open")
        write_line(f"ledger   {found.ledger_calls} calls, {found.ledger_tokens} tokens")
        write_line(f"checked  {found.checked_calls} calls of the journal; {found.waiting_calls} are not shipped yet")
        if found.pruned_calls:
            write_line(
                f"removed  {found.pruned_calls} of these calls are older than `ledger.keep_days`; their sums are left"
            )
        for fault in journal.faults:
            write_error_line(f"{fault.path}:{fault.line}: {fault.what}")
        for text in found.faults:
            write_error_line(text)
        write_line("It balances." if found.balances else "It does not balance.")
    if not found.balances:
        raise typer.Exit(ExitCode.UNBALANCED)
