"""`modelport explain`: what a call would do, without making it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from modelport.cli.administration import EndpointOption, administration
from modelport.cli.objects import JsonOption
from modelport.cli.output import ExitCode, application, fail, write_json, write_line
from modelport.cli.settings import ConfigOption, DataDirOption
from modelport.cli.tables import laid_out

app = application()

PATHS: Final = {
    "messages": "/openai/v1/chat/completions",
    "prompt": "/openai/v1/completions",
    "input": "/openai/v1/embeddings",
}
"""Where a body with such a field is sent."""
HEADERS: Final = {"x-modelport-explain": "true"}
LABEL_WIDTH: Final = 12


@app.command()
def explain(
    request: Annotated[Path, typer.Argument(help="The body of a request, as JSON; `-` reads standard input.")],
    deployment: Annotated[str | None, typer.Option("--deployment", "-d", help="Instead of the body's `model`.")] = None,
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show what a call would do, without making it.

    Which deployment and target would answer, what it may cost, and what is left of its limits.
    No target is asked, nothing is charged, and no usage is recorded.

    Example: modelport explain --deployment gpt-4o request.json
    """
    body = read(request)
    if deployment is not None:
        body["model"] = deployment
    path = next((path for field, path in PATHS.items() if field in body), None)
    if path is None:
        fail(ExitCode.USAGE, f"{request} has none of {', '.join(PATHS)}: it is no request that a model answers")
    found = administration(config, data_dir, endpoint).call(path, body, HEADERS)
    if as_json:
        write_json(found)
        return
    for line in shown(found):
        write_line(line)


def read(file: Path) -> dict[str, Any]:
    """The body. Ends the command where it is no JSON object."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        found = json.loads(text)
    except OSError as error:
        fail(ExitCode.USAGE, f"{file} cannot be read: {error.strerror}")
    except ValueError as error:
        fail(ExitCode.USAGE, f"{file} is no JSON: {error}")
    if not isinstance(found, dict):
        fail(ExitCode.USAGE, f"{file} holds no JSON object")
    return found


def shown(found: dict[str, Any]) -> Iterator[str]:
    """An explanation for people."""
    deployment, tokens, price = found["deployment"], found["tokens"], found["price"]
    model = deployment["model"]
    yield labelled("deployment", f"{deployment['name']} (named by: {deployment['named_by']})")
    yield labelled("model", f"{model['format']} {model['name']} {model['version']}")
    for number, target in enumerate(found["targets"], 1):
        words = f"{target['provider']}/{target['model']}, {target['why']}, {target['state']}"
        yield labelled("targets" if number == 1 else "", f"{number}. {words}")
    if deployment["spillover"] is not None:
        yield labelled("spillover", f"{deployment['spillover']}, where this one is full")
    for name in ("kept", "dropped", "ignored"):
        if names := found["parameters"][name]:
            yield labelled(name, ", ".join(names))
    at_first = "" if tokens["is_bounded"] else ", and more while it answers"
    yield labelled("tokens", f"{tokens['prompt']} + {tokens['completion']} are reserved{at_first}")
    known = f"at most {price['upper_bound']} {price['currency']}"
    yield labelled("price", known if price["is_known"] else "not known")
    if refused := found["refused"]:
        yield labelled("refused", f"{refused['status']} {refused['code']}: {refused['message']}")
    left = [
        (item["of"], item["remaining_requests"], item["limit_requests"], item["remaining_tokens"], item["limit_tokens"])
        for item in (*found["limits"], *found["budgets"])
    ]
    rows = [tuple("-" if value is None else value for value in row) for row in left]
    yield ""
    yield from laid_out(("of", "requests left", "limit", "tokens left", "limit"), rows)


def labelled(label: str, text: str) -> str:
    """One line."""
    return f"{label:<{LABEL_WIDTH}}{text}"
