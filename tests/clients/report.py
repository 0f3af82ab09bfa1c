"""Writes CONFORMANCE.md from what the tests recorded: the same outcomes give the same text."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from .checks import CHECKS
from .environments import CLIENTS

HEAD = """\
# Conformance

What genuine, unmodified clients see, one row per acceptance check. Written by `make test-clients`; do not edit.

A check passes when every test that proves it passed in every environment where it ran. `main` is the project's own
environment (azure-ai-inference 1.0.0b9, openai, curl and plain sockets); the others are the environments of
`tests/clients/requirements/`, `tests/clients/node/`, `tests/clients/ai-sdk/` and `tests/clients/oidc-provider/`.

| Check | What must be seen | Result | Proven in | By |
| ---: | --- | --- | --- | --- |
"""
CLIENT_HEAD = """
## The clients

| Environment | Packages |
| --- | --- |
"""


def render(outcomes: Iterable[dict[str, Any]]) -> str:
    """The whole document. An outcome has `test`, `checks`, `client` ("" is the project's own) and `outcome`."""
    rows = list(outcomes)
    lines = [_row(number, text, [row for row in rows if number in row["checks"]]) for number, text in CHECKS.items()]
    passing = sum(" | pass | " in line for line in lines)
    return f"{HEAD}{''.join(lines)}\n{passing} of {len(CHECKS)} checks pass.\n{clients()}"


def clients() -> str:
    """Which versions those were."""
    rows = [
        f"| {client.name} | {', '.join(f'{name} {version}' for name, version in client.versions().items())} |\n"
        for client in CLIENTS
    ]
    return CLIENT_HEAD + "".join(rows)


def result_of(outcomes: set[str]) -> str:
    if outcomes & {"failed", "not run"}:
        return "**fail**"
    return "pass" if "passed" in outcomes else "not run"


def _row(number: int, text: str, rows: list[dict[str, Any]]) -> str:
    ran = [row for row in rows if row["outcome"] != "skipped"]
    clients = sorted({row["client"] or "main" for row in ran}, key=lambda name: (name != "main", name))
    tests = sorted({_name_of(row["test"]) for row in ran})
    result = result_of({row["outcome"] for row in rows})
    cells = [str(number), text.replace("|", "\\|"), result, ", ".join(_joined(clients)), ", ".join(tests)]
    return f"| {' | '.join(cell or '–' for cell in cells)} |\n"


def _joined(clients: list[str]) -> list[str]:
    """The betas of one package, in a row, as one word."""
    prefix = "azure-ai-inference-b"
    betas = [int(name.removeprefix(prefix)) for name in clients if name.startswith(prefix)]
    others = [name for name in clients if not name.startswith(prefix)]
    if not betas:
        return others
    consecutive = len(betas) > 1 and betas == list(range(betas[0], betas[-1] + 1))
    spelled = f"b{betas[0]}–b{betas[-1]}" if consecutive else "/".join(f"b{beta}" for beta in betas)
    return [*others, f"azure-ai-inference {spelled}"]


def _name_of(node: str) -> str:
    """`test_chat::a_seed_makes_the_answer_repeatable`: the file and the test, without folders and parameters."""
    path, _, test = node.partition("::")
    return f"`{PurePosixPath(path).stem}::{test.split('[')[0].removeprefix('test_')}`"
