"""`/admin/v1/{kind}/{name}`: deployments come, change and go while the server runs, on one process and on several."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from modelport.control.resources import RESOURCES
from served import KEY, Answer, Served, eventually

MODEL = {"format": "Custom", "name": "script", "version": "1"}
CONFIG: dict[str, Any] = {
    "providers": {"house": {"type": "scripted"}},
    "deployments": {"script": {"model": MODEL, "provider": "house", "default": True}},
    "keys": {"guest": {"key1": "env:GUEST_KEY"}},
}
GUEST = "key-of-a-guest-77"
DEPLOYED: dict[str, Any] = {"model": MODEL, "provider": "house"}


@pytest.fixture(scope="module", params=["1", "2"])
def shared(request: pytest.FixtureRequest, serve_module: Callable[..., Served]) -> Served:
    return serve_module(CONFIG, GUEST_KEY=GUEST, MODELPORT_WORKERS=request.param)


@pytest.fixture
def served(shared: Served) -> Iterator[Served]:
    """Without stored objects."""
    yield shared
    stored = []
    for kind in reversed(RESOURCES):  # what names others before these
        for found in shared.call("GET", f"/admin/v1/{kind}").json["value"]:
            if found["origin"] == "store":
                path = f"/admin/v1/{kind}/{found['name']}"
                stored.append(path)
                if found["settings"].get("default") or found["settings"].get("spillover"):
                    assert patch(shared, path, {"default": None, "spillover": None}).status == 200
    for path in stored:
        assert shared.call("DELETE", path).status == 204


def put(served: Served, path: str, settings: dict[str, Any], **headers: str) -> Answer:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return served.call("PUT", f"/admin/v1/{path}", {"settings": settings}, headers=given)


def patch(served: Served, path: str, settings: dict[str, Any], **headers: str) -> Answer:
    path = path if path.startswith("/") else f"/admin/v1/{path}"
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return served.call("PATCH", path, {"settings": settings}, headers=given)


def chat(served: Served, model: str, key: str | None = KEY) -> Answer:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello!"}]}
    return served.call("POST", "/v1/chat/completions", body, key=key)


@pytest.mark.check(24)
def test_a_deployment_is_callable_at_once_and_gone_at_once(served: Served) -> None:
    for _ in range(5):
        made = put(served, "deployments/comes", DEPLOYED)
        assert made.status == 201, made.body
        assert made.json["settings"] == DEPLOYED
        assert {chat(served, "comes").status for _ in range(4)} == {200}
        assert {chat(served, "COMES").status for _ in range(4)} == {200}
        assert served.call("DELETE", "/admin/v1/deployments/Comes").status == 204
        assert {chat(served, "comes").status for _ in range(4)} == {404}


def test_every_answer_says_which_version_is_served(served: Served) -> None:
    put(served, "deployments/comes", DEPLOYED)
    before = chat(served, "comes").headers["x-modelport-snapshot"]
    patch(served, "deployments/comes", {"answers_as": "deployment"})
    after = chat(served, "comes")
    assert after.json["model"] == "comes"
    versions = [int(text.partition(".")[0]) for text in (before, after.headers["x-modelport-snapshot"])]
    assert versions[1] == versions[0] + 1
    assert served.call("GET", "/health/ready").json["snapshot"]["version"] == versions[1]


def test_the_same_once_more_changes_nothing(served: Served) -> None:
    first = put(served, "deployments/comes", DEPLOYED)
    second = put(served, "deployments/comes", DEPLOYED)
    assert (first.status, second.status) == (201, 200)
    assert first.headers["etag"] == second.headers["etag"]
    third = served.call("PUT", "/admin/v1/deployments/comes", second.json)
    assert third.headers["etag"] == first.headers["etag"]


def test_a_change_may_depend_on_the_etag(served: Served) -> None:
    made = put(served, "deployments/comes", DEPLOYED, if_none_match="*")
    assert put(served, "deployments/comes", DEPLOYED, if_none_match="*").status == 412
    etag = made.headers["etag"]
    changed = patch(served, "deployments/comes", {"sku": {"capacity": 5}}, if_match=etag)
    assert changed.status == 200
    assert changed.headers["etag"] != etag
    refused = patch(served, "deployments/comes", {"sku": {"capacity": 6}}, if_match=etag)
    assert (refused.status, refused.json["error"]["code"]) == (412, "PreconditionFailed")
    assert put(served, "deployments/other", DEPLOYED, if_match="*").status == 412
    stale = {"if-match": etag}
    assert served.call("DELETE", "/admin/v1/deployments/comes", headers=stale).status == 412


def test_what_the_file_has_is_read_only_and_says_where_it_is(served: Served) -> None:
    found = served.call("GET", "/admin/v1/deployments/SCRIPT").json
    assert (found["origin"], found["name"]) == ("file", "script")
    for refused in (
        put(served, "deployments/Script", DEPLOYED),
        patch(served, "deployments/script", {"sku": {"capacity": 5}}),
        served.call("DELETE", "/admin/v1/deployments/script"),
    ):
        assert refused.status == 409
        assert found["place"] in refused.json["error"]["message"]
    assert found["place"].rpartition(":")[2].isdigit()


def test_every_fault_of_a_body_is_told_with_its_place(served: Served) -> None:
    answer = put(served, "deployments/comes", {**DEPLOYED, "provider": "nowhere", "limits": {"tpm": 3}, "sku": 4})
    assert answer.status == 400
    details = {item["target"]: item["message"] for item in answer.json["error"]["details"]}
    assert details.keys() == {"provider", "limits.tpm", "sku"}
    assert "nowhere" in details["provider"]
    assert chat(served, "comes").status == 404


def test_a_content_filter_that_does_not_exist_is_refused(served: Served) -> None:
    assert put(served, "deployments/comes", {**DEPLOYED, "content_filter": "Microsoft.Nill"}).status == 201
    answer = patch(served, "deployments/comes", {"content_filter": "Microsoft.DefaultV3"})
    assert answer.status == 400
    assert answer.json["error"]["details"][0]["target"] == "content_filter"
    assert "did you mean 'Microsoft.DefaultV2'?" in answer.json["error"]["message"]


def test_what_others_need_is_not_deleted(served: Served) -> None:
    assert put(served, "deployments/second", DEPLOYED).status == 201
    assert put(served, "deployments/first", {**DEPLOYED, "spillover": "second"}).status == 201
    refused = served.call("DELETE", "/admin/v1/deployments/second")
    assert refused.status == 409
    assert "deployments 'first'" in refused.json["error"]["message"]
    assert put(served, "providers/mine", {"type": "scripted"}).status == 201
    assert put(served, "deployments/third", {**DEPLOYED, "provider": "mine"}).status == 201
    refused = served.call("DELETE", "/admin/v1/providers/mine")
    assert (refused.status, "deployments 'third'" in refused.json["error"]["message"]) == (409, True)


@pytest.mark.parametrize("name", ["a b", "-a", "a" * 65, "%00", "a%2Fb"])
def test_names_are_names(served: Served, name: str) -> None:
    answer = put(served, f"deployments/{name.replace(' ', '%20')}", DEPLOYED)
    assert answer.status == 400
    assert answer.json["error"]["code"] == "InvalidResource"


DEEP = b'{"settings": {"profile": ' + b'{"a":' * 2000 + b"1" + b"}" * 2000 + b"}}"


@pytest.mark.parametrize(
    "body", [DEEP, b"[" * 100_000, b"", b"[]", b"{", b'{"settings": 3}', b'{"model": {}}', b"null"]
)
def test_bodies_are_objects_with_settings(served: Served, body: bytes) -> None:
    assert served.call("PUT", "/admin/v1/deployments/comes", body).status == 400


def test_methods_and_paths_that_do_not_exist(served: Served) -> None:
    answer = served.call("POST", "/admin/v1/deployments", {})
    assert (answer.status, answer.headers["allow"]) == (405, "GET")
    assert served.call("GET", "/admin/v1/nonsense").status == 404
    assert served.call("GET", "/admin/v1/deployments/nobody").json["error"]["code"] == "ResourceNotFound"


@pytest.mark.check(11)
def test_a_key_is_made_here_shown_once_and_rotates(served: Served) -> None:
    made = put(served, "keys/team", {"deployments": ["script"]})
    assert made.status == 201
    first = made.json["secrets"]["key1"]
    assert chat(served, "script", first).status == 200
    shown = served.call("GET", "/admin/v1/keys/team")
    assert first not in shown.body.decode()
    assert shown.json["settings"]["key1"] == "***"
    second = served.call("POST", "/admin/v1/keys/team/regenerate", {"key": "key2"}).json["secrets"]["key2"]
    assert {chat(served, "script", key).status for key in (first, second)} == {200}
    replaced = served.call("POST", "/admin/v1/keys/team/regenerate", {"key": "key1"}).json["secrets"]["key1"]
    assert chat(served, "script", first).status == 401
    assert {chat(served, "script", key).status for key in (replaced, second)} == {200}
    assert patch(served, "keys/team", {"key2": None}).status == 200
    assert (chat(served, "script", second).status, chat(served, "script", replaced).status) == (401, 200)
    assert patch(served, "keys/team", {"key1": None}).status == 400
    assert patch(served, "keys/team", {"key1": "chosen-by-myself"}).status == 400
    assert patch(served, "keys/team", {"deployments": ["other-*"]}).status == 200
    assert chat(served, "script", replaced).status in (401, 404)
    assert patch(served, "keys/team", {"deployments": ["*"], "expires": "2020-01-01"}).status == 200
    assert chat(served, "script", replaced).status == 401
    assert served.call("DELETE", "/admin/v1/keys/team").status == 204


SECRET = "sk-upstream-8842-never-shown"


def test_a_secret_is_written_and_never_read(served: Served) -> None:
    house = {"type": "openai_compatible", "base_url": "http://127.0.0.1:9/v1", "api_key": SECRET}
    made = put(served, "providers/mine", {**house, "headers": {"x-team": "header-secret-3"}})
    assert made.status == 201, made.body
    assert made.json["settings"]["api_key"] == "***"
    assert made.json["settings"]["headers"] == {"x-team": "***"}
    texts = [made.body, *(served.call("GET", f"/admin/v1/{path}").body for path in ("providers", "audit"))]
    files = [path.read_bytes() for path in served.data_dir.rglob("*") if path.is_file() and path.name != "secrets-key"]
    for text in (*texts, *files, served.stderr().encode()):
        assert SECRET.encode() not in text
        assert b"header-secret-3" not in text


def stored_secrets(served: Served) -> set[str]:
    """The names of what the provider keeps secret."""
    settings = served.call("GET", "/admin/v1/providers/mine").json["settings"]
    return {name for name, value in settings.items() if "***" in json.dumps(value)}


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({"base_url": "http://127.0.0.1:9/v2"}, {"api_key", "headers"}),
        ({"base_url": "http://127.0.0.1:9/v1", "api_key": "***"}, {"api_key", "headers"}),
        ({"base_url": "http://127.0.0.1:10/v1"}, set()),
        ({"base_url": "http://127.0.0.2:9/v1"}, set()),
        ({"base_url": "https://127.0.0.1:9/v1"}, set()),
        ({"base_url": "https://127.0.0.1:9/v1", "api_key": "***"}, set()),
        ({"base_url": "http://127.0.0.1:10/v1", "api_key": "another"}, {"api_key"}),
        ({"base_url": "http://127.0.0.1:9/v1", "proxy": "http://127.0.0.1:11"}, {"proxy"}),
        ({"base_url": "http://127.0.0.1:9/v1", "api_key": None}, {"headers"}),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_secret_never_follows_its_provider_to_another_address(
    served: Served, change: dict[str, Any], kept: set[str], method: str
) -> None:
    house = {"type": "openai_compatible", "base_url": "http://127.0.0.1:9/v1", "api_key": SECRET}
    assert put(served, "providers/mine", {**house, "headers": {"x-team": "header-secret-3"}}).status == 201
    settings = {"type": "openai_compatible", **change} if method == "PUT" else change
    answer = served.call(method, "/admin/v1/providers/mine", {"settings": settings})
    assert answer.status == 200, answer.body
    assert stored_secrets(served) == kept


CREDENTIAL = {"type": "oauth", "token_url": "http://127.0.0.1:9/token", "client_id": "us", "client_secret": SECRET}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"credential": {"client_id": "others"}}, 200),
        ({"credential": {"client_secret": "***"}}, 200),
        ({"credential": {"token_url": "http://127.0.0.1:10/token"}}, 400),
        ({"credential": {"token_url": "http://127.0.0.1:10/token", "client_secret": "***"}}, 400),
        ({"base_url": "http://127.0.0.1:10/v1"}, 400),
        ({"base_url": "http://127.0.0.1:10/v1", "credential": {"client_secret": "another"}}, 200),
        ({"credential": None}, 200),
    ],
)
def test_a_client_secret_goes_to_its_token_server_alone(served: Served, change: dict[str, Any], status: int) -> None:
    house = {"type": "openai_compatible", "base_url": "http://127.0.0.1:9/v1", "credential": CREDENTIAL}
    made = put(served, "providers/mine", house)
    assert made.json["settings"]["credential"] == {**CREDENTIAL, "client_secret": "***"}
    answer = patch(served, "providers/mine", change)
    assert answer.status == status, answer.body
    if status == 400:
        assert b"client_secret is missing" in answer.body
    assert SECRET.encode() not in made.body + answer.body + served.stderr().encode()


@pytest.mark.parametrize(
    ("settings", "target"),
    [
        *(
            (
                {"type": "openai_compatible", "base_url": "http://127.0.0.1:9", "credential": {"type": kind}},
                "credential.type",
            )
            for kind in ("managed_identity", "workload_identity")
        ),
        (
            {
                "type": "openai_compatible",
                "base_url": "http://127.0.0.1:9",
                "credential": {**CREDENTIAL, "client_id": "env:HOME"},
            },
            "credential.client_id",
        ),
        ({"type": "openai_compatible", "base_url": "http://127.0.0.1:9/v1", "api_key": "env:HOME"}, "api_key"),
        ({"type": "openai_compatible", "base_url": "env:HOME"}, "base_url"),
        (
            {"type": "openai_compatible", "base_url": "http://127.0.0.1:9", "headers": {"a": "file:/etc/passwd"}},
            "headers.a",
        ),
        ({"type": "openai_compatible", "base_url": "http://127.0.0.1:9", "ca_file": "/etc/ssl/cert.pem"}, "ca_file"),
        ({"type": "openai_compatible", "base_url": "http://127.0.0.1:9", "unix_socket": "/run/x"}, "unix_socket"),
        ({"type": "scripted", "script": "/etc/passwd"}, "script"),
        ({"type": "scripted", "script": "../outside.yaml"}, "script"),
        ({"type": "llama_cpp", "weights": "/models/x.gguf"}, "weights"),
        ({"type": "onnx_embeddings", "tokenizer": "/etc/passwd"}, "tokenizer"),
        (
            {"type": "openai_compatible", "base_url": "http://127.0.0.1:9", "api_key": {"$sealed": "x"}},
            "api_key.$sealed",
        ),
    ],
)
def test_nothing_leads_into_the_environment_or_to_other_files(
    served: Served, settings: dict[str, Any], target: str
) -> None:
    answer = put(served, "providers/mine", settings)
    assert answer.status == 400
    if "details" in answer.json["error"]:
        assert target in {item["target"] for item in answer.json["error"]["details"]}
    inline = put(served, "deployments/mine", {"model": MODEL, "provider": settings})
    assert inline.status == 400
    assert b"root:" not in answer.body + inline.body


@pytest.mark.parametrize("kind", ["deployments", "providers", "keys", "audit"])
@pytest.mark.parametrize(
    ("key", "code"), [(None, "Unauthorized"), ("wrong", "Unauthorized"), (GUEST, "PermissionDenied")]
)
def test_administrators_alone(served: Served, kind: str, key: str | None, code: str) -> None:
    for method, path in (
        ("GET", f"/admin/v1/{kind}"),
        ("PUT", f"/admin/v1/{kind}/x"),
        ("DELETE", f"/admin/v1/{kind}/x"),
    ):
        answer = served.call(method, path, {"settings": {}} if method == "PUT" else None, key=key)
        assert (answer.status, answer.json["error"]["code"]) == (401, code)


def test_the_audit_says_who_did_what(served: Served) -> None:
    put(served, "deployments/audited", DEPLOYED)
    put(served, "deployments/audited", {**DEPLOYED, "sku": {"capacity": 2}})
    put(served, "deployments/audited", {**DEPLOYED, "sku": {"capacity": 0}})
    served.call("DELETE", "/admin/v1/deployments/audited")
    entries = served.call("GET", "/admin/v1/audit?kind=deployments&name=Audited").json["value"]
    assert [(entry["action"], entry["result"]) for entry in entries[-4:]] == [
        ("create", "done"),
        ("change", "done"),
        ("change", "InvalidResource"),
        ("delete", "done"),
    ]
    assert entries[-3]["before"] == DEPLOYED
    assert entries[-3]["after"] == {**DEPLOYED, "sku": {"capacity": 2}}
    assert {entry["actor"] for entry in entries} == {"operator"}
    assert entries[-1]["source"] == "127.0.0.1"


def test_what_is_stored_survives_a_restart(serve: Callable[..., AbstractContextManager[Served]]) -> None:
    secret = {"type": "openai_compatible", "base_url": "http://127.0.0.1:9/v1", "api_key": SECRET}
    with serve(CONFIG, GUEST_KEY=GUEST) as first:
        assert put(first, "providers/mine", secret).status == 201
        assert put(first, "deployments/kept", DEPLOYED).status == 201
        key = put(first, "keys/team", {}).json["secrets"]["key1"]
        version = first.call("GET", "/health/ready").json["snapshot"]["version"]
    with serve(CONFIG, GUEST_KEY=GUEST, MODELPORT_WORKERS="2") as second:
        for _ in range(8):
            assert second.call("GET", "/health/ready").json["snapshot"]["version"] == version
            assert chat(second, "kept", key).status == 200
        assert second.call("GET", "/admin/v1/providers/mine").json["settings"]["api_key"] == "***"


def over_tls(served: Served, path: str, body: Any = None, key: str = KEY) -> tuple[int, Any]:
    """A POST over TLS."""
    context = ssl.create_default_context(cafile=str(served.data_dir / "tls" / "ca.pem"))
    with contextlib.closing(http.client.HTTPSConnection(*served.address, context=context, timeout=60)) as connection:
        connection.request("POST", path, json.dumps(body or {}), {"api-key": key, "content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


@pytest.mark.check(11)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_account_has_a_pair_of_keys(serve: Callable[..., AbstractContextManager[Served]], workers: str) -> None:
    keys_path, regenerate = "/admin/v1/account/list_keys", "/admin/v1/account/regenerate_key"
    question = {"model": "script", "messages": [{"role": "user", "content": "Hello!"}]}

    def chats(served: Served, key: str) -> int:
        return over_tls(served, "/v1/chat/completions", question, key)[0]

    with serve(CONFIG, GUEST_KEY=GUEST, MODELPORT_WORKERS=workers, MODELPORT_TLS_SELF_SIGNED="true") as served:
        assert over_tls(served, keys_path, key=GUEST)[0] == 401
        status, pair = over_tls(served, keys_path)
        assert status == 200
        assert over_tls(served, keys_path)[1] == pair
        assert [chats(served, pair[slot]) for slot in ("key1", "key2")] == [200, 200]
        assert over_tls(served, keys_path, key=pair["key1"])[0] == 401
        status, changed = over_tls(served, regenerate, {"key": "key1"})
        assert (status, changed["key2"]) == (200, pair["key2"])
        assert [chats(served, key) for key in (pair["key1"], changed["key1"], pair["key2"])] == [401, 200, 200]
    with serve(CONFIG, GUEST_KEY=GUEST, MODELPORT_TLS_SELF_SIGNED="true") as served:
        assert over_tls(served, keys_path)[1] == changed
        assert over_tls(served, regenerate, {"key": "key3"})[0] == 400
    database = served.data_dir / "modelport.db"
    stored = b"".join(path.read_bytes() for path in served.data_dir.glob("modelport.db*"))
    assert database.exists()
    assert not any(key.encode() in stored for key in (*pair.values(), *changed.values()))


def test_the_accounts_keys_are_shown_over_tls_alone(served: Served) -> None:
    for path in ("list_keys", "regenerate_key"):
        answer = served.call("POST", f"/admin/v1/account/{path}", {"key": "key1"})
        assert (answer.status, answer.json["error"]["code"]) == (403, "Forbidden")


def test_a_secret_that_is_written_in_the_file_is_not_shown(
    serve: Callable[..., AbstractContextManager[Served]],
) -> None:
    house = {
        "type": "openai_compatible",
        "base_url": "http://127.0.0.1:9/v1",
        "api_key": "env:GUEST_KEY",
        "headers": {"x-team": "header-secret-9"},
        "proxy": "http://user:proxy-secret-9@127.0.0.1:9",
    }
    config = {"providers": {"house": house}, "deployments": {"one": {"model": MODEL, "provider": house}}}
    with serve(config, GUEST_KEY=GUEST) as served:
        for path in ("providers/house", "deployments/one", "providers", "deployments"):
            answer = served.call("GET", f"/admin/v1/{path}")
            assert answer.status == 200
            assert b"secret-9" not in answer.body
            assert b"env:GUEST_KEY" in answer.body


def test_a_file_must_be_valid_by_itself(serve: Callable[..., AbstractContextManager[Served]]) -> None:
    with serve(CONFIG, GUEST_KEY=GUEST) as served:
        assert put(served, "providers/mine", {"type": "scripted"}).status == 201
        leaning = {**CONFIG, "deployments": {"leaning": {"model": MODEL, "provider": "mine"}}}
        (served.data_dir.parent / f"{served.data_dir.name}.yaml").write_text(json.dumps(leaning))
        served.process.send_signal(signal.SIGHUP)
        eventually(lambda: "there is no provider 'mine'" in served.stderr(), "the file is refused")
        assert chat(served, "script").status == 200


def test_two_servers_of_one_data_directory_serve_the_same(
    serve: Callable[..., AbstractContextManager[Served]],
) -> None:
    with serve(CONFIG, GUEST_KEY=GUEST) as first, serve(CONFIG, GUEST_KEY=GUEST) as second:
        assert put(first, "deployments/comes", DEPLOYED).status == 201
        eventually(lambda: chat(second, "comes").status == 200, "the other one serves it")
        assert served_version(first) == served_version(second)


def served_version(served: Served) -> int:
    version: int = served.call("GET", "/health/ready").json["snapshot"]["version"]
    return version


def test_the_secrets_key_is_private_and_needed(
    serve: Callable[..., AbstractContextManager[Served]], data_dir: Path
) -> None:
    with serve(CONFIG, GUEST_KEY=GUEST) as served:
        file = data_dir / "secrets-key"
        assert file.stat().st_mode & 0o777 == 0o600
        assert put(served, "keys/team", {}).status == 201
    key = file.read_text()
    file.unlink()
    with pytest.raises(AssertionError, match="sealed with another key"), serve(CONFIG, GUEST_KEY=GUEST):
        pass
    file.write_text(key)
    with serve(CONFIG, GUEST_KEY=GUEST) as served:
        assert served.call("GET", "/admin/v1/keys/team").status == 200


def test_a_change_does_not_read_the_secrets_of_the_file_again(
    serve: Callable[..., AbstractContextManager[Served]], tmp_path: Path
) -> None:
    secret = tmp_path / "guest"
    secret.write_text("key-of-a-guest-78")
    secret.chmod(0o600)
    with serve({**CONFIG, "keys": {"guest": {"key1": f"file:{secret}"}}}) as served:
        secret.unlink()
        assert put(served, "deployments/comes", DEPLOYED).status == 201
        assert chat(served, "comes", "key-of-a-guest-78").status == 200
        served.process.send_signal(signal.SIGHUP)
        eventually(lambda: "cannot read" in served.stderr(), "the file is read again by a signal alone")
        assert chat(served, "comes", "key-of-a-guest-78").status == 200
        assert put(served, "deployments/comes", {**DEPLOYED, "default": False}).status == 200
