"""Keys as keyed hashes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.auth import anonymous, api_key
from modelport.core.catalog import Snapshot
from modelport.core.identity import Credential, Identified, KeyEntry, Principal, Shown
from modelport.core.ports.stages import Refusal
from modelport.core.roles import Grant, Role

ANY = st.text(alphabet=st.characters(max_codepoint=255), max_size=50)
"""A header's bytes, as the server reads them."""
OWNER = Principal(name="owner", key_id="owner/1", grants=(Grant(Role.ADMINISTRATOR),))


def showing(*keys: str) -> Credential:
    return Credential(tuple(Shown("api-key", "", key) for key in keys))


@given(ANY, ANY)
def test_only_the_same_key_has_the_same_digest(one: str, other: str) -> None:
    salt = b"s" * 32
    assert (api_key.digest(salt, one) == api_key.digest(salt, other)) is (one == other)


@given(ANY)
def test_anything_shown_is_judged(shown: str) -> None:
    salt = api_key.fresh_salt()
    hashed = api_key.digest(salt, "the-key")
    known = Snapshot(id="s", deployments={}, keys={hashed: KeyEntry(hashed, OWNER)}, key_salt=salt)
    found = api_key.authenticate(showing(shown, shown + "x"), known, 0.0)
    assert isinstance(found, Refusal) is ("the-key" not in (shown, shown + "x"))


def test_a_salt_is_new_each_time_and_long() -> None:
    salts = {api_key.fresh_salt() for _ in range(50)}
    assert len(salts) == 50
    assert {len(salt) for salt in salts} == {32}


def test_everybody_is_anonymous_only_where_the_operator_said_so() -> None:
    assert isinstance(anonymous.authenticate(Credential(), Snapshot(id="s", deployments={}), 0.0), Refusal)
    allowed = anonymous.authenticate(Credential(), Snapshot(id="s", deployments={}, anonymous=True), 0.0)
    assert isinstance(allowed, Identified)
    assert [grant.role for grant in allowed.principal.grants] == [Role.INFERENCE_USER]
    assert allowed.expires_at is None


@pytest.mark.parametrize("credential", [showing("anything"), Credential(is_malformed=True)], ids=["wrong", "malformed"])
def test_a_wrong_key_is_not_taken_for_none(credential: Credential) -> None:
    known = Snapshot(id="s", deployments={}, anonymous=True)
    assert isinstance(anonymous.authenticate(credential, known, 0.0), Refusal)
