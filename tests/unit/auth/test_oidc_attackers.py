"""What attackers write into tokens, and issuers into their documents: each case with what has to become of it."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from oidc_world import START, URL, World, issuer, played, snapshot

from modelport.auth.oidc.key_sets import UNKNOWN_KEY_SECONDS
from modelport.core.errors import Unavailable
from modelport.core.identity import Identified
from scripted_issuer import AUDIENCE, claims_of, jwk, private_key

HEADER = '{"alg":"RS256","kid":"one"}'
Signed = Callable[[bytes], bytes]


def text_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def by_rsa(data: bytes, key: rsa.RSAPrivateKey | None = None) -> bytes:
    return (key or private_key("one")).sign(data, padding.PKCS1v15(), hashes.SHA256())


def claims(**changed: Any) -> dict[str, Any]:
    return claims_of(URL, iat=START, nbf=START, exp=START + 3600, **changed)


def written(header: str = HEADER, body: str | bytes | None = None, sign: Signed = by_rsa) -> str:
    """A token of these very bytes, with a signature that is right."""
    data = json.dumps(claims()) if body is None else body
    begin = f"{text_of(header.encode())}.{text_of(data.encode() if isinstance(data, str) else data)}"
    return f"{begin}.{text_of(sign(begin.encode()))}"


def header(**members: Any) -> str:
    return json.dumps({"alg": "RS256", "kid": "one", **members})


def outcome(text: str) -> str | None:
    """The reason of its refusal; None: it is accepted."""
    found: list[str | None] = []

    async def scenario(world: World) -> None:
        found.append(await world.reason(text, snapshot()))

    played(scenario)
    return found[0]


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c", "x5t", "typ", "cty"])
def test_no_header_but_the_key_id_says_where_a_key_is(name: str) -> None:
    for value in ("https://evil.example/keys", jwk("stranger"), ["x"]):
        assert outcome(written(header(**{name: value}))) is None
        stranger = written(header(**{name: value}), sign=lambda data: by_rsa(data, private_key("stranger")))
        assert outcome(stranger) == "signature"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        *((header(alg=alg), "algorithm") for alg in ("none", "None", "NONE", "", "rs256", "RS256 ", "HS256", "RS384")),
        *((header(alg=alg), "malformed") for alg in (None, 256, ["RS256"], {})),
        ('{"alg":"RS256","alg":"none","kid":"one"}', "algorithm"),
        ('{"kid":"one"}', "malformed"),
        *((header(crit=crit), "malformed") for crit in (["b64"], [], None, "exp")),
        (header(b64=False), "signature"),
        *((header(kid=kid), "malformed") for kid in (1, ["one"], {}, True)),
        *((header(kid=kid), "unknown_key_id") for kid in ("../../one", "ONE", "one ", "one\u0000", "", "x" * 20_000)),
        *((other + HEADER, "unknown_key") for other in ("\ufeff", " ", "[")),  # it does not begin as a token does
        (HEADER + "{}", "malformed"),
    ],
)
def test_headers(given: str, reason: str) -> None:
    assert outcome(written(given)) == reason


def replaced(name: str, value: str) -> str:
    """The claims with this JSON in the place of a claim."""
    return json.dumps({**claims(), name: "@"}).replace('"@"', value)


@pytest.mark.parametrize(
    ("value", "exp", "nbf"),
    [
        (f"{START + 3600}.5", None, "not_yet_valid"),
        (f"{START + 3600}", None, "not_yet_valid"),
        ("-1", "expired", None),
        ("-0.0", "expired", None),
        ("-9e15", "expired", None),
        ("9223372036854775807", None, "not_yet_valid"),
        ("9223372036854775809000", "claims", "claims"),
        ("1e300", "claims", "claims"),
        ("1e999", "malformed", "malformed"),
        ("9" * 310, "claims", "claims"),
        ("-" + "9" * 4000, "claims", "claims"),
        ("NaN", "malformed", "malformed"),
        ("Infinity", "malformed", "malformed"),
        (f'"{START + 3600}"', "claims", "claims"),
        ("true", "claims", "claims"),
        ("[1]", "claims", "claims"),
        ("{}", "claims", "claims"),
        ("null", "claims", None),
    ],
)
def test_moments(value: str, exp: str | None, nbf: str | None) -> None:
    assert outcome(written(body=replaced("exp", value))) == exp
    assert outcome(written(body=replaced("nbf", value))) == nbf
    unsigned = written(body=replaced("exp", value), sign=lambda data: b"x")
    assert outcome(unsigned) == (exp or "signature")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"aud": ["other", AUDIENCE]}, None),
        ({"aud": [AUDIENCE, 1, None, {}]}, None),
        ({"aud": AUDIENCE + "/"}, None),
        ({"aud": AUDIENCE + "//"}, "audience"),
        ({"aud": AUDIENCE.upper()}, "audience"),
        ({"aud": AUDIENCE + " "}, "audience"),
        ({"aud": f"other {AUDIENCE}"}, "audience"),
        ({"aud": [[AUDIENCE]]}, "audience"),
        ({"aud": {AUDIENCE: True}}, "audience"),
        ({"aud": []}, "audience"),
        ({"aud": "*"}, "audience"),
        ({"iss": URL.rstrip("/")}, "unknown_issuer"),
        ({"iss": URL + "/"}, "unknown_issuer"),
        ({"iss": URL.upper()}, "unknown_issuer"),
        ({"iss": [URL]}, "unknown_issuer"),
        ({"iss": URL + "\u0000"}, "unknown_issuer"),
        ({"oid": "", "sub": ""}, "claims"),
        ({"oid": ["a"], "sub": 1}, "claims"),
    ],
)
def test_names(changed: dict[str, Any], reason: str | None) -> None:
    assert outcome(written(body=json.dumps(claims(**changed)))) == reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (json.dumps(claims())[:-1] + ',"exp":1}', "expired"),  # RFC 7519, 4: the last one may win
        (json.dumps(claims())[:-1] + ',"aud":"other"}', "audience"),
        (json.dumps(claims())[:-1] + ',"name":"\\ud800"}', "malformed"),
        (json.dumps(claims())[:-1] + ',"x":' + '{"a":' * 900 + "1" + "}" * 900 + "}", None),
        (json.dumps(claims())[:-1] + ',"x":' + "[" * 5000 + "]" * 5000 + "}", "malformed"),
        (b"\xef\xbb\xbf" + json.dumps(claims()).encode(), "malformed"),
        (json.dumps(claims()).encode("utf-16"), "malformed"),
        (b"\xff\xfe", "malformed"),
        (written(), "malformed"),
        ("", "malformed"),
    ],
)
def test_bodies(body: str | bytes, reason: str | None) -> None:
    assert outcome(written(body=body)) == reason


def test_a_token_has_one_text() -> None:
    good = written()
    head, body, signature = good.split(".")
    assert outcome(good) is None
    for text in (
        *(f"{head}.{body}.{signature}{more}" for more in ("=", "==", "=" * 50, "!", "\n", "\t", "\xe9", "\0", "%3D")),
        *(f"{head}.{body}.{more}{signature}" for more in ("=", " ", "\n", "\0")),
        f"{head}.{body}.{signature[:9]}\n{signature[9:]}",
        f"{head}=.{body}.{signature}",
        f"{head}.{body}==.{signature}",
        f"{head}.{body[:8]} {body[8:]}.{signature}",
        f"{head}\u200b.{body}.{signature}",
    ):
        assert outcome(text) == "malformed"
    assert outcome(f"{head}.{body}.{signature}.") == "unknown_key"  # no form of a token
    assert outcome(f"{good}.iv.tag") == "unknown_key"
    assert outcome(f"{head}.{body}.{signature[:-3]}") == "signature"


# --- what issuers publish ------------------------------------------------------------------------------------------

GOOD = jwk("one")
CURVE, EDWARDS = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
EVERY = issuer(algorithms=frozenset({"RS256", "ES256", "ES384", "ES512", "EdDSA"}))


def reason_with(keys: list[dict[str, Any]], text: str) -> str | None:
    """Why a token is refused where its issuer publishes these keys beside another one."""
    found: list[str | None] = []

    async def scenario(world: World) -> None:
        world.keys = [*keys, jwk("two")]
        found.append(await world.reason(text, snapshot(EVERY)))
        assert await world.reason(world.token("two"), snapshot(EVERY)) is None

    played(scenario, None, EVERY)
    return found[0]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        *(({"key_ops": operations}, None) for operations in (None, ["verify"], ["sign", "verify"])),
        *(
            ({"key_ops": operations}, "unknown_key_id")
            for operations in (["sign"], [], [1], "verify", {"verify": 1}, 5, True, 0, "")
        ),
        *(({"use": use}, "unknown_key_id") for use in ("enc", "SIG", ["sig"], {}, 5, "")),
        *(({"alg": alg}, "unknown_key_id") for alg in ("RS512", "HS256", "rs256", "RSA-OAEP", ["RS256"], 5)),
        *(({"kty": kty}, "unknown_key_id") for kty in ("oct", "EC", "rsa", ["RSA"], {}, 5, None)),
        *(({"kid": kid}, "unknown_key_id") for kid in (5, None, ["one"], {}, "ONE")),
        *(({"n": n}, "signature") for n in ("AQAB", "", "!!!", 5, [], None, "A" * 50_000, "A" * 342)),
        *(({"e": e}, "signature") for e in ("AQ", "Ag", "AA", "", 5, None, "_" * 342)),
        ({"d": "AQAB"}, "unknown_key_id"),
    ],
)
def test_members_of_a_key(changed: dict[str, Any], reason: str | None) -> None:
    assert reason_with([{**GOOD, **changed}], written()) == reason


@pytest.mark.parametrize("bits", [1024, 1536, 2047])
def test_short_keys(bits: int) -> None:
    key = rsa.generate_private_key(65537, bits)
    members = {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "one"}
    assert reason_with([members], written(sign=lambda data: by_rsa(data, key))) == "signature"


def test_private_keys_that_are_published_open_nothing() -> None:
    def token(algorithm: str, sign: Signed) -> str:
        return written(header(alg=algorithm), sign=sign)

    private: dict[str, Any] = dict(OKPAlgorithm.to_jwk(EDWARDS, as_dict=True))
    public = dict(OKPAlgorithm.to_jwk(EDWARDS.public_key(), as_dict=True))
    assert reason_with([{**public, "kid": "one"}], token("EdDSA", EDWARDS.sign)) is None
    assert reason_with([{**private, "kid": "one"}], token("EdDSA", EDWARDS.sign)) == "unknown_key_id"
    members = {**RSAAlgorithm.to_jwk(private_key("one"), as_dict=True), "kid": "one", "key_ops": ["verify"]}
    assert reason_with([members], written()) == "unknown_key_id"


def by_curve(key: ec.EllipticCurvePrivateKey, algorithm: hashes.HashAlgorithm) -> Signed:
    def sign(data: bytes) -> bytes:
        size = (key.curve.key_size + 7) // 8
        return b"".join(n.to_bytes(size, "big") for n in decode_dss_signature(key.sign(data, ec.ECDSA(algorithm))))

    return sign


@pytest.mark.parametrize(
    ("curve", "algorithm", "by", "reason"),
    [
        (ec.SECP256R1(), "ES256", hashes.SHA256(), None),
        (ec.SECP384R1(), "ES384", hashes.SHA384(), None),
        (ec.SECP521R1(), "ES512", hashes.SHA512(), None),
        (ec.SECP384R1(), "ES256", hashes.SHA256(), "signature"),
        (ec.SECP256K1(), "ES256", hashes.SHA256(), "signature"),
        (ec.SECP256R1(), "ES384", hashes.SHA384(), "signature"),
        (ec.SECP256R1(), "ES512", hashes.SHA512(), "signature"),
    ],
)
def test_curves_other_than_the_algorithms(
    curve: ec.EllipticCurve, algorithm: str, by: hashes.HashAlgorithm, reason: str | None
) -> None:
    key = ec.generate_private_key(curve)
    members = {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "one"}
    text = written(header(alg=algorithm), sign=by_curve(key, by))
    assert reason_with([members], text) == reason
    if reason is not None:
        named = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[algorithm]
        assert reason_with([{**members, "crv": named}], text) == reason


@pytest.mark.parametrize(
    "changed", [{"x": "AA"}, {"x": 5}, {"y": None}, {"crv": 5}, {"crv": "P-999"}, {"crv": None}, {"crv": ["P-256"]}]
)
def test_points_on_no_curve(changed: dict[str, Any]) -> None:
    members = {**ECAlgorithm.to_jwk(CURVE.public_key(), as_dict=True), "kid": "one", **changed}
    text = written(header(alg="ES256"), sign=by_curve(CURVE, hashes.SHA256()))
    assert reason_with([members], text) == "signature"


@pytest.mark.parametrize(
    "described",
    [
        {"issuer": []},
        {"issuer": {}},
        {"issuer": None},
        {"issuer": URL.rstrip("/"), "jwks_uri": "https://login.example/keys"},
        *(
            {"issuer": URL, "jwks_uri": address}
            for address in (
                *([], {}, None, 5, "", "/keys", "//login.example/keys", "https:///keys", "https://[::1/keys"),
                *("file:///keys", "ftp://login.example/keys", "data:,/keys", "http://login.example/keys"),
                *("http://127.0.0.1/keys", "http://localhost/keys", "http://[::1]/keys"),  # of another machine
                *("https://user@login.example/keys", "https://:secret@login.example/keys"),
            )
        ),
    ],
)
def test_descriptions(described: dict[str, Any]) -> None:
    async def scenario(world: World) -> None:
        world.described = described
        assert isinstance(await world.finds(world.token(), snapshot()), Unavailable)
        assert world.fetches == 0
        assert [state.state for state in world.authentication.states()] == ["degraded"]
        world.described = {"issuer": URL, "jwks_uri": "https://keys.example/keys"}
        world.seconds += UNKNOWN_KEY_SECONDS
        assert isinstance(await world.finds(world.token(), snapshot()), Identified)

    played(scenario)


def test_whatever_a_fetch_raises_it_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(world: World) -> None:
        async def broken(*_: object) -> bytes:
            raise LookupError("a fault of ours, with details")

        (keys,) = world.authentication._tokens.key_sets.all()  # type: ignore[union-attr]
        keys._fetch = broken
        with caplog.at_level(logging.WARNING):
            assert isinstance(await world.finds(world.token(), snapshot()), Unavailable)
        assert "gives no keys: LookupError" in caplog.text
        keys._fetch = world.fetch
        world.seconds += UNKNOWN_KEY_SECONDS
        assert isinstance(await world.finds(world.token(), snapshot()), Identified)

    played(scenario)
