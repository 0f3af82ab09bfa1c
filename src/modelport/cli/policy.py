"""`modelport policy`: which deployments may be made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from modelport.cli.administration import Body, EndpointOption, administration, path_of
from modelport.cli.bodies import FileOption, SetOption, body_of, read_settings
from modelport.cli.objects import JsonOption, name_argument, name_option, object_commands, one_name, save
from modelport.cli.output import ExitCode, write_json, write_line, write_table
from modelport.cli.settings import ConfigOption, DataDirOption

KIND: Final = "policies"
FIELDS: Final = ("models", "publishers", "formats", "skus", "providers", "regions")

Allow = Annotated[
    list[str] | None,
    typer.Option("--allow", "-a", metavar="FIELD=PATTERN", help=f"Fields: {', '.join(FIELDS)}. May be repeated."),
]
Deny = Annotated[list[str] | None, typer.Option("--deny", "-d", metavar="FIELD=PATTERN", help="The same, disallowed.")]
MaxCapacity = Annotated[int | None, typer.Option("--max-capacity", "-c", help="Units of capacity at most.")]
Tags = Annotated[
    list[str] | None, typer.Option("--required-tag", "-t", help="A tag that a deployment must have. May be repeated.")
]
AtLeast = Annotated[
    str | None,
    typer.Option("--content-filter-at-least", help="A content filter that a deployment's is at least as strict as."),
]
Effect = Annotated[str | None, typer.Option("--effect", "-e", help="deny refuses; audit notes in the audit.")]
NAME: Final = name_argument(KIND)
NAME_OPTION: Final = name_option(KIND)


def row(settings: Body) -> tuple[object, ...]:
    """Effect and rules."""
    rules = [f"{side}.{field}" for side in ("allow", "deny") for field in settings.get(side) or {}]
    rules += [rule for rule in ("max_capacity", "required_tags", "content_filter_at_least") if settings.get(rule)]
    return settings.get("effect", "deny"), " ".join(rules)


app = object_commands(KIND, "policy", ("effect", "rules"), row, example="approved")


@app.command(
    "update",
    help="Change some settings of a policy; the others stay. A list that is given replaces the one before.\n\n"
    "Example: modelport policy update approved --effect audit",
)
@app.command(
    "create",
    help="Create a policy, or replace the one of this name.\n\n"
    "Example: modelport policy create approved --allow models='gpt-*' --max-capacity 200 --required-tag team",
)
def change(
    context: typer.Context,
    name: str | None = NAME,
    option: str | None = NAME_OPTION,
    allow: Allow = None,
    deny: Deny = None,
    max_capacity: MaxCapacity = None,
    required_tags: Tags = None,
    content_filter_at_least: AtLeast = None,
    effect: Effect = None,
    file: FileOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Both take the same options."""
    lists = {**patterns("allow", allow), **patterns("deny", deny), "required_tags": required_tags}
    rules = {**lists, "max_capacity": max_capacity, "content_filter_at_least": content_filter_at_least}
    body = body_of(file, settings, **rules, effect=effect)
    save(context, administration(config, data_dir, endpoint), KIND, one_name(name, option), body, as_json)


@app.command()
def test(
    file: Annotated[Path, typer.Argument(help="A policy's settings, or a file with `policies`, in YAML or JSON.")],
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show which deployments would break a policy before it is there. Ends with status 16 where one does.

    Example: modelport policy test policy.yaml
    """
    given = read_settings(file)
    policies = given["policies"] if isinstance(given.get("policies"), dict) else {file.stem: given}
    server = administration(config, data_dir, endpoint)
    found: list[dict[str, str]] = []
    for name, settings in policies.items():
        address = f"{path_of(KIND, str(name)).removeprefix('/admin/v1/')}/test"
        found += server.post(address, {"settings": settings})["value"]
    if as_json:
        write_json(found)
    elif found:
        columns = ("deployment", "policy", "rule", "what")
        write_table(columns, [[violation[column] for column in columns] for violation in found])
    else:
        write_line("Every deployment keeps it.")
    if found:
        raise typer.Exit(ExitCode.DISALLOWED)


def patterns(side: str, given: Sequence[str] | None) -> dict[str, Any]:
    """`FIELD=PATTERN` as options of a body. Raises BadParameter."""
    found: dict[str, list[str]] = {}
    for text in given or ():
        field, _, pattern = text.partition("=")
        if field not in FIELDS or not pattern:
            what = f"{text!r} is not FIELD=PATTERN; fields are {', '.join(FIELDS)}"
            raise typer.BadParameter(what, param_hint=f"--{side}")
        found.setdefault(f"{side}__{field}", []).append(pattern)
    return found
