"""What a new configuration changes, by the names of settings, and how settings reach another process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from modelport.app.configuration import ControlState, configure
from modelport.app.processes.handover import packed, unpacked
from modelport.app.reload import OF_A_PROCESS, OF_THE_SERVER, changes_below, restart_needed
from modelport.config.load import load
from modelport.config.secrets import Secret
from modelport.config.settings import Settings

CONFIG: dict[str, Any] = {
    "auth": {"keys": ["env:OPERATOR"]},
    "providers": {
        "far": {"type": "openai_compatible", "base_url": "https://far.example/v1", "api_key": "env:FAR"},
        "near": {"type": "openai_compatible", "base_url": "http://near.example/v1", "headers": {"x-team": "env:TEAM"}},
    },
    "deployments": {
        "one": {"model": {"name": "m"}, "provider": "far", "budget": {"per": "day", "amount": "12.5"}},
        "two": {"model": {"name": "m"}, "targets": [{"provider": "far"}, {"provider": "near", "weight": 3}]},
        "three": {"model": {"name": "m"}, "provider": {"type": "scripted", "replies": [{"text": "hello"}]}},
    },
    "keys": {"team": {"key1": "env:TEAM_KEY", "expires": "2030-01-01T00:00:00Z", "deployments": ["o*"]}},
    "redis_url": "env:REDIS",
}
ENVIRON = {
    "OPERATOR": "operator-secret-a1",
    "FAR": "far-secret-key-b2",
    "TEAM": "team-secret-head-c3",
    "TEAM_KEY": "callers-secret-f6",
    "REDIS": "redis://:redis-passw0rd@store.example:6379/0",
}


def settings(folder: Path, given: dict[str, Any] = CONFIG, **environ: str) -> Settings:
    (folder / "modelport.yaml").write_text(yaml.safe_dump(given))
    return load(folder / "modelport.yaml", {"MODELPORT_DATA_DIR": str(folder), **ENVIRON, **environ})


def test_settings_arrive_in_another_process_as_they_are(tmp_path: Path) -> None:
    given, key = settings(tmp_path), Secret("made-key", "the first start")
    control = ControlState(version=3, salt=b"s" * 32, prices=({"model": "m", "input": "1"},))
    text = packed(given, key, control)
    assert unpacked(text) == (given, key, control)
    arrived, _, _ = unpacked(text)
    assert configure(arrived, None).snapshot.id == configure(given, None).snapshot.id
    assert arrived.auth.keys[0].reveal() == "operator-secret-a1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"server": {"port": 9}}, "server.port is 8080 and would be 9"),
        ({"server": {"limits": {"body_bytes": 4096}}}, "server.limits.body_bytes is 20971520 and would be 4096"),
        ({"ledger": {"keep_days": 7}}, "ledger.keep_days is null and would be 7"),
        ({"quota": {"store": "sqlite"}}, "quota.store is null and would be 'sqlite'"),
    ],
)
def test_a_setting_that_needs_a_restart_is_named_with_both_values(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    found = changes_below(settings(tmp_path), settings(tmp_path, CONFIG | change), (*OF_THE_SERVER, *OF_A_PROCESS))
    assert str(restart_needed(found)) == f"{said}: that needs a restart of the whole server"


def test_a_secret_that_needs_a_restart_is_not_told(tmp_path: Path) -> None:
    before, after = settings(tmp_path), settings(tmp_path, REDIS="redis://:another-passw0rd@store.example:6379/0")
    assert str(restart_needed(changes_below(before, after, OF_A_PROCESS))).startswith(
        "redis_url is *** and would be ***"
    )


def test_deployments_keys_and_providers_need_no_restart(tmp_path: Path) -> None:
    after = settings(tmp_path, CONFIG | {"deployments": {}, "keys": {}}, OPERATOR="another-secret-a2")
    assert changes_below(settings(tmp_path), after, (*OF_THE_SERVER, *OF_A_PROCESS)) == []


def test_a_provider_whose_section_is_the_same_is_kept(tmp_path: Path) -> None:
    before = configure(settings(tmp_path), None)
    moved = {**CONFIG["providers"], "near": {"type": "openai_compatible", "base_url": "http://elsewhere.example/v1"}}
    after = configure(settings(tmp_path, CONFIG | {"providers": moved}), None, before)
    kept = {name for name, provider in after.providers.items() if provider is before.providers.get(name)}
    assert kept == {"far", "deployments.three.provider"}
    assert after.snapshot.key_salt == before.snapshot.key_salt
