"""`modelport deployment`: the names that callers use as `model`, with az's option names."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from modelport.cli.administration import Body, EndpointOption, administration
from modelport.cli.bodies import FileOption, SetOption, body_of, pairs_of, with_secrets
from modelport.cli.objects import (
    JsonOption,
    name_argument,
    name_option,
    object_commands,
    one_name,
    save,
)
from modelport.cli.settings import ConfigOption, DataDirOption

KIND: Final = "deployments"

ModelName = Annotated[str | None, typer.Option("--model-name", "--model", "-m", help="The model's name.")]
ModelVersion = Annotated[str | None, typer.Option("--model-version", help="Its version; 1 when absent.")]
ModelFormat = Annotated[
    str | None, typer.Option("--model-format", "--format", help="The publisher's word: OpenAI, Mistral AI …")
]
SkuName = Annotated[str | None, typer.Option("--sku-name", "--sku", help="The capacity type: GlobalStandard …")]
SkuCapacity = Annotated[int | None, typer.Option("--sku-capacity", "--capacity", "-c", help="Units of capacity.")]
Spillover = Annotated[
    str | None, typer.Option("--spillover-deployment-name", "--spillover", help="Takes over at this one's limit.")
]
Filter = Annotated[str | None, typer.Option("--rai-policy-name", "--content-filter", help="A content filter.")]
Provider = Annotated[str | None, typer.Option("--provider", "-p", help="Where it runs; absent: the catalogue's.")]
Tags = Annotated[list[str] | None, typer.Option("--tags", "--tag", metavar="KEY=VALUE", help="May be repeated.")]
IsDefault = Annotated[
    bool | None, typer.Option("--default/--no-default", help="Answers where no model is named.", show_default=False)
]
NAME: Final = name_argument(KIND)
NAME_OPTION: Final = name_option(KIND, "--deployment-name")


def row(settings: Body) -> tuple[object, ...]:
    """Model, version, capacity type and capacity, provider."""
    model, sku = settings.get("model") or {}, settings.get("sku") or {}
    capacity = sku.get("name", "GlobalStandard"), sku.get("capacity", 1)
    return model.get("name"), model.get("version", "1"), *capacity, provider_of(settings)


def provider_of(settings: Body) -> str:
    """Its provider in a word."""
    match settings.get("provider"):
        case str(name):
            return name
        case dict(written):
            return str(written.get("type"))
    targets = [str(target.get("provider")) for target in settings.get("targets") or ()]
    return ", ".join(dict.fromkeys(targets)) if targets else "(catalogue)"


app = object_commands(
    KIND,
    "deployment",
    ("model", "version", "sku", "capacity", "provider"),
    row,
    "--deployment-name",
    example="gpt-4o",
)


@app.command(
    "update",
    help="Change some settings of a deployment; the others stay.\n\n"
    "Example: modelport deployment update gpt-4o --sku-capacity 80 --set limits.requests_per_minute=500",
)
@app.command(
    "create",
    help="Create a deployment. One of this name is replaced, as az does it.\n\n"
    "Example: modelport deployment create --deployment-name gpt-4o --model-name gpt-4o --model-format OpenAI"
    " --sku-capacity 50 --provider house",
)
def change(
    context: typer.Context,
    name: str | None = NAME,
    deployment_name: str | None = NAME_OPTION,
    model_name: ModelName = None,
    model_version: ModelVersion = None,
    model_format: ModelFormat = None,
    sku_name: SkuName = None,
    sku_capacity: SkuCapacity = None,
    provider: Provider = None,
    spillover: Spillover = None,
    content_filter: Filter = None,
    tags: Tags = None,
    default: IsDefault = None,
    file: FileOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Both take the same options."""
    body = body_of(
        file,
        settings,
        model__name=model_name,
        model__version=model_version,
        model__format=model_format,
        sku__name=sku_name,
        sku__capacity=sku_capacity,
        provider=provider,
        spillover=spillover,
        content_filter=content_filter,
        tags=pairs_of(tags, "--tags"),
        default=default,
    )
    chosen = one_name(name, deployment_name)
    server = administration(config, data_dir, endpoint)
    save(context, server, KIND, chosen, with_secrets(KIND, body), as_json)
