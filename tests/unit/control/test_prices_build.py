"""How two collections become one list: agreement, waivers, and what is left out."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

SCRIPTS = Path(__file__).parents[3] / "scripts"
DAY = date(2026, 11, 21)


@pytest.fixture(scope="module")
def build() -> ModuleType:
    sys.path.append(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("build_prices", SCRIPTS / "build_prices.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_prices"] = module
    spec.loader.exec_module(module)
    return module


def chosen(build: ModuleType, litellm: Any, genai: Any, *waivers: Any, is_own: bool = True) -> tuple[Any, list[str]]:
    kept = build.Waivers(list(waivers))
    return build.chosen("azure", "m", litellm, genai, kept, DAY, is_own), kept.complaints()


def entry(**fields: str) -> dict[str, Any]:
    found = {name: Decimal(value) for name, value in fields.items()}
    return {"m": {"litellm_provider": "openai", "mode": "chat", **found}}


def test_two_that_agree_are_one_price_with_what_either_knows(build: ModuleType) -> None:
    found, complaints = chosen(
        build, [{"input": "2.5", "output": "10"}], [{"input": "2.51", "output": "10", "audio_input": "40"}]
    )
    assert found == [{"input": "2.5", "output": "10", "audio_input": "40", "source": "genai-prices+litellm"}]
    assert complaints == []


def test_two_that_differ_by_more_than_a_percent_stop_the_build(build: ModuleType) -> None:
    found, complaints = chosen(build, [{"input": "2", "output": "10"}], [{"input": "2.03", "output": "10"}])
    assert found == []
    assert complaints == ["azure m: input: litellm 2, genai-prices 2.03"]


def test_two_that_differ_in_a_tier_stop_it_too(build: ModuleType) -> None:
    sources = [[{"input": "2"}, {"input": flex, "service_tier": "flex"}] for flex in ("1", "1.2")]
    _, complaints = chosen(build, *sources)
    assert complaints == ["azure m (flex): input: litellm 1, genai-prices 1.2"]


@pytest.mark.parametrize(("believe", "price"), [("litellm", "2"), ("genai-prices", "3"), ("neither", None)])
def test_a_waiver_says_whom_to_believe(build: ModuleType, believe: str, price: str | None) -> None:
    waiver = {"host": "azure", "models": ["m"], "believe": believe, "reason": "x"}
    found, complaints = chosen(build, [{"input": "2"}], [{"input": "3"}], waiver)
    assert [row["input"] for row in found] == ([] if price is None else [price])
    assert complaints == []


def test_a_waiver_that_nothing_needs_is_told(build: ModuleType) -> None:
    waiver = {"host": "azure", "models": ["m"], "believe": "litellm", "reason": "x"}
    _, complaints = chosen(build, [{"input": "2"}], [{"input": "2"}], waiver)
    assert complaints == ["azure m: waived, but nothing differs"]


def test_every_waiver_has_a_reason_and_a_verdict() -> None:
    waivers = yaml.safe_load((SCRIPTS / "price_waivers.yaml").read_text())
    assert waivers
    for waiver in waivers:
        assert set(waiver) == {"host", "models", "believe", "reason"}
        assert waiver["believe"] in ("litellm", "genai-prices", "neither")
        assert len(waiver["reason"]) > 20


def test_a_history_is_kept_where_today_is_agreed(build: ModuleType) -> None:
    history = [{"input": "5", "to": "2026-01-01"}, {"input": "4", "from": "2026-01-01"}]
    found, _ = chosen(build, [{"input": "4"}], history)
    assert [(row["input"], row.get("from"), row.get("to")) for row in found] == [
        ("5", None, "2026-01-01"),
        ("4", "2026-01-01", None),
    ]


def test_a_tier_of_a_publisher_is_not_concluded_for_who_resells_its_model(build: ModuleType) -> None:
    genai = [{"input": "2"}, {"input": "1", "service_tier": "batch"}]
    assert len(chosen(build, [{"input": "2"}], genai, is_own=True)[0]) == 2
    assert len(chosen(build, [{"input": "2"}], genai, is_own=False)[0]) == 1


def test_a_batch_price_without_the_standard_s_steps_is_left_out(build: ModuleType) -> None:
    steps = [{"above": 200_000, "input": "4"}]
    litellm = [{"input": "2", "tiers": steps}, {"input": "1", "service_tier": "batch"}]
    found, _ = chosen(build, litellm, [{"input": "2"}])
    assert [row.get("service_tier") for row in found] == [None]


def test_the_dust_of_binary_fractions_is_gone_and_nothing_is_no_price(build: ModuleType) -> None:
    models = sys.modules["price_collections"].litellm_models
    dusty = entry(input_cost_per_token="7.1e-07", output_cost_per_token="7.099999999999999e-07")
    assert dict(models(dusty, "openai", "")) == {"m": [{"input": "0.71", "output": "0.71"}]}
    assert dict(models(entry(input_cost_per_token="0", output_cost_per_token="0"), "openai", "")) == {}
    assert dict(models(entry(input_cost_per_token="1e-6", output_cost_per_token="0"), "openai", "")) == {}


# --- the files that are kept ------------------------------------------------------------------------------------------


def test_the_list_and_the_page_are_what_the_kept_sources_make() -> None:
    ended = subprocess.run(
        [sys.executable, str(SCRIPTS / "build_prices.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("name", ["LIST", "REPORT", "WAIVERS"])
def test_a_file_that_was_changed_by_hand_is_noticed(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    changed = tmp_path / "changed"
    text = getattr(build, name).read_text("utf-8")
    changed.write_text(text.replace("neither", "litellm") if name == "WAIVERS" else text.replace("0.15", "0.16"))
    assert changed.read_text() != text
    monkeypatch.setattr(build, name, changed)
    monkeypatch.setattr(build, "ROOT", Path("/"))
    monkeypatch.setattr(sys, "argv", ["build_prices.py", "--check"])
    assert build.main() == 1
    assert "is not what the sources make" in capsys.readouterr().err


def test_what_is_kept_of_a_collection_has_its_numbers_to_the_last_digit(build: ModuleType, tmp_path: Path) -> None:
    about = {"litellm_provider": "azure", "mode": "chat", "source": "https://prices.example"}
    whole = {
        "azure/m": {**about, "input_cost_per_token": "N1", "output_cost_per_token": "N2", "max_tokens": 5},
        "vertex/m": {"litellm_provider": "vertex_ai", "mode": "chat"},
        "azure/voice": {"litellm_provider": "azure", "mode": "audio_speech"},
        "sample_spec": {},
    }
    text = json.dumps(whole).replace('"N1"', "1.10e-07").replace('"N2"', "0.00000000123456789012345678901")
    (tmp_path / "litellm").mkdir()
    (tmp_path / "litellm-1.2.3.dist-info").mkdir()
    (tmp_path / "litellm" / "prices.json").write_text(text)
    kept = build.litellm_entries(build.snapshot_of(tmp_path / "litellm" / "prices.json", DAY))
    assert kept["source"]["version"] == "1.2.3"
    numbers = {
        "input_cost_per_token": Decimal("1.10e-07"),
        "output_cost_per_token": Decimal("0.00000000123456789012345678901"),
    }
    assert kept["entries"] == {"azure/m": {**about, **numbers}}
