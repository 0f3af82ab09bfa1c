"""Keys and tokens of attackers and of broken issuers."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from hypothesis import given, settings
from hypothesis import strategies as st
from oidc_world import START, URL, World, issuer, played, snapshot

from modelport.auth.oidc.key_sets import UNKNOWN_KEY_SECONDS
from modelport.auth.oidc.keys import MOST_BYTES, MOST_KEYS, KeySet, UnusableKeySet
from modelport.core.errors import Unauthenticated, Unavailable
from modelport.core.identity import Credential, Identified, Peer, Shown
from modelport.core.ports.stages import Refusal
from scripted_issuer import AUDIENCE, claims_of, curve_key, jwk, private_key, signed


def test_curves_and_a_set_of_one_key_without_an_id() -> None:
    async def scenario(world: World) -> None:
        members = jwt.algorithms.ECAlgorithm.to_jwk(curve_key("c").public_key(), as_dict=True)
        world.keys = [dict(members)]
        claims = claims_of(URL, iat=START, nbf=START, exp=START + 60)
        token = signed(claims, None, key=curve_key("c"), algorithm="ES256")
        assert await world.reason(token, snapshot(issuer(algorithms=frozenset({"ES256"})))) is None
        assert await world.reason(token, snapshot(issuer(), id="t")) == "algorithm"

    played(scenario, None, issuer(algorithms=frozenset({"ES256"})))


def test_keys_that_cannot_be_a_tokens() -> None:
    async def scenario(world: World) -> None:
        known = snapshot()
        for changed in (
            {"use": "enc"},
            {"alg": "RS512"},
            {"key_ops": ["encrypt"]},
            {"kty": "oct", "k": "AAAA"},
            {"n": "AQAB"},
            {"n": None},
        ):
            world.keys = [{**jwk("one"), **changed}, jwk("two")]
            world.seconds += UNKNOWN_KEY_SECONDS
            await world.refetch()
            assert await world.reason(world.token(), known) in ("unknown_key_id", "signature"), changed

    played(scenario)


def key_set(*keys: Any) -> bytes:
    return json.dumps({"keys": keys}).encode()


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": [1]}',
        b"[" * 100_000,
        key_set(),
        key_set({"kty": "oct", "k": "AAAA"}),
        key_set(*[{"kty": "RSA", "kid": str(n)} for n in range(MOST_KEYS + 1)]),
        key_set({"kty": "RSA", "x": "x" * MOST_BYTES}),
    ],
)
def test_documents_that_are_no_key_set(document: bytes) -> None:
    with pytest.raises(UnusableKeySet):
        KeySet.read(document)


def test_a_large_key_set_is_read_and_found_in() -> None:
    keys: Sequence[dict[str, Any]] = [{**jwk("one"), "kid": f"k{n}", "x5c": ["x" * 500]} for n in range(1000)]
    document = key_set(*keys)
    assert 900_000 < len(document) < MOST_BYTES
    assert len(KeySet.read(document).thumbprints) == 1000


def test_only_the_form_of_a_token_makes_one() -> None:
    async def scenario(world: World) -> None:
        for value, reason in (
            ("eyJ.a", "unknown_key"),
            ("a.b.c", "unknown_key"),
            ("eyJ.a.b.c.d", "unknown_key"),
            ("eyJ..c", "malformed"),
        ):
            assert await world.reason(value, snapshot()) == reason
        exposed = Credential((Shown("authorization", "bearer", world.token()),), peer=Peer("10.0.0.1", True))
        found = world.authentication(exposed, snapshot(), world.now())
        assert isinstance(found, Refusal)
        assert isinstance(found.error, Unauthenticated)
        assert found.error.reason == "token_over_http"

    played(scenario)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        "iss",
        "aud",
        "exp",
        "nbf",
        "oid",
        "sub",
        "tid",
        "appid",
        "azp",
        "idtyp",
        "scp",
        "roles",
        "groups",
        "hasgroups",
        "_claim_names",
    ]
)


@settings(max_examples=150)
@given(st.dictionaries(NAMES, JSON, max_size=5), st.dictionaries(st.sampled_from(["kid", "crit", "typ"]), JSON))
def test_claims_of_any_shape_are_no_fault(changed: dict[str, Any], header: dict[str, Any]) -> None:
    async def scenario(world: World) -> None:
        claims = {**claims_of(URL, iat=START, nbf=START, exp=START + 3600), **changed}
        parts = [{"alg": "RS256", "kid": "one", **header}, claims]
        begin = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
        signature = private_key("one").sign(begin.encode(), padding.PKCS1v15(), hashes.SHA256())
        text = f"{begin}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"
        found = await world.finds(text, snapshot())
        if isinstance(found, Identified):
            assert {"iss", "aud", "exp"}.isdisjoint(changed) or claims["aud"] == AUDIENCE
        else:
            assert isinstance(found, Unauthenticated | Unavailable)

    played(scenario)


@given(
    st.text(max_size=60).map("eyJ{}".format) | st.binary(max_size=60).map(lambda data: f"eyJ{data.hex()}.{data.hex()}.")
)
def test_no_text_is_a_fault(text: str) -> None:
    async def scenario(world: World) -> None:
        assert await world.reason(text, snapshot()) in ("unknown_key", "malformed", "unknown_issuer")

    played(scenario)


def test_a_hundred_thousand_bad_tokens_leave_nothing_behind() -> None:
    async def scenario(world: World) -> None:
        known, good = snapshot(), world.token()
        await world.finds(good, known)
        head, _, rest = world.token().partition(".")
        claims, _, signature = rest.partition(".")
        before, reasons = world.fetches, set()
        for number in range(100_000):
            text = f"{head}.{claims}.{number:06}{signature[6:]}"
            reasons.add(await world.reason(text, known, f"10.{number % 7}.0.1"))
        assert reasons == {"signature", "throttled"}
        assert world.authentication.failures["signature"] == 7 * 300
        assert world.fetches == before
        tokens = world.authentication._tokens
        assert tokens is not None
        assert len(tokens._known) == 1
        assert len(world.authentication.throttle._buckets) == 7
        assert isinstance(world.asks(good, known, "10.1.0.1"), Identified)

    played(scenario, 300)
