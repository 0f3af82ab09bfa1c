"""`modelport import`: other systems' files as a configuration, and what of them has no counterpart."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from modelport.cli.bodies import pairs_of, read_settings, value_of
from modelport.cli.importing.azure import import_azure
from modelport.cli.importing.litellm import import_litellm
from modelport.cli.importing.result import Imported, NotImportable
from modelport.cli.output import ExitCode, application, confirm, fail, write_error_line, write_json, write_line

app = application(help="Make a configuration of what Azure or LiteLLM has.", no_args_is_help=True)

OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="The configuration to write; else it is printed.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Replace the file that is there.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print configuration and notes as one JSON document.")]
BOMS = ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"", "utf-8-sig"))
"""PowerShell's `>` writes UTF-16."""


@app.callback()
def import_() -> None:
    """Make a configuration of what Azure or LiteLLM has."""


@app.command()
def azure(
    file: Annotated[Path, typer.Argument(help="An ARM template, or deployments as `az … -o json` prints them.")],
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A template's. May be repeated.")
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", "-a", help="Whose deployments these are, whatever the file says.")
    ] = None,
    output: OutputOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a configuration of Azure's model deployments, and list what has no counterpart.

    Each deployment is answered by Azure, until you name another provider. For Bicep, build the template first.

    Example: modelport import azure deployments.json --output modelport.yaml
    """
    if file.suffix in (".bicep", ".bicepparam"):
        verb = "build" if file.suffix == ".bicep" else "build-params"
        remedy = f"az bicep {verb} --file {file.name}, and then its .json"
        fail(ExitCode.CONFIG_INVALID, f"{file}: Bicep is not read here", remedy)
    values = {name: value_of(text) for name, text in (pairs_of(parameter, "--parameter") or {}).items()}
    document = read_json(file)
    try:
        found = import_azure(document, values, account)
    except NotImportable as error:
        fail(ExitCode.CONFIG_INVALID, f"{file}: {error}")
    write(found, file, output, yes, as_json)


@app.command()
def litellm(
    file: Annotated[Path, typer.Argument(help="LiteLLM's config.yaml.")],
    output: OutputOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a configuration of LiteLLM's config.yaml, and list what has no counterpart.

    Example: modelport import litellm config.yaml --output modelport.yaml
    """
    document = read_settings(file)
    try:
        found = import_litellm(document, os.environ)
    except NotImportable as error:
        fail(ExitCode.CONFIG_INVALID, f"{file}: {error}")
    write(found, file, output, yes, as_json)


def read_json(file: Path) -> Any:
    """A JSON document. Ends the command where there is none."""
    try:
        raw = file.read_bytes()
        encoding = next(encoding for mark, encoding in BOMS if raw.startswith(mark))
        return json.loads(raw.decode(encoding))
    except OSError as error:
        fail(ExitCode.CONFIG_INVALID, f"{file} cannot be read: {error.strerror}")
    except ValueError:
        fail(ExitCode.CONFIG_INVALID, f"{file} is not JSON", "az … -o json prints it")


def write(found: Imported, source: Path, output: Path | None, yes: bool, as_json: bool) -> None:
    """The configuration to a file or standard output, the notes to standard error."""
    import yaml

    text = f"# Made from {source.name} by `modelport import`.\n"
    text += yaml.safe_dump(found.configuration, sort_keys=False, allow_unicode=True)
    if output is not None:
        if output.exists():
            confirm(f"Replace {output}?", yes)
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            fail(ExitCode.CONFIG_INVALID, f"{output} cannot be written: {error.strerror}")
    if as_json:
        notes = [{"place": place, "what": what} for place, what in found.notes]
        write_json({"configuration": found.configuration, "notes": notes})
        return
    if output is None:
        write_line(text.rstrip())
    else:
        count = len(found.configuration["deployments"])
        write_line(f"{output}: {count} deployment{'' if count == 1 else 's'}. `modelport check` tries it.")
    if found.notes:
        write_error_line("To do, and without a counterpart:")
    for place, what in found.notes:
        write_error_line(f"  {place}: {what}")
