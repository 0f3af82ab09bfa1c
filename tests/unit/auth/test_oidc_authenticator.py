"""Tokens that are verified, remembered and forgotten, and the key sets of their issuers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from oidc_world import RULE, START, URL, World, issuer, played, snapshot

from modelport.auth.oidc.key_sets import REFRESH_SECONDS, STALE_SECONDS, UNKNOWN_KEY_SECONDS
from modelport.core.catalog import Snapshot
from modelport.core.errors import TooManyFailures, Unavailable
from modelport.core.identity import Credential, Identified, Peer, Shown
from modelport.core.ports.stages import NeedsWaiting, Refusal
from scripted_issuer import jwk


def test_a_token_is_verified_once_and_counts_until_it_expires() -> None:
    async def scenario(world: World) -> None:
        known, token = snapshot(), world.token()
        assert isinstance(world.asks(token, known), NeedsWaiting)
        found = await world.finds(token, known)
        assert isinstance(found, Identified)
        assert found.expires_at == START + 3600 + 60
        assert found.principal.grants == (RULE.grant,)
        assert found.principal.is_by_token
        world.keys = []
        again = world.asks(token, known)
        assert isinstance(again, Identified)
        world.seconds = 3600 + 59
        assert isinstance(world.asks(token, known), Identified)
        world.seconds = 3600 + 60
        assert await world.reason(token, known) == "expired"
        assert world.fetches == 1

    played(scenario)


def test_a_snapshot_gives_a_known_token_other_roles() -> None:
    async def scenario(world: World) -> None:
        token = world.token()
        await world.finds(token, snapshot())
        found = world.asks(token, snapshot(issuer(rules=()), id="t"))
        assert isinstance(found, Identified)
        assert found.principal.grants == ()
        assert await world.reason(token, snapshot(issuer(audiences=frozenset({"other"})), id="u")) == "audience"
        assert await world.reason(token, snapshot(issuer("https://other.example/"), id="v")) == "unknown_issuer"
        assert isinstance(world.asks(token, snapshot(id="w")), Identified)

    played(scenario)


def test_a_rotation_is_followed_and_a_withdrawn_key_counts_no_longer() -> None:
    async def scenario(world: World) -> None:
        known, old = snapshot(), world.token("one")
        await world.finds(old, known)
        world.seconds = 100
        world.keys = [jwk("one"), jwk("two")]
        assert await world.reason(world.token("two"), known) is None
        assert world.withdrawals == 0
        world.keys = [jwk("two")]
        await world.refetch()
        assert world.withdrawals == 1
        assert await world.reason(old, known) == "unknown_key_id"
        # The same id, and another key behind it.
        world.seconds = 200
        before = world.token("two")
        assert await world.reason(before, known) is None
        world.keys = [{**jwk("three"), "kid": "two"}]
        await world.refetch()
        assert await world.reason(before, known) == "signature"

    played(scenario)


def test_unknown_key_ids_fetch_seldom_and_together() -> None:
    async def scenario(world: World) -> None:
        known = snapshot()
        await world.finds(world.token(), known)
        before, world.seconds = world.fetches, 60
        world.gate = asyncio.Event()
        waits = [asyncio.create_task(world.reason(world.token(f"kid-{n % 3}"), known)) for n in range(50)]
        await asyncio.sleep(0)
        world.gate.set()
        assert await asyncio.gather(*waits) == ["unknown_key_id"] * 50
        assert world.fetches == before + 1
        for n in range(200):
            assert await world.reason(world.token(f"kid-{n % 3}"), known) == "unknown_key_id"
        assert world.fetches == before + 1
        world.seconds += UNKNOWN_KEY_SECONDS
        await world.reason(world.token("kid-1"), known)
        assert world.fetches == before + 2

    played(scenario)


def test_a_caller_that_leaves_does_not_end_a_fetch_that_others_wait_for() -> None:
    async def scenario(world: World) -> None:
        world.gate = asyncio.Event()
        token, known = world.token(), snapshot()
        leaves, stays = (asyncio.create_task(world.reason(token, known)) for _ in range(2))
        await asyncio.sleep(0)
        leaves.cancel()
        await asyncio.sleep(0)
        world.gate.set()
        assert await stays is None
        assert world.fetches == 1

    played(scenario)


def test_the_old_keys_serve_while_the_issuer_is_down() -> None:
    async def scenario(world: World) -> None:
        known = snapshot()
        await world.finds(world.token(), known)
        world.is_down = True
        world.seconds = 3600
        await world.refetch()
        assert await world.reason(world.token(), known) is None
        assert [state.state for state in world.authentication.states()] == ["degraded"]
        assert await world.reason(world.token("two"), known) == "unknown_key_id"
        world.seconds = STALE_SECONDS + 1
        found = await world.finds(world.token(), known)
        assert isinstance(found, Unavailable)
        assert found.reason == "issuer_unreachable"
        world.is_down = False
        world.seconds += UNKNOWN_KEY_SECONDS
        assert await world.reason(world.token(), known) is None
        assert [state.state for state in world.authentication.states()] == ["ready"]

    played(scenario)


def test_without_keys_a_token_is_answered_503_and_another_issuers_401() -> None:
    async def scenario(world: World) -> None:
        world.is_down = True
        found = await world.finds(world.token(), snapshot())
        assert isinstance(found, Unavailable)
        assert found.retry_after
        assert await world.reason(world.token(iss="https://evil.example/"), snapshot()) == "unknown_issuer"

    played(scenario)


@pytest.mark.parametrize(
    ("described", "said"),
    [
        ({"issuer": "https://login.example", "jwks_uri": "https://login.example/keys"}, "exactly so"),
        ({"issuer": URL, "jwks_uri": "http://login.example/keys"}, "https"),
        ({"issuer": URL, "jwks_uri": "file:///etc/passwd"}, "https"),
        ({"issuer": URL}, "https"),
    ],
)
def test_a_description_that_is_another_issuers_or_unsafe(described: dict[str, Any], said: str) -> None:
    async def scenario(world: World) -> None:
        world.described = described
        assert isinstance(await world.finds(world.token(), snapshot()), Unavailable)
        (state,) = world.authentication.states()
        assert state.state == "degraded"
        assert said in str(state.reason)

    played(scenario)


def test_an_address_that_fails_too_often_is_throttled_and_known_tokens_are_not() -> None:
    async def scenario(world: World) -> None:
        known, good = snapshot(), world.token()
        await world.finds(good, known)
        for _ in range(10):
            assert await world.reason(world.token(aud="x"), known) == "audience"
        found = await world.finds(world.token(), known)
        assert isinstance(found, TooManyFailures)
        assert found.retry_after == 6
        assert isinstance(world.asks(good, known), Identified)
        assert await world.reason(world.token(), known, "10.0.0.2") is None
        unknown = world.authentication(Credential((Shown("api-key", "", "wrong"),), peer=Peer("10.0.0.1")), known, 0.0)
        assert isinstance(unknown, Refusal)
        assert unknown.error.reason == "throttled"
        world.seconds = 6
        assert await world.reason(world.token(), known) is None
        assert world.authentication.failures == {"audience": 10, "throttled": 2}

    played(scenario, 10)


def test_what_a_throttled_address_shows_fetches_no_keys() -> None:
    async def scenario(world: World) -> None:
        known = snapshot()
        await world.finds(world.token(), known)
        for _ in range(3):
            await world.reason("eyJ.a.b", known)
        before = world.fetches
        assert await world.reason(world.token("another"), known) == "throttled"
        assert world.fetches == before

    played(scenario, 3)


def test_known_tokens_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelport.auth.oidc.authenticator.KNOWN_TOKENS", 3)

    async def scenario(world: World) -> None:
        known = snapshot()
        texts = [world.token() for n in range(6)]
        for text in texts:
            assert await world.reason(text, known) is None
        tokens = world.authentication._tokens
        assert tokens is not None
        assert len(tokens._known) == 3
        assert tokens._bytes == sum(len(text) for text in texts[3:])
        monkeypatch.setattr("modelport.auth.oidc.authenticator.KNOWN_BYTES", len(texts[0]) + 10)
        await world.finds(world.token(), known)
        assert len(tokens._known) == 1

    played(scenario)


def test_a_refused_token_is_not_remembered() -> None:
    async def scenario(world: World) -> None:
        for n in range(50):
            await world.reason(world.token(aud=f"x{n}"), snapshot())
        tokens = world.authentication._tokens
        assert tokens is not None
        assert tokens._known == {}

    played(scenario)


def test_an_issuer_that_is_removed_counts_no_longer() -> None:
    async def scenario(world: World) -> None:
        token = world.token()
        await world.finds(token, snapshot())
        world.authentication.follow((), None)
        empty = Snapshot(id="none", deployments={}, key_salt=b"salt")
        assert await world.reason(token, empty) == "tokens_not_accepted"

    played(scenario)


def test_an_issuer_that_comes_back_without_a_key_does_not_bring_its_tokens_back() -> None:
    async def scenario(world: World) -> None:
        known, token = snapshot(), world.token()
        assert await world.reason(token, known) is None
        world.authentication.follow((), None)
        world.keys = [jwk("two")]
        world.authentication.follow((issuer(),), None)
        assert await world.reason(token, snapshot(id="again")) == "unknown_key_id"
        assert await world.reason(world.token("two"), snapshot(id="again")) is None

    played(scenario)


def test_a_known_token_counts_no_longer_than_the_keys_of_an_issuer_that_is_away() -> None:
    async def scenario(world: World) -> None:
        known, token = snapshot(), world.token(exp=START + 10 * int(STALE_SECONDS))
        assert await world.reason(token, known) is None
        world.is_down = True
        world.seconds = STALE_SECONDS - 1
        await world.refetch()
        assert isinstance(world.asks(token, known), Identified)
        world.seconds = STALE_SECONDS
        await world.refetch()
        assert world.withdrawals == 1
        assert isinstance(await world.finds(token, known), Unavailable)

    played(scenario)


def test_the_set_is_fetched_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sleeps: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        await real(0 if len(sleeps) < 6 else 3600)

    async def scenario(world: World) -> None:
        world.is_down = True
        monkeypatch.setattr("modelport.auth.oidc.key_sets.asyncio.sleep", sleep)
        for _ in range(200):
            await real(0)
            world.is_down = len(sleeps) < 3

    played(scenario)
    assert sleeps == [1.0, 2.0, 5.0, REFRESH_SECONDS, REFRESH_SECONDS, REFRESH_SECONDS]
