"""`modelport keys`: the key that opens the endpoint, and the keys of callers."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from modelport.cli.administration import Body, EndpointOption, Object, administration, names_of, path_of
from modelport.cli.bodies import FileOption, SetOption, body_of
from modelport.cli.objects import JsonOption, YesOption, write_done
from modelport.cli.output import (
    ExitCode,
    application,
    confirm,
    fail,
    write_error_line,
    write_json,
    write_line,
    write_table,
)
from modelport.cli.settings import ConfigOption, DataDirOption, client_settings, readable_key
from modelport.config.sources import Flags

KIND: Final = "keys"
SLOTS: Final = ("key1", "key2")
DEFAULT_ROLE: Final = "Inference User"

app = application(help="Show the operator's key, and manage callers' keys.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Its name.", autocompletion=names_of(KIND))]
Slot = Annotated[str | None, typer.Option("--key", "-k", help="key1 or key2.")]
Role = Annotated[
    str | None, typer.Option("--role", "-r", help="Inference User, unless said; 'Usage Reader', 'Administrator' …")
]
Project = Annotated[str | None, typer.Option("--project", "-p", help="Whose budget and costs it belongs to.")]
Expires = Annotated[str | None, typer.Option("--expires", "-e", help="A date or time from which it is refused.")]
Deployments = Annotated[
    list[str] | None, typer.Option("--deployments", "-d", help="Name patterns that it opens: 'gpt-*'. May be repeated.")
]
Operations = Annotated[
    list[str] | None, typer.Option("--operations", "-o", help="What it may call: embeddings … May be repeated.")
]


@app.callback()
def keys() -> None:
    """Show the operator's key, and manage callers' keys."""


@app.command()
def show(config: ConfigOption = None, data_dir: DataDirOption = None) -> None:
    """Print the operator's key: MODELPORT_API_KEY, else the first of auth.keys that can be read here, else the one made
    at the first start. Of the other secrets none is needed.

    Example: modelport keys show --config modelport.yaml
    """
    settings = client_settings(config, Flags(data_dir=data_dir))
    key = readable_key(settings)
    if key is None and settings.keys:
        what = f"the key is not readable here: it is {', '.join(settings.keys)}"
        fail(ExitCode.NOT_FOUND, what, "set the variable as the server has it")
    if key is None:
        what = f"{settings.data_dir} holds no key, and MODELPORT_API_KEY is not set here"
        fail(ExitCode.NOT_FOUND, what, "`modelport serve` makes one at its first start, unless it is given one")
    write_line(key.reveal())


@app.command()
def new(
    name: Name,
    role: Role = None,
    deployments: Deployments = None,
    operations: Operations = None,
    project: Project = None,
    expires: Expires = None,
    file: FileOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Make a key for a caller, and show it this once.

    Example: modelport keys new search-team --deployments 'gpt-*' --project research --expires 2027-12-31
    """
    scope = {"deployments": deployments, "operations": operations, "project": project}
    body = body_of(file, settings, role=role, **scope, expires=expires)
    server = administration(config, data_dir, endpoint)
    write_key(server.create(KIND, name, body), as_json)


@app.command("list")
def list_(
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """List callers' keys: what they open and until when. Their values cannot be shown again.

    Example: modelport keys list
    """
    found = administration(config, data_dir, endpoint).objects(KIND)
    if as_json:
        write_json(found)
    else:
        columns = ("name", "keys", "role", "deployments", "operations", "project", "expires", "last used", "origin")
        write_table(
            columns, [(item["name"], *row(item["settings"]), last_used(item), item["origin"]) for item in found]
        )


@app.command()
def regenerate(
    name: Name,
    key: Slot = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Make a new value for one of a caller's two keys, and show it this once. Its old value is refused from then on.

    Example: modelport keys regenerate search-team --key key2
    """
    slot = slot_of(key)
    server = administration(config, data_dir, endpoint)
    if (server.object(KIND, name)["settings"]).get(slot) is not None:
        confirm(f"Replace {slot} of {name}?", yes)
    write_key(server.post(f"{path_of(KIND, name).removeprefix('/admin/v1/')}/regenerate", {"key": slot}), as_json)


@app.command()
def revoke(
    name: Name,
    key: Slot = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Refuse a caller's keys from now on: one of them, or the whole entry. Asks first.

    Example: modelport keys revoke search-team --key key1 --yes
    """
    server = administration(config, data_dir, endpoint)
    if key is None:
        confirm(f"Revoke all keys of {name}?", yes)
        server.delete(KIND, name)
        write_done(KIND, name, "revoked", as_json)
    else:
        slot = slot_of(key)
        confirm(f"Revoke {slot} of {name}?", yes)
        server.patch(KIND, name, {slot: None})
        write_done(KIND, f"{name}/{slot}", "revoked", as_json)


def slot_of(text: str | None) -> str:
    """Which of the two. Raises BadParameter."""
    if text not in SLOTS:
        raise typer.BadParameter("say --key key1 or --key key2", param_hint="--key")
    return text


def row(settings: Body) -> tuple[object, ...]:
    """What is shown between name and origin."""
    made = [slot for slot in SLOTS if settings.get(slot) is not None]
    operations: Any = settings.get("operations")
    return (
        " ".join(made),
        settings.get("role", DEFAULT_ROLE) or "none",
        " ".join(settings.get("deployments") or ("*",)),
        "all" if operations is None else " ".join(operations),
        settings.get("project"),
        settings.get("expires"),
    )


def last_used(item: Object) -> str:
    """Which of its keys was used when, to the second of UTC."""
    used: dict[str, str] = item.get("last_used_at") or {}
    return ", ".join(f"{slot} {moment[:10]} {moment[11:19]}" for slot, moment in used.items()) or "never"


def write_key(found: Object, as_json: bool) -> None:
    """The new value on standard output, alone, so that a script can read it."""
    if as_json:
        write_json(found)
        return
    for slot, value in (found.get("secrets") or {}).items():
        write_error_line(f"modelport: {slot} of {found['name']}; it is not shown again:")
        write_line(value)
