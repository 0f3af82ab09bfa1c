"""Settings → Snapshot: what a configuration means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from modelport.app.snapshot import build, embedded_deployments
from modelport.auth.api_key import digest
from modelport.config.document import read_document
from modelport.config.faults import ConfigError
from modelport.config.load import parse
from modelport.control.profiles import ProfileError
from modelport.core.catalog import Snapshot, Target
from modelport.core.operations import Operation
from modelport.core.roles import Role

SALT = b"s" * 32
ENVIRON = {"HOME": "/h", "KEY_A": "key-a", "KEY_B": "key-b", "GUEST_1": "guest-1", "GUEST_2": "guest-2"}
SCRIPTED = {"type": "scripted"}


def snapshot(config: dict[str, Any]) -> Snapshot:
    loaded = parse(read_document(yaml.safe_dump(config).encode(), "x"), Path("/h/x.yaml"), ENVIRON)
    return build(loaded.settings, SALT, None)


def deployment(model: str = "my-model", format: str = "Custom", **fields: Any) -> dict[str, Any]:
    return {"model": {"format": format, "name": model, "version": "1"}, "provider": SCRIPTED, **fields}


def limits(**fields: Any) -> tuple[int | None, int | None]:
    found = snapshot({"deployments": {"d": deployment(**fields)}}).deployments["d"].limits
    return found.tokens_per_minute, found.requests_per_minute


def test_names_are_found_whatever_their_case_and_kept_as_written() -> None:
    found = snapshot({"deployments": {"My-Large": deployment()}})
    for name in ("my-large", "MY-LARGE", "My-Large"):
        known = found.deployment(name)
        assert known is not None
        assert known.name == "My-Large"
    assert found.deployment("other") is None


def test_one_deployment_is_the_default_and_of_several_the_one_that_says_so() -> None:
    assert snapshot({"deployments": {"Only": deployment()}}).default == "only"
    assert snapshot({"deployments": {"a": deployment(), "b": deployment()}}).default is None
    chosen = snapshot({"deployments": {"a": deployment(), "B": deployment(default=True)}})
    assert chosen.default_deployment is chosen.deployments["b"]


def test_no_deployments_are_the_embedded_models_under_their_own_names() -> None:
    found = snapshot({})
    assert set(found.deployments) == set(embedded_deployments())
    assert found.default_deployment is not None
    assert Operation.CHAT_COMPLETIONS in found.default_deployment.profile.operations
    offered = set().union(*(known.profile.operations for known in found.deployments.values()))
    assert offered >= {Operation.CHAT_COMPLETIONS, Operation.EMBEDDINGS, Operation.IMAGE_EMBEDDINGS}


def test_limits_are_written_or_follow_from_capacity_or_are_the_usual() -> None:
    assert limits() == (200_000, 1_000)
    assert limits(limits={"tokens_per_minute": None, "requests_per_minute": 7}) == (None, 7)
    standard = {"name": "GlobalStandard", "capacity": 30}
    assert limits(model="gpt-4o", format="OpenAI", sku=standard) == (30_000, 180)
    assert limits(model="gpt-4o", format="OpenAI", sku=standard, limits={"tokens_per_minute": 5}) == (5, 180)
    provisioned = {"name": "GlobalProvisionedManaged", "capacity": 30}
    assert limits(model="gpt-4o", format="OpenAI", sku=provisioned) == (200_000, 1_000)
    assert limits(model="Phi-4", format="Microsoft", sku=standard) == (200_000, 1_000)


def test_targets_come_from_a_name_a_mapping_a_list_or_the_catalogue() -> None:
    model = {"format": "Custom", "name": "my-model", "version": "1"}
    house = {"type": "openai_compatible", "base_url": "http://127.0.0.1:9/v1"}
    two = [{"provider": "house", "model": "m", "priority": 2}, {"provider": "house", "weight": 3}]
    config = {
        "providers": {"house": house},
        "models": [{**model, "name": "listed", "provider": "house", "upstream_model": "up/listed"}],
        "deployments": {
            "named": {"model": model, "provider": "house"},
            "inline": {"model": model, "provider": {**house, "model": "theirs"}},
            "several": {"model": model, "targets": two},
            "catalogued": {"model": {**model, "name": "Listed"}},
        },
    }
    found = {name: known.targets for name, known in snapshot(config).deployments.items()}
    assert found["named"] == (Target("house", "my-model"),)
    assert [target.model for target in found["inline"]] == ["theirs"]
    assert found["several"] == (Target("house", "m", 2, 1), Target("house", "my-model", 0, 3))
    assert found["catalogued"] == (Target("house", "up/listed"),)


def test_a_backend_says_what_can_be_asked_of_an_unknown_model() -> None:
    mine = deployment(provider={"type": "llama_cpp", "weights": "/h/x.gguf"})
    found = snapshot({"deployments": {"mine": mine}}).deployments["mine"].profile
    assert found.operations == {Operation.CHAT_COMPLETIONS, Operation.COMPLETIONS}
    elsewhere = snapshot({"deployments": {"d": deployment()}}).deployments["d"].profile
    assert elsewhere.operations == frozenset(Operation)


def test_a_profile_that_cannot_be_is_blamed_on_its_deployment() -> None:
    with pytest.raises(ProfileError, match=r"deployments\.d\.profile"):
        snapshot({"deployments": {"d": deployment(profile={"tols": True})}})


GUEST = {"key1": "env:GUEST_1", "key2": "env:GUEST_2", "deployments": ["Mistral-*"], "operations": ["embeddings"]}
KEYS: dict[str, Any] = {
    "auth": {"keys": ["env:KEY_A", "env:KEY_B"]},
    "keys": {"guest": GUEST},
    "deployments": {"d": deployment()},
}


def test_keys_are_kept_as_hashes_with_who_and_what_they_open() -> None:
    found = snapshot(KEYS)
    operator = [found.keys[digest(SALT, key)].principal for key in ("key-a", "key-b")]
    assert [who.key_id for who in operator] == ["operator/1", "operator/2"]
    assert {grant.role for who in operator for grant in who.grants} == {Role.ADMINISTRATOR}
    guests = [found.keys[digest(SALT, key)].principal for key in ("guest-1", "guest-2")]
    assert [(who.name, who.key_id) for who in guests] == [("guest", "guest/key1"), ("guest", "guest/key2")]
    assert [grant.role for grant in guests[0].grants] == [Role.INFERENCE_USER]
    assert guests[0].grants[0].deployments == ("mistral-*",)
    assert guests[0].grants[0].operations == {Operation.EMBEDDINGS}
    shown = repr(found)
    assert not [key for key in ("key-a", "key-b", "guest-1", "guest-2") if key in shown]


def test_one_secret_for_two_callers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"keys\.past\.key1: the same key as in keys\.guest"):
        snapshot({**KEYS, "keys": {"guest": GUEST, "past": {"key1": "env:GUEST_1"}}})


def test_the_id_names_what_is_deployed_and_nothing_else() -> None:
    one = snapshot({"deployments": {"a": deployment(), "b": deployment()}})
    same = snapshot({"deployments": {"b": deployment(), "a": deployment()}, "server": {"port": 1}})
    other = snapshot({"deployments": {"a": deployment(), "b": deployment(limits={"tokens_per_minute": 5})}})
    assert one.id == same.id != other.id


def test_a_deployment_without_a_provider_uses_the_entry_of_its_version() -> None:
    entry = {"format": "OpenAI", "name": "listed", "provider": "house"}
    found = snapshot(
        {
            "providers": {"house": SCRIPTED},
            "models": [
                {**entry, "version": "1", "upstream_model": "first"},
                {**entry, "version": "2", "upstream_model": "second"},
                {**entry, "format": "Custom", "version": "2", "upstream_model": "other"},
            ],
            "deployments": {
                "exact": {"model": {"format": "openai", "name": "Listed", "version": "2"}},
                "by-name": {"model": {"name": "listed", "version": "9"}},
            },
        }
    )
    assert [target.model for target in found.deployments["exact"].targets] == ["second"]
    assert [target.model for target in found.deployments["by-name"].targets] == ["first"]


@pytest.mark.parametrize("again", [{}, {"version": "1"}, {"format": "custom", "name": "LISTED"}])
def test_two_entries_of_one_format_name_and_version_are_a_fault(again: dict[str, Any]) -> None:
    entry = {"name": "listed", "provider": "house"}
    with pytest.raises(ConfigError, match="in the catalogue twice"):
        snapshot({"providers": {"house": SCRIPTED}, "models": [entry, {**entry, **again}]})
