"""What tests share: server processes, free ports, and weights that must not be missing where everything is checked."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from tests.clients.recorder import Recorder
from xdist.scheduler import LoadFileScheduling

from modelport.config import default_filter
from modelport.core.safety import NOTHING
from modelport.engine.weights.catalogue import CATALOGUE
from modelport.engine.weights.places import WeightsState, look
from served import Served
from served import serve as serve_process

hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

Serve = Callable[..., AbstractContextManager[Served]]


# Not each application that a test makes in its own process starts a worker that classifies.
default_filter.WHERE_INSTALLED = NOTHING  # type: ignore[misc]


def pytest_configure(config: pytest.Config) -> None:
    """Records the acceptance checks where that is asked for, in the process that gets the reports of all tests."""
    target = os.environ.get("MODELPORT_TEST_CHECKS_JSON")
    if target and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(Path(target), ""))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Any:
    """The collector would look through all tests again and again, and none of them is garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


class ClientsTogether(LoadFileScheduling):
    """As `--dist loadfile`, but one process runs all of `tests/clients`: they share servers with models."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "tests/clients" if file.startswith("tests/clients/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ClientsTogether | None:
    """Only where files are what is distributed."""
    return ClientsTogether(config, log) if config.getoption("dist") == "loadfile" else None


@pytest.fixture
def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """An empty data directory."""
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def serve(data_dir: Path) -> Serve:
    """`with serve(config, NAME=value) as served:` runs `modelport serve` in `data_dir` until the end of the block."""

    def start(config: str | Mapping[str, Any], **environment: str) -> AbstractContextManager[Served]:
        return serve_process(config, data_dir, **environment)

    return start


@pytest.fixture(scope="module")
def serve_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Served]]:
    """The same for a server that all tests of a module share."""
    with ExitStack() as stack:

        def start(config: str | Mapping[str, Any], *, under: Sequence[str] | None = None, **environment: str) -> Served:
            directory = tmp_path_factory.mktemp("served") / "data"
            return stack.enter_context(serve_process(config, directory, under=under, **environment))

        yield start


@pytest.fixture(scope="session")
def weights() -> Path:
    """The data directory whose models tests may use; the chat model is there."""
    found = Path(os.environ.get("MODELPORT_TEST_DATA_DIR", "~/.local/share/modelport")).expanduser()
    chat = next(w for w in CATALOGUE.values() if w.default and w.operation == "chat_completions")
    if look(chat, found).state not in (WeightsState.PULLED, WeightsState.INSTALLED):
        pytest.skip("no weights: `modelport models pull default` gets them (MODELPORT_TEST_DATA_DIR says from where)")
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Where everything must be checked, a test that is skipped has failed; only weights beyond the default set may be
    missing there."""
    report: pytest.TestReport = yield
    # Reports travel between processes, and what a test has logged need be no Unicode.
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    is_skipped = report.skipped and not hasattr(report, "wasxfail") and not item.get_closest_marker("large")
    if is_skipped and os.environ.get("MODELPORT_CI"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped where MODELPORT_CI forbids it: {report.longrepr}"
    return report
