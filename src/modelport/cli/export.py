"""`modelport export`: what a running server has, as a file that `modelport apply` takes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modelport.cli.administration import EndpointOption, administration
from modelport.cli.bodies import flat
from modelport.cli.declaration import ORDER, exported
from modelport.cli.objects import JsonOption
from modelport.cli.output import application, write_error_line, write_json, write_line
from modelport.cli.settings import ConfigOption, DataDirOption
from modelport.config.secrets import MASK

app = application()


@app.command()
def export(
    with_file: Annotated[
        bool, typer.Option("--all", help="Also what the server's configuration file has, not only what was made here.")
    ] = False,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Print a server's objects as `modelport apply` takes them.

    Secrets are masked, and callers' keys have no values.

    Example: modelport export --all
    """
    server = administration(config, data_dir, endpoint)
    found: dict[str, Any] = {}
    for kind in ORDER:
        chosen = [item for item in server.objects(kind) if with_file or item["origin"] == "store"]
        if chosen:
            found[kind] = exported(kind, chosen)
    if as_json:
        write_json(found)
    else:
        import yaml

        write_line(yaml.safe_dump(found, sort_keys=False, allow_unicode=True).rstrip())
    if masked := [place for place, text in flat(found) if text == MASK]:
        write_error_line(f"modelport: masked; another server needs env: or file: here: {', '.join(masked)}")
