"""What the development issuer answers, and what it refuses: each shape as Entra has it, each attack without a token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest

from modelport.identity import endpoints
from modelport.identity.endpoints import JWT_BEARER, Reply, Request
from modelport.identity.identities import IdentityFault, open_directory, read_identities
from modelport.identity.issuing import ASSERTION_AUDIENCE, Issuer
from modelport.identity.signing import SigningKeys

RESOURCE = "https://cognitiveservices.azure.com"
AUTHORITY = "https://127.0.0.1:8443"
IMDS = "/metadata/identity/oauth2/token"


class World:
    """An issuer with two identities, and a clock."""

    def __init__(self, folder: Path, version: Any = "1.0") -> None:
        self.seconds = 1_800_000_000.0
        wanted = [
            {"name": "first", "roles": ["Inference User"], "groups": ["g1"]},
            {"name": "second", "client_id": "11111111-2222-3333-4444-555555555555"},
        ]
        self.directory = open_directory(folder, wanted, {})
        keys = SigningKeys(self.directory.folder / "keys.json", self.now, token_seconds=600)
        self.issuer = Issuer(self.directory, keys, self.now, authority=AUTHORITY, token_seconds=600, version=version)
        self.first, self.second = self.directory.identities

    def now(self) -> float:
        return self.seconds

    def token(self, tenant: str | None = None, path: str = "oauth2/v2.0/token", **form: str) -> Reply:
        base = {"grant_type": "client_credentials", "scope": f"{RESOURCE}/.default", "client_id": self.first.client_id}
        request = Request("POST", f"/{tenant or self.directory.tenant_id}/{path}", form={**base, **form})
        return endpoints.authority(self.issuer, request)

    def exchanged(self, assertion: str, **form: str) -> Reply:
        return self.token(client_assertion_type=JWT_BEARER, client_assertion=assertion, **form)

    def managed(self, path: str, headers: dict[str, str], imds: bool = True, **query: str) -> Reply:
        request = Request("GET", path, {"api-version": "x", "resource": RESOURCE, **query}, headers)
        return endpoints.managed_identity(self.issuer, request, imds=imds)

    def verified(self, token: str, audience: str = RESOURCE) -> dict[str, Any]:
        """The claims, if a verifier that knows the key set accepts the token."""
        key_set = jwt.PyJWKSet.from_dict(self.issuer.keys.key_set())
        key = key_set[jwt.get_unverified_header(token)["kid"]]
        options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
        return jwt.decode(
            token, key, algorithms=["RS256"], audience=audience, issuer=self.issuer.issuer, options=options
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_secret_gets_a_token_of_version_1(world: World) -> None:
    reply = world.token(client_secret=world.first.secret.reveal())
    assert (reply.status, reply.document["token_type"], reply.document["expires_in"]) == (200, "Bearer", 600)
    claims = world.verified(reply.document["access_token"])
    assert {name: claims[name] for name in ("ver", "appid", "appidacr", "idtyp", "oid", "tid", "roles", "groups")} == {
        "ver": "1.0",
        "appid": world.first.client_id,
        "appidacr": "1",
        "idtyp": "app",
        "oid": world.first.object_id,
        "tid": world.directory.tenant_id,
        "roles": ["Inference User"],
        "groups": ["g1"],
    }
    assert claims["exp"] - claims["iat"] == 600
    assert "azp" not in claims


def test_a_token_of_version_2(tmp_path: Path) -> None:
    world = World(tmp_path, "2.0")
    claims = world.verified(world.token(client_secret=world.first.secret.reveal()).document["access_token"])
    assert (claims["ver"], claims["azp"], claims["azpacr"]) == ("2.0", world.first.client_id, "1")
    assert claims["iss"] == f"{AUTHORITY}/{world.directory.tenant_id}/v2.0"
    assert "appid" not in claims


def test_the_older_endpoint_takes_a_resource(world: World) -> None:
    reply = world.token(path="oauth2/token", client_secret=world.first.secret.reveal(), resource="https://ml.azure.com")
    assert reply.status == 200  # a scope wins where both are sent
    request = Request(
        "POST",
        f"/{world.directory.tenant_id}/oauth2/token",
        form={
            "grant_type": "client_credentials",
            "resource": "https://ml.azure.com",
            "client_id": world.first.client_id,
            "client_secret": world.first.secret.reveal(),
        },
    )
    token = endpoints.authority(world.issuer, request).document["access_token"]
    assert world.verified(token, "https://ml.azure.com")["aud"] == "https://ml.azure.com"


def test_a_scope_keeps_the_slash_of_its_resource(world: World) -> None:
    scope = "https://management.azure.com//.default openid profile"
    token = world.token(client_secret=world.first.secret.reveal(), scope=scope).document["access_token"]
    assert world.verified(token, "https://management.azure.com/")["oid"] == world.first.object_id


def test_discovery_leads_to_keys_and_tokens(world: World) -> None:
    for middle, version in (("", "1.0"), ("v2.0/", "2.0")):
        path = f"/{world.directory.tenant_id}/{middle}.well-known/openid-configuration"
        document = endpoints.authority(world.issuer, Request("GET", path)).document
        assert document["issuer"] == world.issuer.issuer_of(version)
        keys = endpoints.authority(world.issuer, Request("GET", document["jwks_uri"].removeprefix(AUTHORITY)))
        assert keys.document == world.issuer.keys.key_set()
        found = Request("POST", document["token_endpoint"].removeprefix(AUTHORITY), form={})
        assert endpoints.authority(world.issuer, found).document["error"] == "unsupported_grant_type"


def test_an_assertion_counts_until_it_expires(world: World) -> None:
    assertion = world.issuer.assertion(world.first)
    for _ in range(2):  # a file is read again and again, as in Kubernetes
        assert world.exchanged(assertion).status == 200
    world.seconds += 3599
    assert world.exchanged(assertion).status == 200
    world.seconds += 1
    assert world.exchanged(assertion).document["error_codes"] == [700024]


def test_assertions_of_others_are_refused(world: World, tmp_path: Path) -> None:
    other = World(tmp_path / "other")
    claims = {
        "iss": f"{AUTHORITY}/{world.directory.tenant_id}/federation",
        "sub": world.first.object_id,
        "aud": ASSERTION_AUDIENCE,
        "nbf": int(world.seconds),
        "exp": int(world.seconds) + 600,
    }
    access = world.token(client_secret=world.first.secret.reveal()).document["access_token"]
    public = world.issuer.keys.key_set()["keys"][0]["n"]
    foreign = {
        "of another issuer": other.issuer.assertion(other.first),
        "with another key": jwt.encode(claims, "x" * 43, algorithm="HS256"),
        "with the public key as the secret": jwt.encode(claims, public, algorithm="HS256"),
        "without a signature": jwt.encode(claims, None, algorithm="none"),
        "signed as tokens are": world.issuer.keys.sign(claims),
        "an access token": access,
        "nothing": "",
        "no token": "a.b.c",
    }
    for what, assertion in foreign.items():
        reply = world.exchanged(assertion)
        assert (reply.status, reply.document["error_codes"]) == (401, [700027]), what
        assert "access_token" not in reply.document
    # One that was really written here, for somebody else.
    reply = world.exchanged(world.issuer.assertion(world.second))
    assert (reply.status, reply.document["error_codes"]) == (401, [700213])


def test_no_token_passes_for_an_assertion(world: World) -> None:
    for scope in (f"{ASSERTION_AUDIENCE}/.default", f"{ASSERTION_AUDIENCE.upper()}//.default"):
        reply = world.token(client_secret=world.first.secret.reveal(), scope=scope)
        assert (reply.status, reply.document["error"]) == (400, "invalid_scope")


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({}, 401, "invalid_client"),
        ({"client_secret": "x", "client_id": "nobody"}, 400, "unauthorized_client"),
        ({"client_secret": "x", "client_id": "11111111-2222-3333-4444-555555555555"}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"scope": "https://x/.default https://y/.default"}, 400, "invalid_scope"),
        ({"scope": ""}, 400, "invalid_scope"),
        ({"scope": "/.default"}, 400, "invalid_resource"),
        ({"client_assertion": "x"}, 400, "invalid_request"),
        ({"tenant": "00000000-0000-0000-0000-000000000000"}, 400, "invalid_request"),
    ],
)
def test_requests_that_get_no_token(world: World, form: dict[str, str], status: int, error: str) -> None:
    reply = world.token(**form)
    assert (reply.status, reply.document["error"]) == (status, error)
    assert reply.document["error_description"].startswith(f"AADSTS{reply.document['error_codes'][0]}: ")


def test_app_service_wants_its_header(world: World) -> None:
    header = world.directory.identity_header.reveal()
    for wrong in ({}, {"x-identity-header": ""}, {"x-identity-header": header[:-1]}, {"metadata": "true"}):
        assert world.managed("/msi/token", wrong).status == 401
    document = world.managed("/msi/token", {"x-identity-header": header}).document
    assert world.verified(document["access_token"])["appidacr"] == "2"
    assert document["expires_on"] == str(int(world.seconds) + 600)
    assert (document["client_id"], document["resource"]) == (world.first.client_id, RESOURCE)


@pytest.mark.parametrize("name", ["client_id", "object_id", "principal_id"])
def test_a_managed_identity_can_be_named(world: World, name: str) -> None:
    shown = {"x-identity-header": world.directory.identity_header.reveal()}
    value = world.second.client_id if name == "client_id" else world.second.object_id
    document = world.managed("/msi/token", shown, **{name: value.upper()}).document
    assert world.verified(document["access_token"])["oid"] == world.second.object_id
    assert world.managed("/msi/token", shown, **{name: "unknown"}).status == 400


def test_imds_is_there_only_where_it_was_asked_for_and_wants_its_header(world: World) -> None:
    assert world.managed(IMDS, {"metadata": "true"}, imds=False).status == 404
    assert world.managed(IMDS, {}).status == 400
    assert world.managed(IMDS, {"metadata": "true", "x-forwarded-for": "10.0.0.1"}).status == 400
    document = world.managed(IMDS, {"metadata": "true"}).document
    assert world.verified(document["access_token"])["oid"] == world.first.object_id
    assert document["expires_in"] == "600"


def test_what_is_logged_holds_no_secret_and_no_token(world: World) -> None:
    secret = world.first.secret.reveal()
    reply = world.token(client_secret=secret)
    assert reply.about == f"first by secret for {RESOURCE}"
    refused = world.token(client_secret="a-wrong-secret", client_id=world.second.client_id)
    assert "a-wrong-secret" not in f"{refused.about}{refused.document}"
    assert secret not in repr(world.directory)


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ([{}], "name"),
        ([{"name": "../up"}], "name"),
        ([{"name": "a", "colour": 1}], "'colour' is not known"),
        ([{"name": "a", "client_id": "x"}], "client_id is no GUID"),
        ([{"name": "a", "secret": "in clear"}], "env:NAME or file:PATH"),
        ([{"name": "a", "secret": "env:ABSENT"}], "ABSENT is not set"),
        ([{"name": "a", "roles": "one"}], "roles is a list"),
        ([{"name": "a"}, {"name": "a"}], "two identities have the name a"),
        ([], "no identity"),
    ],
)
def test_faults_of_identities_are_named(tmp_path: Path, entries: list[dict[str, Any]], what: str) -> None:
    with pytest.raises(IdentityFault, match=what) as fault:
        open_directory(tmp_path, entries, {})
    assert "in clear" not in str(fault.value)


def test_a_file_of_identities(tmp_path: Path) -> None:
    file = tmp_path / "identities.yaml"
    file.write_text("- {name: a, secret: 'env:A', roles: [Administrator]}\n- {name: b}\n")
    directory = open_directory(tmp_path, read_identities(file), {"A": "the-secret-of-a"})
    assert [found.name for found in directory.identities] == ["a", "b"]
    assert directory.identities[0].secret.reveal() == "the-secret-of-a"
    again = open_directory(tmp_path, read_identities(file), {"A": "the-secret-of-a"})
    assert replace(again, assertion_key=directory.assertion_key) == directory, "a restart changes nobody"
    for text in ("a: b", "[1]", "- [", "\x00"):
        file.write_text(text)
        with pytest.raises(IdentityFault):
            read_identities(file)
