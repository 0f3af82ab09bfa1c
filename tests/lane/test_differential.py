"""Calls in both forms do what the golden files hold: the whole corpus with the plain form and without, and everything
that can be seen of it compared: bytes to the client, requests to the upstream, records, journal, metrics.

`python -m tests.golden.write` writes the files anew: look at the difference before you commit."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from . import golden_files
from .golden_files import GROUPS
from .harness import on_uvloop
from .outcomes import DRIVERS, Run, run_cases

DIFFERENCES: dict[str, dict[str, str]] = {name: {} for name in DRIVERS}
"""Of a driver: the case in which it may differ from the golden file, and why."""
WRITES = os.environ.get("MODELPORT_TEST_WRITE_GOLDEN")
"""The driver whose outcomes become the golden files."""
CHOSEN = os.environ.get("MODELPORT_TEST_DRIVERS", ",".join(DRIVERS)).split(",")
"""The drivers that are tried."""

RunOf = Callable[[str, str], Run]


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> RunOf:
    """The run of a driver and a group, once."""
    known: dict[tuple[str, str], Run] = {}

    def run(driver: str, group: str) -> Run:
        if (driver, group) not in known:

            async def once() -> Run:
                with pytest.MonkeyPatch.context() as patches:
                    return await run_cases(tmp_path_factory.mktemp(group), patches, driver, GROUPS[group])

            known[driver, group] = on_uvloop(once)
        return known[driver, group]

    return run


@pytest.mark.parametrize("driver", CHOSEN)
@pytest.mark.parametrize("group", GROUPS)
def test_the_driver_does_what_the_golden_file_holds(run_of: RunOf, group: str, driver: str) -> None:
    results = run_of(driver, group).results
    if driver == WRITES:
        golden_files.write(group, results)
    found = {name: golden_files.plain_form(result) for name, result in results.items()}
    golden = golden_files.read(group)
    assert found.keys() == golden.keys()
    wrong = [name for name in golden if found[name] != golden[name] and name not in DIFFERENCES[driver]]
    parts = {name: difference(found[name], golden[name]) for name in wrong[:5]}
    assert not wrong, f"{len(wrong)} of {len(golden)} cases: {', '.join(wrong[:50])}\n{parts}"


def difference(found: dict[str, Any], golden: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What was found and what is golden, of each part that differs."""
    names = [name for name in {**found, **golden} if found.get(name) != golden.get(name)]
    return {name: (found.get(name), golden.get(name)) for name in names}


def test_differences_are_real(run_of: RunOf) -> None:
    for driver, listed in DIFFERENCES.items():
        for group, cases in GROUPS.items():
            for case in cases:
                if case.name in listed and driver in CHOSEN:
                    found = golden_files.plain_form(run_of(driver, group).results[case.name])
                    assert found != golden_files.read(group)[case.name], "no difference any more"


@pytest.mark.skipif("plain" not in CHOSEN, reason="the plain form is not tried")
def test_the_plain_form_was_there(run_of: RunOf) -> None:
    """Or all this would compare one form with itself."""
    runs = [run_of("plain", group) for group in GROUPS]
    count = sum(map(len, GROUPS.values()))
    plain = sum(run.plain.count(True) for run in runs)
    assert count * 0.1 < plain < count * 0.9
    assert sum(run.repeated.count(True) for run in runs) > count * 0.1
    assert sum(len(result.outcomes) > 1 for run in runs for result in run.results.values()) > count * 0.5


@pytest.mark.skipif("machine" not in CHOSEN, reason="the machine alone is not tried")
def test_without_it_no_call_was_plain(run_of: RunOf) -> None:
    runs = [run_of("machine", group) for group in GROUPS]
    assert not any(run.plain or run.repeated for run in runs)
