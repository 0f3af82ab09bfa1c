"""`modelport role`: who may do what."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import typer

from modelport.cli.administration import Body, EndpointOption, administration, names_of
from modelport.cli.bodies import FileOption, SetOption, body_of
from modelport.cli.objects import JsonOption, YesOption, write_done, write_object
from modelport.cli.output import application, confirm, write_json, write_table
from modelport.cli.settings import ConfigOption, DataDirOption
from modelport.core.roles import role_named

KIND: Final = "role_assignments"
ASSIGNEES: Final = ("user", "group", "application", "key")
NAME_CHARACTERS: Final = 64

app = application(help="Assign roles to users, groups, applications and keys.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The assignment's name.", autocompletion=names_of(KIND))]
RoleName = Annotated[
    str,
    typer.Argument(
        metavar="ROLE",
        help="Inference User, Deployment Contributor, Usage Reader or Administrator, or Azure's name of one.",
    ),
]
User = Annotated[str | None, typer.Option("--user", "-u", metavar="ID", help="The oid of its tokens, or the sub.")]
Group = Annotated[str | None, typer.Option("--group", "-g", metavar="ID", help="A value of the tokens' groups.")]
Application = Annotated[
    str | None, typer.Option("--application", "-a", metavar="ID", help="One that signs in as itself.")
]
Key = Annotated[
    str | None, typer.Option("--key", "-k", metavar="NAME", help="A key's name.", autocompletion=names_of("keys"))
]
Issuer = Annotated[
    str | None, typer.Option("--issuer", "-i", metavar="URL", help="Of the tokens, where auth.oidc has several.")
]
Deployments = Annotated[
    list[str] | None, typer.Option("--deployments", "-d", help="Name patterns: 'gpt-*'. May be repeated.")
]
Operations = Annotated[
    list[str] | None, typer.Option("--operations", "-o", help="What may be called: embeddings … May be repeated.")
]
Project = Annotated[
    str | None, typer.Option("--project", "-p", help="Whose costs calls are, or whose usage may be read.")
]
Description = Annotated[str | None, typer.Option("--description", help="What it is for.")]
OwnName = Annotated[str | None, typer.Option("--name", "-n", help="Of the assignment; else made of role and assignee.")]


@app.callback()
def role() -> None:
    """Assign roles to users, groups, applications and keys."""


@app.command()
def assign(
    role: RoleName,
    user: User = None,
    group: Group = None,
    application: Application = None,
    key: Key = None,
    issuer: Issuer = None,
    deployments: Deployments = None,
    operations: Operations = None,
    project: Project = None,
    description: Description = None,
    name: OwnName = None,
    file: FileOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Give a role to a user, a group, an application or a key.

    Example: modelport role assign "Usage Reader" --group 6f1c3f3e-92a1-4b1e-8d55-0c7f0e6d2b11 --project research
    """
    given = {"user": user, "group": group, "application": application, "key": key}
    scope = {"deployments": deployments, "operations": operations, "project": project}
    body = body_of(
        file, settings, role=role_named(role) or role, **given, issuer=issuer, **scope, description=description
    )
    found = administration(config, data_dir, endpoint).create(KIND, name or name_of(body), body)
    if as_json:
        write_json(found)
    else:
        write_done(KIND, str(found["name"]), "created", as_json=False)


@app.command("list")
def list_(
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """List every role assignment: the file's and those made here. What `auth.oidc[].roles` gives by claims, and the
    role that a key has by itself, is not among them.

    Example: modelport role list
    """
    found = administration(config, data_dir, endpoint).objects(KIND)
    if as_json:
        write_json(found)
    else:
        columns = ("name", "role", "assignee", "deployments", "operations", "project", "origin")
        write_table(columns, [(item["name"], *row(item["settings"]), item["origin"]) for item in found])


@app.command()
def show(
    name: Name,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show one role assignment.

    Example: modelport role show usage-reader-dashboards
    """
    write_object(administration(config, data_dir, endpoint).object(KIND, name), as_json)


@app.command()
def remove(
    name: Name,
    yes: YesOption = False,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Take a role away. Asks first.

    Example: modelport role remove usage-reader-dashboards --yes
    """
    server = administration(config, data_dir, endpoint)
    confirm(f"Remove the role assignment {name}?", yes)
    server.delete(KIND, name)
    write_done(KIND, name, "removed", as_json)


def name_of(body: Body) -> str:
    """`usage-reader-dashboards`: role and assignee. Raises BadParameter where there is not one assignee."""
    given = [str(body[kind]) for kind in ASSIGNEES if body.get(kind) is not None]
    if len(given) != 1:
        raise typer.BadParameter("say who gets the role: one of --user, --group, --application or --key")
    words = re.sub(r"[^a-z0-9._-]+", "-", f"{body.get('role')}-{given[0]}".lower()).strip("-._")
    return words[:NAME_CHARACTERS]


def row(settings: Body) -> tuple[object, ...]:
    """What is shown between name and origin."""
    operations: Any = settings.get("operations")
    return (
        role_named(str(settings.get("role"))) or settings.get("role"),
        next((f"{kind} {settings[kind]}" for kind in ASSIGNEES if settings.get(kind) is not None), ""),
        " ".join(settings.get("deployments") or ("*",)),
        "all" if operations is None else " ".join(operations),
        settings.get("project"),
    )
