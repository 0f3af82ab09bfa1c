"""A file, the environment and flags become settings; what is wrong is told all at once, with line and key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelport.config.deployments import InlineProviderSettings
from modelport.config.document import read_document
from modelport.config.faults import ConfigError
from modelport.config.load import load, parse, read
from modelport.config.settings import Settings
from modelport.config.sources import Flags

Write = Callable[[str], Path]
HOME = {"HOME": "/home/somebody"}


def faults(path: Path, environ: dict[str, str] | None = None, flags: Flags | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, HOME | (environ or {}), flags or Flags())
    return [str(fault).replace(f"{path}:", "") for fault in caught.value.faults]


def one_fault(path: Path, environ: dict[str, str] | None = None) -> str:
    (fault,) = faults(path, environ)
    return fault


# --- what is right ----------------------------------------------------------------------------------------------------


def test_no_file_gives_the_defaults() -> None:
    found = load(None, HOME)
    assert (found.server.host, found.server.port, found.server.workers) == ("127.0.0.1", 8080, 1)
    assert found.server.data_dir == Path("/home/somebody/.local/share/modelport")
    assert found.auth.keys == ()
    assert not found.server.tls.is_enabled
    assert found.deployments == {}


def test_null_means_the_default_except_where_it_has_a_meaning(write: Write) -> None:
    path = write(
        "server:\n  port: null\nauth:\ndeployments:\n  a:\n    model: {name: smollm2-135m-instruct}\n"
        "    limits: {tokens_per_minute: null}\n"
    )
    found = load(path, HOME)
    assert found.server.port == 8080
    assert found.deployments["a"].limits.tokens_per_minute is None
    assert found.deployments["a"].limits.requests_per_minute == "default"


def test_relative_paths_start_at_the_file(write: Write) -> None:
    path = write(
        "server: {data_dir: here, tls: {cert: c.pem, key: /k.pem}}\n"
        "deployments:\n  a: {model: {name: x}, provider: {type: llama_cpp, weights: w/x.gguf}}\n"
    )
    found = load(path, HOME)
    assert found.server.data_dir == path.parent / "here"
    assert found.server.tls.cert == path.parent / "c.pem"
    assert found.server.tls.key == Path("/k.pem")
    provider = found.deployments["a"].provider
    assert isinstance(provider, InlineProviderSettings)
    assert provider.options() == {"weights": str(path.parent / "w/x.gguf")}


def test_versions_and_dates_may_stand_without_quotes(write: Write) -> None:
    path = write(
        "deployments:\n  a: {model: {name: smollm2-135m-instruct, version: 2024-05-13}}\n"
        "  b: {model: {name: smollm2-135m-instruct, version: 2}}\n"
        "keys:\n  k: {key1: env:K, expires: 2030-01-31}\n  m: {key1: env:M, expires: 2030-01-31T10:00:00+02:00}\n"
    )
    found = load(path, HOME | {"K": "one", "M": "two"})
    assert [item.model.version for item in found.deployments.values()] == ["2024-05-13", "2"]
    expires = [item.expires.isoformat() for item in found.keys.values() if item.expires]
    assert expires == ["2030-01-31T00:00:00+00:00", "2030-01-31T10:00:00+02:00"]


def test_every_neutral_value_is_accepted(write: Write) -> None:
    path = write(
        "server: {workers: 1, default_content_filter: Microsoft.Nill}\nauth: {oidc: []}\n"
        "deployments:\n  a:\n    model: {name: smollm2-135m-instruct}\n    content_filter: Microsoft.Nill\n"
        "    spillover: null\n    limits: {wait_seconds: 0}\n"
        "content_filters: {}\nblocklists: {}\nprojects: {}\n"
        "keys: {k: {key1: env:K, project: null, budget: null, limits: {}}}\n"
        "prices: {currency: USD, unpriced: allow, file: null}\nquota: {on_store_outage: local_cap}\n"
        "database_url: null\nredis_url: null\ntelemetry: {otlp_endpoint: null}\n"
    )
    assert load(path, HOME | {"K": "k"}).keys["k"].project is None


# --- precedence -------------------------------------------------------------------------------------------------------


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(write: Write) -> None:
    path = write("server: {port: 1001, host: 127.0.0.1}\n")
    environ = HOME | {"MODELPORT_PORT": "1002"}
    assert load(path, environ, Flags(port=1003)).server.port == 1003
    assert load(path, environ).server.port == 1002
    assert load(path, HOME | {"MODELPORT_PORT": ""}).server.port == 1001
    assert load(None, HOME).server.port == 8080


def test_every_variable_reaches_its_setting(tmp_path: Path) -> None:
    found = load(
        None,
        HOME
        | {
            "MODELPORT_HOST": "localhost",
            "MODELPORT_DATA_DIR": "~/d",
            "MODELPORT_TLS_SELF_SIGNED": "true",
            "MODELPORT_LOG_LEVEL": "debug",
            "MODELPORT_WORKERS": "1",
            "MODELPORT_DEFAULT_CONTENT_FILTER": "Microsoft.Nill",
            "MODELPORT_API_KEY": "the-key",
        },
    )
    assert found.server.host == "localhost"
    assert found.server.data_dir == Path("/home/somebody/d")
    assert found.server.tls.self_signed
    assert found.telemetry.log_level == "debug"
    assert found.server.default_content_filter == "Microsoft.Nill"
    assert [key.reveal() for key in found.auth.keys] == ["the-key"]


def test_the_variable_names_the_file_when_no_path_is_given(write: Write) -> None:
    path = write("server: {port: 1001}\n")
    loaded = read(None, HOME | {"MODELPORT_CONFIG": str(path)})
    assert (loaded.settings.server.port, loaded.file) == (1001, path)


def test_one_way_to_do_tls_replaces_the_other_as_a_whole(write: Write) -> None:
    path = write("server: {tls: {cert: c.pem, key: k.pem}}\n")
    tls = load(path, HOME, Flags(tls_self_signed=True)).server.tls
    assert (tls.self_signed, tls.cert, tls.key) == (True, None, None)
    tls = load(
        path, HOME | {"MODELPORT_TLS_SELF_SIGNED": "1"}, Flags(tls_cert=Path("/c"), tls_key=Path("/k"))
    ).server.tls
    assert (tls.self_signed, tls.cert, tls.key) == (False, Path("/c"), Path("/k"))
    assert not load(path, HOME, Flags(tls_self_signed=False)).server.tls.is_enabled


def test_a_certificate_flag_without_its_key_does_not_take_the_key_of_the_file(write: Write) -> None:
    path = write("server: {tls: {cert: c.pem, key: k.pem}}\n")
    assert faults(path, flags=Flags(tls_cert=Path("/c"))) == ["--tls-cert: server.tls: needs both cert and key"]


def test_the_key_variable_replaces_the_keys_of_the_file_unless_they_name_it(write: Write) -> None:
    environ = HOME | {"MODELPORT_API_KEY": "new", "OLD": "old"}
    path = write('auth: {keys: ["env:OLD"]}\n')
    assert [key.reveal() for key in load(path, environ).auth.keys] == ["new"]
    path = write('auth: {keys: ["env:OLD", "env:MODELPORT_API_KEY"]}\n')
    assert [key.reveal() for key in load(path, environ).auth.keys] == ["old", "new"]


def test_a_fault_names_the_variable_or_flag_that_it_came_from(write: Write) -> None:
    path = write("server: {port: 1}\n")
    assert faults(path, {"MODELPORT_PORT": "many"}) == [
        "MODELPORT_PORT: server.port: must be a whole number, not 'many'"
    ]
    said = faults(path, {"MODELPORT_PORT": "many"}, Flags(port=70000))
    assert said == ["--port: server.port: 70000: must be at most 65535"]


# --- what is wrong ----------------------------------------------------------------------------------------------------


def test_all_faults_are_told_at_once_in_the_order_of_the_file(write: Write) -> None:
    path = write(
        "server:\n  hots: x\n  port: 70000\nproviders:\n  house: {type: llama_cp}\ndeployments:\n  Mistral-large:\n"
        "    model: {format: Mistral AI, name: Mistral-large-2411}\n    sku: {capcity: 1}\n    provider: huose\n"
        "  mistral-LARGE:\n    model: {name: x}\n    provider: house\n    sku: {capacity: 1}\n"
        "port: 80\n"
    )
    assert faults(path) == [
        "2: server.hots: unknown key 'hots'; did you mean 'host'?",
        "3: server.port: 70000: must be at most 65535",
        "5: providers.house.type: 'llama_cp' is not a provider type; did you mean 'llama_cpp'?",
        "9: deployments.Mistral-large.sku.capcity: unknown key 'capcity'; did you mean 'capacity'?",
        "10: deployments.Mistral-large.provider: there is no provider 'huose'; did you mean 'house'?",
        "11: deployments.mistral-LARGE: the same name as 'Mistral-large': case does not count",
        "15: port: unknown key 'port'; it belongs in 'server'",
    ]


D = "deployments:\n  a:\n    model: {name: smollm2-135m-instruct}\n    "


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("server: [1]", "1: server: must be a mapping, not a list"),
        ("deployments:\n  a:\n", "2: deployments.a: must be a mapping, not null"),
        ("deployments:\n  a: {}\n", "2: deployments.a.model: is required"),
        ("deployments:\n  a b: {model: {name: smollm2-135m-instruct}}\n", "2: deployments.a b: 'a b': a name has"),
        (
            D + "sku: {name: GlobalStandrad}",
            "4: deployments.a.sku.name: 'GlobalStandrad' is not known; did you mean 'Glo",
        ),
        (D + "limits: {tokens_per_minute: 0}", "0 is not a whole number from 1, null (unlimited) or default"),
        (D + "timeouts: {connect: 0}", "4: deployments.a.timeouts.connect: 0: must be more than 0"),
        (D + "extra_parameters: dropp", "'dropp' is not one of error, drop, pass-through; did you mean 'drop'?"),
        (D + "model_type: 7", "4: deployments.a.model_type: must be text, not 7"),
        (D + "targets: []", "4: deployments.a.targets: must have at least 1 entry"),
        (
            D + "targets: [{provider: h, weight: 0}]\nproviders: {h: {type: llama_cpp}}",
            "targets[0].weight: 0: must be at",
        ),
        (D + "targets: [{provider: h}]", "4: deployments.a.targets[0].provider: there is no provider 'h'"),
        (D + "default: maybe", "4: deployments.a.default: must be true or false, not 'maybe'"),
        (
            "deployments:\n  a: {model: {name: smolm2-135m-instruct}}",
            "2: deployments.a: names no provider, and the catal",
        ),
        ("deployments: {a: {model: {name: x, version: 1.10}}}", "model.version: 1.1 is a number; put it in quotes"),
        ("engine: {context: 1000}", "1: engine: a context of 1000 is shared by the slots and leaves fewer than 256"),
        ("engine: {threads: none}", "1: engine.threads: 'none' is not auto or a whole number from 1"),
        ("server: {cors_origins: ['https://a.example/x']}", "is scheme://host[:port] and nothing after it"),
        ("server: {trusted_proxies: [proxy.example]}", "is neither an address nor a network such as 10.0.0.0/8"),
        ("server: {trusted_proxies: ['10.0.0.1:80']}", "is neither an address nor a network such as 10.0.0.0/8"),
        ("server: {trusted_proxies: [0.0.0.0/0]}", "is every address there is"),
        ("server: {trusted_proxies: ['::/0']}", "is every address there is"),
        ("server: {trusted_proxies: [10.0.0.1/8]}", "write 10.0.0.0/8 for all of it, or the address alone"),
        ("server: {trusted_proxies: ['::ffff:10.0.0.0/104']}", "is an address of IPv4; write it as one"),
        ("server: {host: 'a b'}", "1: server.host: 'a b' is neither an IP address nor a host name"),
        ("server: {tls: {cert: c.pem}}", "1: server.tls: needs both cert and key"),
        ("server: {tls: {self_signed: true, cert: c, key: k}}", "has both self_signed and cert; keep one of them"),
        ("keys: {k: {}}", "1: keys.k: has neither key1 nor key2"),
        ("keys: {k: {key1: 'env:K', operations: [chat]}}", "1: keys.k.operations[0]: 'chat' is not one of"),
        ("keys: {k: {key1: 'env:K', project: p}}\nprojects: {P: {}}", "there is no project 'p'; did you mean 'P'?"),
        ("keys: {k: {key1: 'env:K', expires: soon}}", "1: keys.k.expires: 'soon' is not a date like 2027-01-31"),
        ("keys:\n  k: {key1: 'env:K'}\n  m: {key2: 'env:K'}", "3: keys.m.key2: the same key as in keys.k"),
        ("models: [{name: x, provider: nowhere}]", "1: models[0].provider: there is no provider 'nowhere'"),
        ("a: 1\na: 2\nserver: {port: 1}", "2: a: is given twice"),
        ("content_filers: {}", "unknown key 'content_filers'; did you mean 'content_filters'?"),
        ("zzz: 1", "unknown key 'zzz'; known here: server, auth,"),
    ],
)
def test_a_fault_says_where_and_what(write: Write, text: str, said: str) -> None:
    assert said in "\n".join(faults(write(text), {"K": "k"}))


def test_a_deployment_has_a_provider_or_targets_and_not_both(write: Write) -> None:
    path = write("providers: {h: {type: llama_cpp}}\n" + D + "provider: h\n    targets: [{provider: h}]\n")
    assert one_fault(path) == "3: deployments.a: has both provider and targets; keep one of them"


def test_only_one_deployment_is_the_default(write: Write) -> None:
    model = "{model: {name: smollm2-135m-instruct}, default: true}"
    path = write(f"deployments:\n  a: {model}\n  b: {model}\n")
    assert one_fault(path) == "3: deployments.b.default: 'a' is the default already; there is only one"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("telemetry: {otlp_endpoint: 'http://h:4318'}", "telemetry.otlp_endpoint: 'http://h:4318': trace export is"),
    ],
)
def test_what_has_not_landed_is_refused_and_says_so(write: Write, text: str, said: str) -> None:
    fault = one_fault(write(text), {"K": "k"})
    assert said in fault
    assert "not available in this version; remove it" in fault


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "server: {default_content_filter: Microsoft.Defalt}",
            "server.default_content_filter: there is no content filter",
        ),
        ("deployments: {a: {model: {name: smollm2-135m-instruct}, content_filter: strit}}", "did you mean 'strict'?"),
        ("content_filters: {strict: {filters: [ruls]}}", "strict.filters[0]: there is no filter 'ruls'; did you mean"),
        ("content_filters: {strict: {prompt: {blocklists: [hose]}}}", "blocklists[0]: there is no blocklist 'hose'"),
        ("content_filters: {microsoft.nill: {}}", "content_filters.microsoft.nill: is the name of a built-in"),
        ("content_filters: {strict: {prompt: {protected_material: block}}}", "unknown key 'protected_material'"),
        ("content_filters: {strict: {completion: {hate: high-ish}}}", "completion.hate: 'high-ish' is not one of off"),
    ],
)
def test_names_of_content_filters_lead_somewhere(write: Write, text: str, said: str) -> None:
    more = "" if text.startswith("content_filters") else "\ncontent_filters: {strict: {}}"
    assert said in one_fault(write(text + more))


def test_the_guard_model_is_a_deployment_of_the_same_server(write: Write) -> None:
    deployments = "deployments: {guard: {model: {name: smollm2-135m-instruct}, content_filter: guarded}}\n"
    policy = "content_filters: {guarded: {filters: [guard_model]}}\n"
    named = "content_safety: {guard: {deployment: %s}}\n"
    fault = one_fault(write(deployments + policy + named % "gard"))
    assert "content_safety.guard.deployment: there is no deployment 'gard'; did you mean 'guard'?" in fault
    assert "there is no deployment 'guard'" in one_fault(write(named % "guard"))
    settings = load(write(deployments + policy + named % "Guard"), HOME)  # that it is guarded itself does not matter
    assert settings.content_safety.guard is not None


def test_a_harm_is_written_short_or_in_full(write: Write) -> None:
    text = (
        "content_filters: {a: {prompt: {hate: off, sexual: low}, completion: {violence: {at: high, effect: annotate}}}}"
    )
    given = load(write(text), HOME).content_filters["a"]
    assert (given.prompt.hate.at, given.prompt.sexual.at, given.prompt.sexual.effect) == ("off", "low", "block")
    assert (given.completion.violence.at, given.completion.violence.effect) == ("high", "annotate")


def test_the_whole_vocabulary_parses(write: Write, tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text("prices: [{model: m, input: '1'}]")
    vocabulary = Path(__file__).with_name("vocabulary.yaml").read_bytes()
    names = ("MODELPORT_API_KEY", "UPSTREAM_KEY", "BATCH_KEY", "MODELPORT_DATABASE_URL", "MODELPORT_REDIS_URL")
    environ = {name: f"secret-{name}" for name in names}
    document = read_document(vocabulary, "vocabulary.yaml")
    parse(document, tmp_path / "vocabulary.yaml", HOME | environ)


@pytest.mark.parametrize("path", ["/nowhere/at/all.yaml", "/", "\0"])
def test_a_file_that_cannot_be_read_is_one_fault(path: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(path, HOME)


# --- providers --------------------------------------------------------------------------------------------------------


def test_an_installed_adapter_checks_its_own_keys(write: Write, house: str) -> None:
    path = write(
        f"providers:\n  a: {{type: {house}, base_url: 'http://h', regoin: x}}\n  b: {{type: {house}}}\n"
        f"  c: {{type: {house}, base_url: 'ftp://h'}}\n  d: {{type: {house}, base_url: 'http://h', attempts: some}}\n"
        "  e: {type: broken_type}\n  f: {type: house_tipe}\n"
    )
    said = faults(path)
    assert said[:4] == [
        "2: providers.a.regoin: unknown key 'regoin'; did you mean 'region'?",
        "3: providers.b.base_url: is required",
        "4: providers.c.base_url: must start with http:// or https://",
        "5: providers.d.attempts: must be a whole number, not 'some'",
    ]
    assert said[4].startswith("6: providers.e.type: the adapter 'broken_type' cannot be imported")
    assert said[5] == "7: providers.f.type: 'house_tipe' is not a provider type; did you mean 'house_type'?"


def test_a_provider_gets_its_options_with_secrets_and_paths_resolved(write: Write, house: str) -> None:
    path = write(
        f"providers:\n  a:\n    type: {house}\n    base_url: env:URL\n    api_key: env:KEY\n    script: s.yaml\n"
        "    headers: {X-Plain: plain, Authorization: 'env:KEY'}\n"
    )
    found = load(path, HOME | {"KEY": "hunter2", "URL": "https://h.example/v1"})
    assert found.providers["a"].options() == {
        "base_url": "https://h.example/v1",
        "api_key": "hunter2",
        "script": str(path.parent / "s.yaml"),
        "headers": {"X-Plain": "plain", "Authorization": "hunter2"},
    }
    for shown in (repr(found), str(found), found.model_dump_json(), repr(found.model_dump())):
        assert "hunter2" not in shown
    assert '"api_key":"***"' in found.model_dump_json()


@pytest.mark.parametrize(
    "line", ["api_key: sk-hunter2", "headers: {Authorization: 'Bearer hunter2'}", "api_key: 123456"]
)
def test_a_secret_written_into_the_file_is_refused_and_not_repeated(write: Write, house: str, line: str) -> None:
    said = one_fault(write(f"providers:\n  a:\n    type: {house}\n    base_url: http://h\n    {line}\n"))
    assert said.endswith("a secret is not written here; write env:NAME or file:PATH")
    assert "hunter2" not in said
    assert "123456" not in said


def test_an_adapter_that_quotes_a_secret_is_not_repeated(write: Write, house: str) -> None:
    path = write(f"providers: {{a: {{type: {house}, base_url: 'http://h', api_key: 'env:K'}}}}\n")
    assert (
        one_fault(path, {"K": "abc"})
        == "1: providers.a.api_key: is not valid; the adapter's reason may repeat the secret and is not shown"
    )


def test_the_options_of_the_engine_are_checked_without_importing_what_runs_weights(write: Write) -> None:
    path = write(D + "provider: {type: llama_cpp, wieghts: x.gguf, slots: 0}\n")
    assert faults(path) == [
        "4: deployments.a.provider.slots: 0: must be at least 1",
        "4: deployments.a.provider.wieghts: unknown key 'wieghts'; did you mean 'weights'?",
    ]


# --- whatever the text ------------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["env:K", "file:/nowhere", "llama_cpp", "a", "default", "auto", "Microsoft.Nill", "http://h"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "b", "type", "model", "name", "provider", "targets", "limits", "keys", "tls", "host"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(list(Settings.model_fields)), VALUES, max_size=5))
@example({"deployments": {"a": {"provider": {"type": "llama_cpp", "headers": {"a": [{"b": "env:K"}]}}}}})
@settings(max_examples=300, deadline=None)
def test_any_data_gives_settings_or_a_configuration_error(data: dict[str, object]) -> None:
    document = read_document(yaml.safe_dump(data, allow_unicode=True).encode(), "f.yaml")
    try:
        loaded = parse(document, Path("/d/f.yaml"), HOME | {"K": "hunter2"})
    except ConfigError as exc:
        assert exc.faults
        assert "hunter2" not in str(exc)
    else:
        assert "hunter2" not in repr(loaded)
        assert "hunter2" not in loaded.settings.model_dump_json()


EXAMPLE = (Path(__file__).parents[3] / "examples/modelport.yaml").read_bytes()


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_file_is_read_or_refused_with_lines_that_exist(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(EXAMPLE)))
    end = data.draw(st.integers(start, min(len(EXAMPLE), start + 40)))
    other = data.draw(
        st.binary(max_size=6) | st.sampled_from([b"\n", b"  ", b": ", b"{", b"]", b"&a ", b"*a", b"'", b"- "])
    )
    raw = EXAMPLE[:start] + other + EXAMPLE[end:]
    try:
        parse(read_document(raw, "f.yaml"), Path("f.yaml"), HOME)
    except ConfigError as exc:
        last = raw.count(b"\n") + raw.count(b"\r") + raw.decode("utf-8", "replace").count("\x85") + 2
        assert all(fault.line is None or 1 <= fault.line <= last for fault in exc.faults)
        assert all(fault.what for fault in exc.faults)
