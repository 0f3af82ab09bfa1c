"""The command `modelport`: its sub-commands, and nothing else."""

from __future__ import annotations

import typer

from modelport import __version__
from modelport.cli.bench import bench
from modelport.cli.chat import chat
from modelport.cli.check import check
from modelport.cli.keys import app as keys
from modelport.cli.ledger import app as ledger
from modelport.cli.models import app as models
from modelport.cli.prices import app as prices
from modelport.cli.serve import serve
from modelport.cli.usage import usage

app = typer.Typer(
    name="modelport",
    help="One endpoint and one credential in front of every model.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # it would take "[env: …]" for markup and leave it out
    pretty_exceptions_enable=False,
)
app.command()(serve)
app.command()(chat)
app.command()(check)
app.command()(usage)
app.command()(bench)
app.add_typer(models, name="models")
app.add_typer(keys, name="keys")
app.add_typer(ledger, name="ledger")
app.add_typer(prices, name="prices")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def modelport(
    version: bool = typer.Option(False, "--version", help="Print the version.", callback=_print_version, is_eager=True),
) -> None:
    """One endpoint and one credential in front of every model."""


def main() -> None:
    """The console script."""
    app()
