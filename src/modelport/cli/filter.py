"""`modelport filter`: content filters, by the name that deployments use."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from modelport.cli.administration import Body, EndpointOption, administration
from modelport.cli.bodies import FileOption, SetOption, body_of
from modelport.cli.objects import JsonOption, name_argument, name_option, object_commands, one_name, save
from modelport.cli.settings import ConfigOption, DataDirOption

KIND: Final = "content_filters"
HARMS: Final = ("hate", "sexual", "violence", "self_harm")

Mode = Annotated[str | None, typer.Option("--mode", help="blocking or asynchronous.")]
Harm = Annotated[
    list[str] | None,
    typer.Option(
        "--harm", metavar="HARM=SEVERITY", help="Filtered from here on, in prompts and completions: hate=low."
    ),
]
Jailbreak = Annotated[str | None, typer.Option("--jailbreak", help="off, annotate or block.")]
NAME: Final = name_argument(KIND)
NAME_OPTION: Final = name_option(KIND)


def row(settings: Body) -> tuple[object, ...]:
    """Mode, and where each side begins to filter."""
    return settings.get("mode", "blocking"), severities(settings.get("prompt")), severities(settings.get("completion"))


def severities(side: Any) -> str:
    """`hate=low …`; `medium` where nothing is said."""
    found = side if isinstance(side, dict) else {}
    return " ".join(f"{harm}={level(found[harm])}" for harm in HARMS if harm in found) or "medium"


def level(given: Any) -> str:
    """`low`, or `low (annotate)` where it does not block."""
    if not isinstance(given, dict):
        return str(given)
    at = str(given.get("at", "medium"))
    return f"{at} (annotate)" if given.get("effect") == "annotate" else at


app = object_commands(KIND, "content filter", ("mode", "prompt", "completion"), row, example="strict")


@app.command(
    "update",
    help="Change some settings of a content filter; the others stay.\n\n"
    "Example: modelport filter update strict --mode asynchronous",
)
@app.command(
    "create",
    help="Create a content filter, or replace the one of this name.\n\n"
    "Example: modelport filter create strict --harm hate=low --harm violence=low --jailbreak block",
)
def change(
    context: typer.Context,
    name: str | None = NAME,
    option: str | None = NAME_OPTION,
    mode: Mode = None,
    harm: Harm = None,
    jailbreak: Jailbreak = None,
    file: FileOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Both take the same options."""
    given: dict[str, Any] = {"mode": mode, "prompt__jailbreak": jailbreak}
    for pair in harm or ():
        kind, equals, severity = pair.partition("=")
        if kind not in HARMS or not equals:
            raise typer.BadParameter(
                f"{pair!r} is not HARM=SEVERITY; harms are {', '.join(HARMS)}", param_hint="--harm"
            )
        given |= {f"prompt__{kind}": severity, f"completion__{kind}": severity}
    body = body_of(file, settings, **given)
    save(context, administration(config, data_dir, endpoint), KIND, one_name(name, option), body, as_json)
