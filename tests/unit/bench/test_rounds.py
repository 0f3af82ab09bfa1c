"""What is made of the runs of a bench: medians, ratios within the round, disturbed runs, tables, pages."""

from __future__ import annotations

from typing import Any

import pytest
from bench import charts, interpreters, report, rounds, scenarios, soak

SCENARIO = scenarios.whole(64)


def a_run(rps: float, cpu_us: float, foreign: float = 0.0, failures: int = 0) -> dict[str, Any]:
    return dict.fromkeys(rounds.TIMED, 1.0) | {
        "rps": rps,
        "cpu_us": cpu_us,
        "foreign_share": foreign,
        "failures": failures,
    }


def a_row(*pairs: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    names = ("nginx", "modelport")
    found = rounds.summary(SCENARIO, names, [dict(zip(names, pair, strict=True)) for pair in pairs])
    row: dict[str, Any] = found["contenders"]["modelport"]
    return row


def test_ratios_are_taken_within_a_round() -> None:
    row = a_row((a_run(100, 10), a_run(50, 20)), (a_run(10, 30), a_run(6, 90)), (a_run(1000, 10), a_run(400, 25)))
    assert row["rps_x_nginx"] == 0.5  # 0.5, 0.6 and 0.4; of the medians it would be 0.5 / 1.0 = 50 / 100
    assert row["cpu_us_x_nginx"] == 2.5
    assert row["rps"] == 50


def test_a_disturbed_run_counts_for_processor_time_alone() -> None:
    calm = (a_run(100, 10), a_run(50, 20))
    row = a_row(calm, calm, (a_run(100, 10), a_run(1, 80, foreign=0.5)), (a_run(100, 10), a_run(2, 80, foreign=0.5)))
    assert (row["rps"], row["rps_x_nginx"], row["calm_runs"], row["disturbed"]) == (50, 0.5, 2, False)
    assert row["cpu_us"] == 50


def test_without_two_calm_runs_all_count_and_the_row_says_so() -> None:
    row = a_row((a_run(100, 10), a_run(50, 20, foreign=0.9)), (a_run(100, 10), a_run(30, 20, foreign=0.9)))
    assert (row["rps"], row["disturbed"]) == (40, True)
    assert report.remark(row) == "disturbed"


def test_who_has_answered_nothing_in_its_time_gives_no_ratio() -> None:
    row = a_row((a_run(0, 0), a_run(50, 20)), (a_run(0, 0), a_run(60, 20)))
    assert (row["rps"], row["rps_x"], "rps_x_nginx" in row) == (55, {}, False)
    row = a_row((a_run(0, 0), a_run(50, 20)), (a_run(100, 10), a_run(60, 20)))
    assert (row["rps_x"], row["cpu_us_x_nginx"]) == ({"nginx": 0.6}, 2)


def test_failures_are_told() -> None:
    row = a_row((a_run(1, 1), a_run(1, 1, failures=3)), (a_run(1, 1), a_run(1, 1, failures=4)))
    assert report.remark(row) == "7 failures"


def a_report() -> dict[str, Any]:
    names = ("nginx", "modelport")
    run = {"nginx": a_run(100, 10), "modelport": a_run(50, 20)}
    return {
        "machine": {"processor": "A <fast> one", "virtual": True, "cores": 2, "memory_gb": 8.0, "kernel": "6"},
        "python": {"version": "3.11.2", "build": "profile-guided", "libraries": {"uvloop": "1"}},
        "versions": {"nginx": "1.22"},
        "rounds": 3,
        "seconds": 1.0,
        "left_out": {"peer": "it ended"},
        "tokens": None,
        "scenarios": [rounds.summary(SCENARIO, names, [run, run])],
    }


def test_a_table_and_a_page_have_every_contender_and_the_build() -> None:
    text, page = report.text(a_report()), report.html(a_report())
    for said in (text, page):
        for word in ("nginx", "modelport", "profile-guided", "Left out: peer: it ended", "virtual machine"):
            assert word in said
    assert "A &lt;fast&gt; one" in page
    assert "<fast>" not in page


def test_a_chart_of_nothing_is_still_a_chart() -> None:
    assert charts.bars("x", []).startswith("<svg")


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ("'--enable-optimizations' '--with-lto'", "profile-guided with link-time optimisation"),
        ("'--prefix=/usr' '--with-dbmliborder=bdb:gdbm'", "profile-guided (Debian's own build)"),
        ("'--prefix=/opt/python' '--enable-shared'", "not profile-guided"),
    ],
)
def test_the_build_of_an_interpreter_is_told_from_its_configuration(configured: str, expected: str) -> None:
    assert interpreters.build(configured) == expected


def test_requests_are_about_as_large_as_they_are_called() -> None:
    assert 900 <= len(scenarios.body(scenarios.whole(1), "bench")) <= 1400
    assert 25_000 <= len(scenarios.body(scenarios.whole(1, scenarios.LARGE_TURNS), "bench")) <= 35_000


# --- the soak ---


def observed(megabytes: list[float], descriptors: list[int] | None = None) -> soak.Observed:
    seen = soak.Observed(begun=0.0)
    files = descriptors or [50] * len(megabytes)
    seen.samples = [(number * 6.0, mb, fd) for number, (mb, fd) in enumerate(zip(megabytes, files, strict=True))]
    return seen


def test_flat_memory_is_no_fault() -> None:
    assert soak.verdict(observed([60.0 + number % 2 for number in range(100)]), 600 / 3600, "")["faults"] == []


def test_growth_at_the_beginning_is_no_fault() -> None:
    early = [40.0 + number for number in range(30)] + [70.0] * 70
    assert soak.verdict(observed(early), 600 / 3600, "")["faults"] == []


def test_growth_after_the_beginning_is_a_fault() -> None:
    found = soak.verdict(observed([60.0 + number * 0.1 for number in range(100)]), 600 / 3600, "")
    assert any("memory grew" in fault for fault in found["faults"])
    assert found["slope_mb_per_hour"] == pytest.approx(60.0, rel=0.05)


def test_descriptors_that_stay_open_are_a_fault() -> None:
    files = [50 + number for number in range(100)]
    found = soak.verdict(observed([60.0] * 100, files), 600 / 3600, "")
    assert any("file descriptors grew" in fault for fault in found["faults"])


def test_a_traceback_is_a_fault() -> None:
    assert soak.verdict(observed([60.0] * 100), 600 / 3600, "Traceback (most recent call last):")["faults"]


def result(**fields: Any) -> dict[str, Any]:
    return {"statuses": {"200": 5}, "errors": 0, "unfinished": 0, "oldest_us": 10.0} | fields


def test_only_the_expected_answers_are_explained() -> None:
    good = soak.Traffic(SCENARIO)
    assert not soak.unexplained(good, result())
    assert soak.unexplained(good, result(statuses={"200": 5, "502": 2})) == {"answered 502": 2}
    assert soak.unexplained(good, result(errors=1)) == {"connections that broke": 1}
    assert soak.unexplained(good, result(unfinished=1)) == {"streams without an end": 1}
    assert soak.unexplained(good, result(oldest_us=60e6)) == {"requests that hang": 1}
    broken = soak.Traffic(SCENARIO, soak.UPSTREAM_BROKE, may_break=True)
    assert not soak.unexplained(broken, result(statuses={"502": 2}, errors=3, unfinished=4))
