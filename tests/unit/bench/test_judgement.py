"""When a gate or a bar is missed, and which peers are meant by a name."""

from __future__ import annotations

from typing import Any

import pytest
from bench import bar, gate, peers


def test_the_limit_holds_whatever_the_baseline_is() -> None:
    above = {gate.PLAIN.name: gate.LIMIT + 1}
    assert gate.judge({gate.PLAIN.name: gate.LIMIT}, "3.11.2-pgo", {}) == []
    assert gate.judge(above, "3.11.2-pgo", {}) != []
    assert gate.judge(above, "3.11.2-pgo", {"3.11.2-pgo": above}) != []


def test_fifteen_per_cent_above_the_baseline_of_this_build_is_too_much() -> None:
    baselines = {"3.11.2-pgo": {"plain": 100_000, "other": 500_000}, "3.11.7-plain": {"plain": 50_000}}
    assert gate.judge({"plain": 114_999, "other": 574_999}, "3.11.2-pgo", baselines) == []
    assert gate.judge({"plain": 115_001, "other": 500_000}, "3.11.2-pgo", baselines) != []
    assert gate.judge({"plain": 100_000, "other": 575_001}, "3.11.2-pgo", baselines) != []
    assert gate.judge({"plain": 90_000}, "3.13.0-pgo", baselines) == []


def test_a_bar_says_by_how_much_it_is_missed() -> None:
    assert str(bar.Height("x", 0.6, 0.5, is_least=True)) == "x: 0.6, at least 0.5: met"
    assert str(bar.Height("x", 0.4, 0.5, is_least=True)) == "x: 0.4, at least 0.5: MISSED by 20 %"
    assert str(bar.Height("x", 3.0, 2.0, is_least=False)) == "x: 3, at most 2: MISSED by 50 %"


def row(**fields: Any) -> dict[str, Any]:
    return {"rps_x_nginx": 0.6, "rps_x": {"relay": 5.0, "envoy": 1.1}} | fields


def test_the_worst_of_the_compared_scenarios_counts() -> None:
    scenarios = [
        {"name": name, "group": "requests", "contenders": {"modelport": row(rps_x_nginx=ratio)}}
        for name, ratio in zip(bar.COMPARED, (0.7, 0.5, 0.6), strict=True)
    ]
    report = {"machine": {"processor": "AMD EPYC"}, "scenarios": scenarios}
    found = {height.what: height for height in bar.heights(report)}
    assert (found["1 KB, x nginx"].value, found["1 KB, x nginx"].is_met) == (0.5, False)
    assert found["1 KB, x relay"].is_met
    assert not found["1 KB, x envoy"].is_met
    assert "1 KB, x smg" not in found
    on_xeon = bar.heights(report | {"machine": {"processor": "Intel(R) Xeon(R)"}})
    assert next(on_xeon).is_met


def test_peers_are_named_all_or_one_by_one() -> None:
    assert [peer.name for peer in peers.named("smg,envoy")] == ["smg", "envoy"]
    assert len(peers.named("all")) == len(peers.PEERS)
    with pytest.raises(SystemExit, match="no peer is called nobody"):
        peers.named("envoy,nobody")
