"""`modelport provider`: where models run."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from modelport.cli.administration import Body, EndpointOption, administration
from modelport.cli.bodies import FileOption, SetOption, body_of, with_secrets
from modelport.cli.objects import JsonOption, name_argument, name_option, object_commands, one_name, save
from modelport.cli.settings import ConfigOption, DataDirOption

KIND: Final = "providers"

Type = Annotated[str | None, typer.Option("--type", "-t", help="The adapter: openai_compatible, scripted …")]
BaseUrl = Annotated[str | None, typer.Option("--base-url", "-u", help="Its address, up to /v1.")]
ApiKey = Annotated[
    str | None,
    typer.Option("--api-key", "-k", metavar="REFERENCE", help="env:NAME or file:PATH, read on this machine."),
]
NAME: Final = name_argument(KIND)
NAME_OPTION: Final = name_option(KIND)


def row(settings: Body) -> tuple[object, ...]:
    """Type and address."""
    return settings.get("type"), settings.get("base_url")


app = object_commands(KIND, "provider", ("type", "address"), row, example="house")


@app.command(
    "update",
    help="Change some settings of a provider; the others stay. At another address its secrets are dropped.\n\n"
    "Example: modelport provider update house --api-key env:UPSTREAM_KEY",
)
@app.command(
    "create",
    help="Create a provider, or replace the one of this name.\n\n"
    "Example: modelport provider create house --type openai_compatible --base-url https://llm.example/v1"
    " --api-key env:UPSTREAM_KEY",
)
def change(
    context: typer.Context,
    name: str | None = NAME,
    option: str | None = NAME_OPTION,
    type_: Type = None,
    base_url: BaseUrl = None,
    api_key: ApiKey = None,
    file: FileOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Both take the same options."""
    if api_key is not None and not api_key.startswith(("env:", "file:")):
        raise typer.BadParameter(
            "other users see what is typed here; use env:NAME or file:PATH", param_hint="--api-key"
        )
    body = with_secrets(KIND, body_of(file, settings, type=type_, base_url=base_url, api_key=api_key))
    save(context, administration(config, data_dir, endpoint), KIND, one_name(name, option), body, as_json)
