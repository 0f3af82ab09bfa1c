"""`modelport safety`: what the content filters say of a text, and why."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from modelport.cli.administration import Body, EndpointOption, administration
from modelport.cli.objects import JsonOption
from modelport.cli.output import ExitCode, application, fail, write_json, write_line
from modelport.cli.settings import ConfigOption, DataDirOption
from modelport.cli.tables import laid_out
from modelport.core.safety import Severity

app = application()

SOURCES: Final = ("prompt", "completion")
LONGEST_MATCH: Final = 40
"""Characters of a match that the table shows."""


@app.callback()
def safety() -> None:
    """Show what the content filters say of a text, and why."""


@app.command()
def explain(
    text: Annotated[str, typer.Argument(help="The text; `-` reads standard input.")],
    policy: Annotated[
        str | None, typer.Option("--policy", "-p", help="A content filter; else all filters judge.")
    ] = None,
    source: Annotated[str, typer.Option("--source", "-s", help="prompt, or completion.")] = "prompt",
    as_json: JsonOption = False,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show what the content filters say of a text, and what a policy makes of it.

    No model is asked, nothing is charged, and no usage is recorded.

    Example: modelport safety explain --policy strict 'How do I chop tomatoes?'
    """
    if source not in SOURCES:
        fail(ExitCode.USAGE, f"--source is {' or '.join(SOURCES)}, not {source!r}")
    body: Body = {"text": sys.stdin.read() if text == "-" else text, "policy": policy, "source": source}
    found = administration(config, data_dir, endpoint).post("safety/explain", body)
    if as_json:
        write_json(found)
        return
    for line in shown(found):
        write_line(line)


def shown(found: dict[str, Any]) -> Iterator[str]:
    """An explanation for people."""
    if found["policy"] is None:
        yield "No policy: the filters judge, and nothing follows from it."
    else:
        yield f"{found['policy']} ({found['source']}): {found['decision']}"
        for name, result in found["results"].items():
            facts = ", ".join(f"{key}: {word(value)}" for key, value in result.items() if key != "details")
            yield f"  {name}: {facts}"
    for name in found["failed"]:
        yield f"The filter {name} does not answer."
    for name in found["not_open"]:
        yield f"The filter {name} is not open: no deployment has a policy that uses it."
    rows = [
        (
            verdict["category"],
            verdict["severity"],
            f"{verdict['score']:.2f}",
            f"{verdict['start']}-{verdict['end']}",
            excerpt(verdict["match"]),
            f"{verdict['filter']} {verdict['version']}",
            " ".join(part for part in (verdict["blocklist"], verdict["entry"]) if part),
        )
        for verdict in found["verdicts"]
    ]
    yield ""
    if all(verdict["severity"] == Severity.SAFE.word for verdict in found["verdicts"]):
        yield "Nothing was found."
    if rows:
        yield from laid_out(("category", "severity", "score", "where", "match", "filter", "entry"), rows)


def word(value: Any) -> str:
    """As the wire spells it."""
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def excerpt(match: str) -> str:
    """On one line."""
    line = " ".join(match.split())
    return line if len(line) <= LONGEST_MATCH else line[: LONGEST_MATCH - 1] + "…"
