"""`modelport project`: whose keys, budgets and costs belong together."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from modelport.cli.administration import Body, EndpointOption, administration
from modelport.cli.bodies import FileOption, SetOption, body_of
from modelport.cli.objects import JsonOption, name_argument, name_option, object_commands, one_name, save
from modelport.cli.settings import ConfigOption, DataDirOption

KIND: Final = "projects"

Amount = Annotated[
    str | None, typer.Option("--budget", "-b", metavar="AMOUNT", help="What its calls may cost: 100.00.")
]
Per = Annotated[str | None, typer.Option("--per", help="The budget's window: day, week, month.")]
NAME: Final = name_argument(KIND)
NAME_OPTION: Final = name_option(KIND)


def row(settings: Body) -> tuple[object, ...]:
    """Its budget."""
    budget = settings.get("budget") or {}
    return budget.get("amount"), budget.get("currency"), budget.get("per")


app = object_commands(KIND, "project", ("budget", "currency", "per"), row, example="research")


@app.command(
    "update",
    help="Change some settings of a project; the others stay.\n\n"
    "Example: modelport project update research --budget 250.00",
)
@app.command(
    "create",
    help="Create a project, or replace the one of this name.\n\n"
    "Example: modelport project create research --budget 100.00 --per month",
)
def change(
    context: typer.Context,
    name: str | None = NAME,
    option: str | None = NAME_OPTION,
    budget: Amount = None,
    per: Per = None,
    file: FileOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Both take the same options."""
    body = body_of(file, settings, budget__amount=budget, budget__per=per)
    save(context, administration(config, data_dir, endpoint), KIND, one_name(name, option), body, as_json)
