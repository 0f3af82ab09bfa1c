"""What a client command reads of the configuration: the same values and faults as a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields

from modelport.config import client
from modelport.config.client import ClientSettings, read_client
from modelport.config.faults import ConfigError
from modelport.config.load import read
from modelport.config.settings import AuthSettings, ServerSettings, Settings, TlsSettings
from modelport.config.sources import Flags

HOME = {"HOME": "/home/operator"}
RIGHT: list[dict[str, Any]] = [
    {},
    {"server": None, "auth": None},
    {"server": {"host": "0.0.0.0", "port": 0, "data_dir": "~/kept", "region": "north sea"}},
    {"server": {"host": "::1", "port": "4711", "data_dir": "kept", "limits": {"json_depth": 3}}},
    {"server": {"tls": {"self_signed": "true"}, "workers": "many"}, "deployments": {"x": {"modle": 1}}},
    {"server": {"tls": {"cert": "c.pem", "key": "k.pem"}, "host": None}, "auth": {"keys": ["env:ONE", "file:two"]}},
    {"auth": {"keys": ["env:ONE"], "oidc": [{"wrong": True}]}, "providers": ["wrong", "too"]},
]
WRONG: list[dict[str, Any]] = [
    {"servr": {"port": 1}},
    {"servr": None},
    {"server": {"hosts": None}},
    {"server": {"prot": 1}},
    {"server": {"tls": {"certificate": "c.pem"}}},
    {"auth": {"key": "env:ONE"}},
    {"server": "127.0.0.1:8080"},
    {"server": {"host": "a house"}},
    {"server": {"host": 5}},
    {"server": {"port": 70_000}},
    {"server": {"port": "http"}},
    {"server": {"port": 1.5}},
    {"server": {"data_dir": ""}},
    {"server": {"data_dir": "a\0b"}},
    {"server": {"region": "nowhere\n"}},
    {"server": {"tls": {"cert": "c.pem"}}},
    {"server": {"tls": {"cert": "c.pem", "key": "k.pem", "self_signed": True}}},
    {"server": {"tls": {"self_signed": "null"}}},
    {"auth": {"keys": "env:ONE"}},
    {"auth": {"keys": ["sk-written-here"]}},
    {"auth": {"keys": ["env:ONE"] * 65}},
]
POOL: list[Any] = [
    *(None, True, False, 0, 1, 8080, 65_536, -1, 1.0, 2.5, [], ["env:ONE"], ["x"], {}, {"a": 1}),
    *("", " ", "8080", " 8080", "8_080", "true", "no", "null", "::1", "[::1]", "a.b", "-a", "~", "~/x", "x\0", "x\n"),
    *("env:ONE", "env:1", "file: "),
]


def as_client(settings: Settings, directory: Path) -> ClientSettings:
    server = settings.server
    keys = tuple(key.origin for key in settings.auth.keys)
    return ClientSettings(
        server.host, server.port, server.tls.is_enabled, server.data_dir, server.region, keys, directory
    )


def no_fallback(*arguments: object) -> ClientSettings:
    raise AssertionError("the whole configuration was read")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "modelport.yaml"


@pytest.mark.parametrize("data", RIGHT, ids=str)
def test_what_is_right_is_read_without_the_rest(data: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(yaml.safe_dump(data))
    monkeypatch.setattr(client, "_read_all", no_fallback)
    found = read_client(file, HOME, Flags())
    used = {
        "server": {key: value for key, value in (data.get("server") or {}).items() if key not in ("limits", "workers")},
        "auth": {key: value for key, value in (data.get("auth") or {}).items() if key == "keys"},
    }
    file.write_text(yaml.safe_dump(used))
    assert found == as_client(read(file, HOME, with_secrets=False).settings, file.parent)


@pytest.mark.parametrize("data", WRONG, ids=lambda data: str(data)[:60])
def test_what_is_wrong_is_said_as_a_server_says_it(data: Any, file: Path) -> None:
    file.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError) as server:
        read(file, HOME, with_secrets=False)
    with pytest.raises(ConfigError) as command:
        read_client(file, HOME, Flags())
    assert command.value.faults == server.value.faults


def test_a_file_that_is_missing_or_no_yaml_is_said_as_a_server_says_it(file: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_client(file, HOME, Flags())
    file.write_text("server: {host: a, host: b}")
    with pytest.raises(ConfigError, match=r"server\.host: is given twice"):
        read_client(file, HOME, Flags())


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_file(file: Path, tmp_path: Path) -> None:
    file.write_text("server: {port: 1, data_dir: /file, host: file.example}")
    environ = HOME | {"MODELPORT_PORT": "2", "MODELPORT_DATA_DIR": "/variable", "MODELPORT_CONFIG": str(file)}
    found = read_client(None, environ | {"MODELPORT_API_KEY": "x"}, Flags(data_dir=Path("/flag")))
    assert (found.endpoint, found.data_dir) == ("http://file.example:2", Path("/flag"))
    assert (found.keys, found.directory) == (("env:MODELPORT_API_KEY",), tmp_path)


values = st.sampled_from(POOL)


@given(
    server=st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("host", "port", "data_dir", "region", "tls", "strict", "hosts"), values)
    ),
    tls=st.fixed_dictionaries({}, optional=dict.fromkeys(("self_signed", "cert", "key"), values)),
    auth=st.fixed_dictionaries({}, optional=dict.fromkeys(("keys", "anonymous"), values)),
)
def test_odd_values_are_taken_only_as_a_server_takes_them(server: Any, tls: Any, auth: Any) -> None:
    data = {"server": {"tls": tls, **server}, "auth": auth}
    sources = client.SecretSources(HOME, Path("/etc/house"), are_read=False)
    found = client._read_form(data, sources)
    if found is not None:
        used = {key: value for key, value in data["server"].items() if key != "strict"}
        settings = Settings.model_validate({"server": used, "auth": {"keys": auth.get("keys")}}, context=sources)
        assert found == as_client(settings, sources.directory)


def test_the_form_knows_every_key() -> None:
    models = {(): Settings, ("server",): ServerSettings, ("server", "tls"): TlsSettings, ("auth",): AuthSettings}
    for path, form in client._FORMS.items():
        read_keys = {field.name for field in fields(form)}
        unread = set(client.UNREAD_KEYS.get(path, ()))
        assert read_keys.isdisjoint(unread)
        assert read_keys | unread == set(models[path].model_fields)
