"""The servers that the client tests talk to: started here, or already running beside the client's own environment.

A client with an environment of its own runs these tests with another interpreter, which cannot start modelport: there
the runner has started the servers, and their addresses come in the environment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .recorder import Recorder, name_checks
from .serving import Server

APART = "MODELPORT_TEST_CLIENT"
"""The name of the client whose own environment this is; unset in the project's environment."""

collect_ignore_glob = [] if os.environ.get(APART) else ["apart/*"]


def pytest_configure(config: pytest.Config) -> None:
    target, client = os.environ.get("MODELPORT_TEST_CHECKS_JSON"), os.environ.get(APART)
    if target and client:  # the project's own tests are recorded by tests/conftest.py
        config.pluginmanager.register(Recorder(Path(target), client))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    name_checks(items)


def _given(name: str) -> Server | None:
    """The server `name` that the runner has started, if there is a runner."""
    described = os.environ.get("MODELPORT_TEST_SERVERS")
    if not described:
        return None
    fields = json.loads(described)[name]
    return Server(**{**fields, "ca_file": Path(fields["ca_file"]) if fields["ca_file"] else None})


def _server(name: str) -> Iterator[Server]:
    given = _given(name)
    if given:
        yield given
        return
    from .deployments import SERVERS
    from .serving import NO_WEIGHTS, pulled_models, running

    described = SERVERS[name]
    if described.needs_models and not pulled_models().is_dir():
        (pytest.fail if os.environ.get("MODELPORT_CI") else pytest.skip)(NO_WEIGHTS)
    with running(described.configuration, tls=described.tls, keyless=described.keyless) as server:
        yield server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Everything over http: scripted deployments under well-known names and, as default, an embedded chat model."""
    yield from _server("main")


@pytest.fixture(scope="session")
def secure() -> Iterator[Server]:
    """Scripted deployments over https, without a default deployment."""
    yield from _server("secure")


@pytest.fixture(scope="session")
def keyless() -> Iterator[Server]:
    """The same beside a development issuer, whose environment its clients have."""
    yield from _server("keyless")
