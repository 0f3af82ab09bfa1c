"""Guides whose every command runs: in their order, in one directory, against one server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from served import KEY, Served

GUIDES = Path(__file__).parents[2] / "docs/guides"
EMPTY: dict[str, Any] = {"deployments": {"spare": {"model": {"name": "x"}, "provider": {"type": "scripted"}}}}


def steps(page: Path) -> Iterator[tuple[str, str]]:
    """Each command of the page's consoles, and the output that stands below it. A YAML block that begins with the
    name of a file in a comment is a command that writes it."""
    for language, block in re.findall(r"^```(console|yaml)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        if language == "yaml":
            if (named := re.match(r"# (\S+\.yaml)\n", block)) is not None:
                yield f"cat > {named[1]} <<'END'\n{block}END", ""
            continue
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = step.splitlines()
            end = next(n for n, line in enumerate(lines, 1) if not line.endswith("\\"))
            if "<<" in lines[0]:
                end = lines.index("END") + 1
            yield "\n".join(lines[:end]), "\n".join(lines[end:]).strip()


def follow(page: Path, served: Served, directory: Path, **environment: str) -> None:
    """Runs all of it; what stands below a command must be in its output."""
    beside = Path(sys.executable).parent
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MODELPORT_")}
    server = {"MODELPORT_ENDPOINT": served.url, "MODELPORT_API_KEY": KEY, "MODELPORT_DATA_DIR": str(served.data_dir)}
    environ = {**inherited, **server, **environment, "PATH": f"{beside}:{os.environ['PATH']}"}
    found = list(steps(page))
    assert found
    for command, shown in found:
        ended = subprocess.run(
            ["bash", "-c", command.replace("http://127.0.0.1:8080", served.url)],
            cwd=directory,
            capture_output=True,
            text=True,
            env=environ,
            stdin=subprocess.DEVNULL,
            timeout=120,
        )
        assert ended.returncode == 0, (command, ended.stdout, ended.stderr)
        assert shown in ended.stdout + ended.stderr, (command, ended.stdout, ended.stderr)


@pytest.mark.parametrize("name", ["deployments"])
def test_every_command_of_a_guide_does_what_it_shows(
    serve_module: Callable[..., Served], tmp_path: Path, name: str
) -> None:
    follow(GUIDES / f"{name}.md", serve_module(EMPTY), tmp_path)
