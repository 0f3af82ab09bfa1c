"""Calls do what the golden files hold: the whole corpus, and everything that can be seen of it compared: bytes to the
client, requests to the upstream, records, journal, metrics.

`python -m tests.golden.write` writes the files anew: look at the difference before you commit."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from . import golden_files
from .golden_files import GROUPS
from .harness import on_uvloop
from .outcomes import Run, run_cases

WRITES = "MODELPORT_TEST_WRITE_GOLDEN" in os.environ
"""What is found becomes the golden files."""

RunOf = Callable[[str], Run]


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> RunOf:
    """The run of a group, once."""
    known: dict[str, Run] = {}

    def run(group: str) -> Run:
        if group not in known:

            async def once() -> Run:
                with pytest.MonkeyPatch.context() as patches:
                    return await run_cases(tmp_path_factory.mktemp(group), patches, GROUPS[group])

            known[group] = on_uvloop(once)
        return known[group]

    return run


@pytest.mark.parametrize("group", GROUPS)
def test_calls_do_what_the_golden_file_holds(run_of: RunOf, group: str) -> None:
    results = run_of(group).results
    if WRITES:
        golden_files.write(group, results)
    found = {name: golden_files.plain_form(result) for name, result in results.items()}
    golden = golden_files.read(group)
    assert found.keys() == golden.keys()
    wrong = [name for name in golden if found[name] != golden[name]]
    parts = {name: difference(found[name], golden[name]) for name in wrong[:5]}
    assert not wrong, f"{len(wrong)} of {len(golden)} cases: {', '.join(wrong[:50])}\n{parts}"


def difference(found: dict[str, Any], golden: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What was found and what is golden, of each part that differs."""
    names = [name for name in {**found, **golden} if found.get(name) != golden.get(name)]
    return {name: (found.get(name), golden.get(name)) for name in names}


def test_the_shortcuts_were_taken_and_left(run_of: RunOf) -> None:
    """Or nothing would have compared what they do with what is done without them."""
    runs = [run_of(group) for group in GROUPS]
    count = sum(map(len, GROUPS.values()))
    assert count * 0.1 < sum(len(run.at_once) for run in runs) < count * 1.8
    assert sum(run.repeated.count(True) for run in runs) > count * 0.1
    assert sum(len(result.outcomes) > 1 for run in runs for result in run.results.values()) > count * 0.5
