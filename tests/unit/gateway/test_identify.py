"""Who asks: the first authenticator that knows a credential decides."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import assume, given
from hypothesis import strategies as st

from modelport.auth import anonymous, api_key
from modelport.core.catalog import Snapshot
from modelport.core.errors import Unauthenticated
from modelport.core.identity import ANONYMOUS, Credential, Identified, KeyEntry, Principal, Shown
from modelport.core.ports.stages import Authenticator, NeedsWaiting, Refusal
from modelport.core.roles import Grant, Role
from modelport.gateway.identify import identify

SALT = api_key.fresh_salt()
AUTHENTICATORS = (api_key.authenticate, anonymous.authenticate)
KEYS = st.text(min_size=1, max_size=80)


def principal(name: str) -> Principal:
    return Principal(name=name, key_id=f"{name}/1", grants=(Grant(Role.INFERENCE_USER),))


class At:
    """core.clock.Clock"""

    def __init__(self, now: float) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return 0.0


def shown(**keys: str) -> Credential:
    """`api_key`, `bearer`, `subscription_key`: what stands in that header."""
    headers = {"api_key": "api-key", "bearer": "authorization", "subscription_key": "ocp-apim-subscription-key"}
    return Credential(
        tuple(Shown(headers[name], "bearer" if name == "bearer" else "", key) for name, key in keys.items())
    )


def snapshot(keys: dict[str, str], *, is_anonymous: bool = False, expires_at: float | None = None) -> Snapshot:
    """`keys`: the key, and whose it is."""
    entries = {}
    for key, name in keys.items():
        hashed = api_key.digest(SALT, key)
        entries[hashed] = KeyEntry(hashed, principal(name), expires_at)
    return Snapshot(id="s", deployments={}, keys=entries, key_salt=SALT, anonymous=is_anonymous)


def who(credential: Credential, known: Snapshot, now: float = 0.0) -> str | None:
    found = identify(credential, known, AUTHENTICATORS, At(now))
    assert not isinstance(found, NeedsWaiting)
    if isinstance(found, Refusal):
        assert isinstance(found.error, Unauthenticated)
        return None
    return found.principal.name


@given(KEYS, KEYS)
def test_distinct_keys_are_never_one_caller(one: str, other: str) -> None:
    assume(one != other)
    known = snapshot({one: "one", other: "other"})
    assert who(shown(api_key=one), known) == who(shown(bearer=one), known) == "one"
    assert who(shown(api_key=other), known) == who(shown(subscription_key=other), known) == "other"


@given(KEYS, KEYS)
def test_a_key_that_is_not_stored_is_nobody(stored: str, other: str) -> None:
    assume(stored not in (other, other + "x"))
    assert who(shown(api_key=other, bearer=other + "x"), snapshot({stored: "one"})) is None


@given(st.text(alphabet="ab", max_size=8), st.text(alphabet="ab", min_size=1, max_size=8))
def test_a_common_beginning_is_no_identity(start: str, rest: str) -> None:
    long = "A" * 64 + start
    known = snapshot({long: "one"})
    assert who(shown(bearer=long + rest), known) is None
    assert who(shown(bearer=long[: -len(rest)]), known) is None


@given(st.text(min_size=8, max_size=80).filter(lambda key: key not in repr(shown(api_key="", bearer=""))))
def test_neither_snapshot_nor_credential_shows_a_key(key: str) -> None:
    known = snapshot({key: "one"})
    assert key not in repr(known.keys)
    assert key not in repr(shown(api_key=key, bearer=key))
    assert key.encode("utf-8", "surrogateescape") not in b"".join(known.keys)


def test_a_digest_is_worthless_as_a_key_and_in_another_process() -> None:
    digest = api_key.digest(SALT, "the-key")
    known = snapshot({"the-key": "one"})
    for value in (digest.hex(), digest.decode("latin-1")):
        assert who(shown(api_key=value), known) is None
    assert api_key.digest(api_key.fresh_salt(), "the-key") != digest


def test_any_valid_credential_is_enough_and_the_first_one_decides() -> None:
    known = snapshot({"key-1": "one", "key-2": "two"})
    assert who(shown(api_key="wrong", bearer="key-1"), known) == "one"
    assert who(shown(api_key="key-2", bearer="wrong"), known) == "two"
    assert who(shown(api_key="key-2", bearer="key-1"), known) == "two"


def test_a_key_counts_until_it_expires() -> None:
    known = snapshot({"key-1": "one"}, expires_at=100.0)
    assert who(shown(api_key="key-1"), known, now=99.9) == "one"
    assert who(shown(api_key="key-1"), known, now=100.0) is None


def test_nothing_shown_is_nobody_unless_the_operator_said_so() -> None:
    assert who(shown(), snapshot({"key-1": "one"})) is None
    welcome = snapshot({"key-1": "one"}, is_anonymous=True)
    assert who(shown(), welcome) == ANONYMOUS.name
    assert who(shown(api_key="wrong"), welcome) is None
    assert who(shown(api_key="key-1"), welcome) == "one"


def test_the_moment_of_expiry_is_passed_on() -> None:
    found = identify(shown(api_key="key-1"), snapshot({"key-1": "one"}, expires_at=100.0), AUTHENTICATORS, At(1.0))
    assert isinstance(found, Identified)
    assert found.expires_at == 100.0


class Fetching:
    """core.ports.stages.Authenticator: knows, after having fetched something, who shows this bearer token."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.fetched = 0

    def __call__(self, credential: Credential, known: Snapshot, now: float) -> Refusal | NeedsWaiting[Identified]:
        if not any(one.scheme == "bearer" for one in credential.shown):
            return Refusal(Unauthenticated(reason="no token"))

        async def resume() -> Identified | Refusal:
            self.fetched += 1
            if any((one.scheme, one.value) == ("bearer", self.token) for one in credential.shown):
                return Identified(principal(self.token), now + 60)
            return Refusal(Unauthenticated(reason="unknown token"))

        return NeedsWaiting(resume)


async def decided(credential: Credential, authenticators: Sequence[Authenticator]) -> Identified | Refusal:
    found = identify(credential, snapshot({"key-1": "one"}), authenticators, At(5.0))
    return await found.resume() if isinstance(found, NeedsWaiting) else found


async def test_one_that_has_to_wait_is_waited_for_and_then_the_next_is_asked() -> None:
    first, second = Fetching("token-1"), Fetching("token-2")
    authenticators = (first, second, *AUTHENTICATORS)
    assert await decided(shown(bearer="token-1"), authenticators) == Identified(principal("token-1"), 65.0)
    assert (first.fetched, second.fetched) == (1, 0)
    assert await decided(shown(bearer="token-2"), authenticators) == Identified(principal("token-2"), 65.0)
    assert (first.fetched, second.fetched) == (2, 1)
    assert await decided(shown(bearer="key-1"), authenticators) == Identified(principal("one"))
    assert (first.fetched, second.fetched) == (3, 2)


async def test_one_that_does_not_know_the_credential_is_passed_over() -> None:
    fetching = Fetching("token-1")
    assert await decided(shown(api_key="key-1"), (fetching, *AUTHENTICATORS)) == Identified(principal("one"))
    assert fetching.fetched == 0


async def test_the_first_that_has_refused_says_why() -> None:
    for authenticators, reason in (
        ((Fetching("token-1"), *AUTHENTICATORS), "unknown token"),
        ((*AUTHENTICATORS, Fetching("token-1")), "unknown_key"),
    ):
        found = await decided(shown(bearer="wrong"), authenticators)
        assert isinstance(found, Refusal)
        assert isinstance(found.error, Unauthenticated)
        assert found.error.reason == reason
