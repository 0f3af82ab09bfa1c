"""`modelport apply`: makes a running server's objects like those of a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from modelport.cli.administration import Administration, EndpointOption, Object, administration
from modelport.cli.bodies import check_secrets, read_settings, read_standard_input, with_secrets
from modelport.cli.declaration import Change, NotOurs, changes, declared
from modelport.cli.objects import JsonOption, YesOption
from modelport.cli.output import ExitCode, application, confirm, fail, write_error_line, write_json, write_line
from modelport.cli.settings import ConfigOption, DataDirOption

app = application()

STANDARD_INPUT: Final = Path("-")
SIGNS: Final = {"create": "+", "change": "~", "send_secrets": "=", "delete": "-"}


@app.command()
def apply(
    file: Annotated[
        Path,
        typer.Option("--file", "-f", help="YAML or JSON, in the words of the configuration; - reads standard input."),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference, and change nothing.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete stored objects of the file's kinds that it does not name.")
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Make a running server's objects like those of a file.

    Shows the difference, and asks, first. Sections of the server itself are passed over. Objects are changed one after
    the other: where one is refused, those before it stay changed.

    Example: modelport apply -f objects.yaml --dry-run
    """
    wanted, passed_over = declared(read_standard_input() if file == STANDARD_INPUT else read_settings(file))
    if passed_over:
        write_error_line(f"modelport: passed over, as the server's own: {', '.join(passed_over)}")
    for one in wanted:
        check_secrets(one.kind, one.settings)
    server = administration(config, data_dir, endpoint)
    try:
        found = changes(wanted, server.objects, prune=prune)
    except NotOurs as error:
        fail(ExitCode.REQUEST_REFUSED, str(error))
    if not as_json:
        write_difference(found)
    secrets: dict[str, dict[str, str]] = {}
    if found and not dry_run:
        confirm(f"Apply {len(found)} changes?", yes or all(change.action == "send_secrets" for change in found))
        secrets = {change.name: made for change in found if (made := made_by(server, change, file.parent, as_json))}
    if as_json:
        write_json({"changes": [document(change) for change in found], "is_applied": not dry_run, "keys": secrets})


def made_by(server: Administration, change: Change, directory: Path, as_json: bool) -> dict[str, str]:
    """Makes one change, and says so; the values of new keys."""
    if change.action == "delete":
        server.delete(change.kind, change.name)
        answer, done = Object(), "deleted"
    else:
        answer, is_new = server.put(change.kind, change.name, with_secrets(change.kind, change.after, directory))
        done = "created" if is_new else "changed" if change.action == "change" else "secrets sent"
    secrets: dict[str, str] = answer.get("secrets") or {}
    if not as_json:
        write_line(f"{change.kind}/{change.name} {done}")
        for slot, value in secrets.items():
            write_line(f"    {slot}: {value}  (not shown again)")
    return secrets


def write_difference(found: Sequence[Change]) -> None:
    """For people."""
    for change in found:
        write_line(f"{SIGNS[change.action]} {change.kind}/{change.name}")
        if change.action == "send_secrets":
            write_line("    its secrets are sent again; whether they differ cannot be seen")
        elif change.action != "delete":
            for place, before, after in change.differences():
                old = "" if change.action == "create" else f"{'(not set)' if before is None else before} → "
                write_line(f"    {place}: {old}{'(not set)' if after is None else after}")
    if not found:
        write_line("Nothing differs.")


def document(change: Change) -> dict[str, object]:
    """For programs."""
    differences = [
        {"setting": place, "before": before, "after": after} for place, before, after in change.differences()
    ]
    return {"action": change.action, "kind": change.kind, "name": change.name, "differences": differences}
