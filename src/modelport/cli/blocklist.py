"""`modelport blocklist`: texts and patterns that content filters name."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from modelport.cli.administration import Body, EndpointOption, administration
from modelport.cli.bodies import FileOption, body_of
from modelport.cli.objects import JsonOption, name_argument, name_option, object_commands, one_name, save
from modelport.cli.settings import ConfigOption, DataDirOption

KIND: Final = "blocklists"

Exact = Annotated[list[str] | None, typer.Option("--exact", "-e", metavar="TEXT", help="A text. May be repeated.")]
Regex = Annotated[list[str] | None, typer.Option("--regex", "-r", help="A pattern. May be repeated.")]
NAME: Final = name_argument(KIND)
NAME_OPTION: Final = name_option(KIND)


def row(settings: Body) -> tuple[object, ...]:
    """How many entries."""
    return (len(settings.get("items") or ()),)


app = object_commands(KIND, "blocklist", ("entries",), row, example="house")


@app.command(
    "update",
    help="Add entries to a blocklist.\n\nExample: modelport blocklist update house --exact 'a third text'",
)
@app.command(
    "create",
    help="Create a blocklist, or replace the one of this name.\n\n"
    "Example: modelport blocklist create house --exact 'chopping tomatoes' --regex 'project.x'",
)
def change(
    context: typer.Context,
    name: str | None = NAME,
    option: str | None = NAME_OPTION,
    exact: Exact = None,
    regex: Regex = None,
    file: FileOption = None,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Both take the same options."""
    chosen, server, body = one_name(name, option), administration(config, data_dir, endpoint), body_of(file, None)
    known = server.object(KIND, chosen)["settings"] if context.info_name == "update" else {}
    items = [*(known.get("items") or ()), *(body.get("items") or ())]
    items += [{"exact": text} for text in exact or ()] + [{"regex": text} for text in regex or ()]
    save(context, server, KIND, chosen, {**body, "items": items}, as_json)
