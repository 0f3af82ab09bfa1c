from __future__ import annotations

from pathlib import Path

import pytest

from modelport.app.configuration import configure
from modelport.app.redactor import build_redactor
from modelport.config.load import load
from modelport.core.redaction import MASK

CONFIG = """
auth: {keys: ["env:OPERATOR"]}
providers:
  far:
    type: openai_compatible
    base_url: https://models.inner.example:8443/tenant-42/v1
    api_key: env:FAR_KEY
    headers: {x-team: env:TEAM}
    organization: env:ORG
    proxy: env:PROXY
  near: {type: openai_compatible, base_url: http://near/v1, unix_socket: /run/near.sock}
deployments:
  one: {model: {name: m}, provider: {type: openai_compatible, base_url: http://10.9.8.7/v1, api_key: env:INLINE}}
keys: {team: {key1: env:TEAM_KEY}}
redis_url: env:REDIS
"""
ENVIRON = {
    "OPERATOR": "operator-secret-a1",
    "FAR_KEY": "far-secret-key-b2",
    "TEAM": "team-secret-head-c3",
    "ORG": "organization-id-d4",
    "PROXY": "http://walker:proxy%2Fpassw0rd@gate.inner.example:3128",
    "INLINE": "inline-secret-key-e5",
    "TEAM_KEY": "callers-secret-f6",
    "REDIS": "redis://:redis-passw0rd@store.inner.example:6379/0",
}


@pytest.mark.parametrize(
    "word",
    [
        *ENVIRON.values(),
        "proxy/passw0rd",
        "redis-passw0rd",
        "https://models.inner.example:8443/tenant-42/v1",
        "models.inner.example",
        "/tenant-42/v1",
        "gate.inner.example:3128",
        "store.inner.example",
        "/run/near.sock",
        "10.9.8.7",
    ],
)
def test_every_secret_and_every_address_of_the_settings_is_known(tmp_path: Path, word: str) -> None:
    file = tmp_path / "modelport.yaml"
    file.write_text(CONFIG)
    settings = load(file, {**ENVIRON, "MODELPORT_DATA_DIR": str(tmp_path)})
    redactor = build_redactor(configure(settings, None))
    assert redactor.all_out(f"it says {word} here") == f"it says {MASK} here"
    assert redactor.all_out(f"it lies in {tmp_path}") == f"it lies in {MASK}"
