"""What the commands of every kind of object have in common: `show`, `list` and `delete`, and the report of a change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from modelport.cli.administration import (
    Administration,
    Body,
    EndpointOption,
    Object,
    administration,
    names_of,
)
from modelport.cli.bodies import flat
from modelport.cli.output import application, confirm, write_fields, write_json, write_line, write_table
from modelport.cli.settings import ConfigOption, DataDirOption

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
HEAD = ("name", "kind", "origin", "place", "etag", "created_at", "changed_at")

Row = Callable[[Any], Sequence[object]]
"""An object's settings as the cells between its name and where it comes from."""


def name_argument(kind: str) -> Any:
    """The name of an object of this kind, as an argument; with `name_option` it is optional."""
    return typer.Argument(None, show_default=False, help="Its name.", autocompletion=names_of(kind))


def name_option(kind: str, *more: str) -> Any:
    """The same as an option."""
    names = (*more, "--name", "-n")
    return typer.Option(None, *names, show_default=False, help="Its name.", autocompletion=names_of(kind))


def one_name(argument: str | None, option: str | None) -> str:
    """The name that was given in one of both ways. Raises BadParameter."""
    if (argument is None) == (option is None):
        raise typer.BadParameter("name one object, as an argument or with --name")
    return argument or option or ""


def object_commands(
    kind: str, singular: str, columns: Sequence[str], row: Row, *more_names: str, example: str
) -> typer.Typer:
    """The group of a kind with `list`, `show` and `delete`. `more_names`: options beside --name. `example`: a name
    for the help texts."""
    command = singular.split()[-1]
    app = application(help=f"Create, show, change and delete {kind.replace('_', ' ')}.", no_args_is_help=True)

    by_name, by_option = name_argument(kind), name_option(kind, *more_names)

    @app.callback()
    def group() -> None:
        pass

    @app.command(
        "list", help=f"List every {singular}: the file's and those made here.\n\nExample: modelport {command} list"
    )
    def list_(
        as_json: JsonOption = False,
        endpoint: EndpointOption = None,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        found = administration(config, data_dir, endpoint).objects(kind)
        if as_json:
            write_json(found)
        else:
            rows = [(item["name"], *row(item["settings"]), item["origin"]) for item in found]
            write_table(("name", *columns, "origin"), rows)

    @app.command(help=f"Show one {singular}.\n\nExample: modelport {command} show {example}")
    def show(
        name: str | None = by_name,
        option: str | None = by_option,
        as_json: JsonOption = False,
        endpoint: EndpointOption = None,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        write_object(administration(config, data_dir, endpoint).object(kind, one_name(name, option)), as_json)

    @app.command(
        help=f"Delete a {singular} that nothing uses. Asks first.\n\n"
        f"Example: modelport {command} delete {example} --yes"
    )
    def delete(
        name: str | None = by_name,
        option: str | None = by_option,
        yes: YesOption = False,
        as_json: JsonOption = False,
        endpoint: EndpointOption = None,
        config: ConfigOption = None,
        data_dir: DataDirOption = None,
    ) -> None:
        chosen = one_name(name, option)
        server = administration(config, data_dir, endpoint)
        confirm(f"Delete {kind}/{chosen}?", yes)
        server.delete(kind, chosen)
        write_done(kind, chosen, "deleted", as_json)

    return app


def write_object(found: Object, as_json: bool) -> None:
    """All that is known of an object."""
    if as_json:
        write_json(found)
        return
    rows = [(key, str(found[key])) for key in HEAD if key in found]
    write_fields([*rows, *flat(found["settings"])])


def save(context: typer.Context, server: Administration, kind: str, name: str, settings: Body, as_json: bool) -> None:
    """`create` puts the whole object, `update` changes the settings that were given."""
    if context.info_name == "create":
        found, is_new = server.put(kind, name, settings)
        done = "created" if is_new else "replaced"
    else:
        found, done = server.patch(kind, name, settings), "changed"
    if as_json:
        write_json(found)
    else:
        write_done(kind, str(found["name"]), done, as_json=False)


def write_done(kind: str, name: str, done: str, as_json: bool) -> None:
    """Reports what was done."""
    if as_json:
        write_json({"kind": kind, "name": name, "result": done})
    else:
        write_line(f"{kind}/{name} {done}")
