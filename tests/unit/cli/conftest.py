"""A server, and commands that talk to it with the operator's key."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from modelport.cli.main import app
from served import KEY, Served

MODEL = {"format": "Custom", "name": "script", "version": "1"}
CONFIG: dict[str, Any] = {"deployments": {"script": {"model": MODEL, "provider": {"type": "scripted"}}}}


@pytest.fixture(scope="module")
def managed(serve_module: Callable[..., Served]) -> Served:
    """It has one deployment, from its file."""
    return serve_module(CONFIG)


@pytest.fixture
def run(managed: Served) -> Callable[..., Result]:
    """Runs a command that talks to it; with other variables, and another key, where they are given."""

    def command(*arguments: str, key: str = KEY, **environment: str) -> Result:
        inherited: dict[str, str | None] = {name: None for name in os.environ if name.startswith("MODELPORT_")}
        environ = {**inherited, "MODELPORT_ENDPOINT": managed.url, "MODELPORT_API_KEY": key, **environment}
        ended = CliRunner().invoke(app, arguments, env=environ)
        assert isinstance(ended.exception, SystemExit | None), ended.exception
        return ended

    return command
