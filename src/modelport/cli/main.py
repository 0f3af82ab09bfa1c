"""The command `modelport`: its sub-commands, each imported when it is run."""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from modelport import __version__

COMMANDS: Final = {
    "serve": "Run the endpoint.",
    "check": "Check a configuration and name every fault with its line.",
    "chat": "Talk to a deployment of a running server.",
    "models": "List, pull, verify and remove the models that run here.",
    "deployment": "Create, show, change and delete deployments.",
    "provider": "Create, show, change and delete providers.",
    "project": "Create, show, change and delete projects.",
    "filter": "Create, show, change and delete content filters.",
    "blocklist": "Create, show, change and delete blocklists.",
    "policy": "Create, show, change and delete policies.",
    "keys": "Show the operator's key, and manage callers' keys.",
    "role": "Assign roles to users, groups, applications and keys.",
    "apply": "Make a running server's objects like those of a file.",
    "export": "Print a server's objects as `modelport apply` takes them.",
    "import": "Make a configuration of what Azure or LiteLLM has.",
    "explain": "Show what a call would do, without making it.",
    "safety": "Show what the content filters say of a text, and why.",
    "identity": "Issue tokens for development, in Entra's shapes.",
    "usage": "Show what calls have used and cost.",
    "prices": "Show what models cost, and check a price list.",
    "ledger": "Check the record of all calls.",
    "audit": "Show who has changed what over the API, and check its chain.",
}
"""Each sub-command and its help. Its application is `app` in the module of the same name (`import_` for `import`)."""
GC_THRESHOLD: Final = 100_000
"""Objects between two collections in a command that ends soon: what imports make is hardly ever garbage."""


def load(name: str) -> Any:
    """Imports a sub-command."""
    return get_command(import_module(f"modelport.cli.{'import_' if name == 'import' else name}").app)


class LazyGroup(TyperGroup):
    """Lists all sub-commands without importing any; resolving one imports it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands.update({name: TyperCommand(name, help=text) for name, text in COMMANDS.items()})

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        return name, load(name) if name in COMMANDS else command, rest


app = typer.Typer(
    name="modelport",
    cls=LazyGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,  # it would take "[env: …]" for markup and leave it out
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def modelport(
    version: bool = typer.Option(False, "--version", help="Print the version.", callback=_print_version, is_eager=True),
) -> None:
    """One endpoint and one credential in front of every model.

    `modelport serve` runs it with the models that are here; `modelport chat` talks to it from another shell.
    """


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def main() -> None:
    """The console script."""
    if sys.argv[1:2] != ["serve"]:
        gc.set_threshold(GC_THRESHOLD)
    # A plug-in would see every secret, and looking for one reads the metadata of all packages.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    app()
