"""One server for all tests of a module; each test finds its gateway as new."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from modelport.surfaces.options import Options

from .doubles import FakeGateway, Served, serving


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with serving(FakeGateway(), Options(cors_origins=("https://ui.example",), region="East US 2")) as one:
        yield one


@pytest.fixture
def served(server: Served) -> Served:
    server.gateway.__init__()  # type: ignore[misc]
    return server
