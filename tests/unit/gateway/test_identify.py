"""Who asks: the first authenticator that knows a credential decides."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from modelport.auth import anonymous, api_key
from modelport.core.catalog import Snapshot
from modelport.core.errors import Unauthenticated
from modelport.core.identity import ANONYMOUS, Credential, KeyEntry, Principal, Role
from modelport.core.ports.stages import Refusal
from modelport.gateway.identify import identify

SALT = api_key.fresh_salt()
AUTHENTICATORS = (api_key.authenticate, anonymous.authenticate)
KEYS = st.text(min_size=1, max_size=80)


def principal(name: str) -> Principal:
    return Principal(name=name, key_id=f"{name}/1", role=Role.INFERENCE_USER)


def snapshot(keys: dict[str, str], *, is_anonymous: bool = False, expires_at: float | None = None) -> Snapshot:
    """`keys`: the key, and whose it is."""
    entries = {}
    for key, name in keys.items():
        hashed = api_key.digest(SALT, key)
        entries[hashed] = KeyEntry(hashed, principal(name), expires_at)
    return Snapshot(id="s", deployments={}, keys=entries, key_salt=SALT, anonymous=is_anonymous)


def who(credential: Credential, known: Snapshot, now: float = 0.0) -> str | None:
    found = identify(credential, known, AUTHENTICATORS, now)
    if isinstance(found, Refusal):
        assert isinstance(found.error, Unauthenticated)
        return None
    return found.name


@given(KEYS, KEYS)
def test_distinct_keys_are_never_one_caller(one: str, other: str) -> None:
    assume(one != other)
    known = snapshot({one: "one", other: "other"})
    assert who(Credential(api_key=one), known) == who(Credential(bearer=one), known) == "one"
    assert who(Credential(api_key=other), known) == who(Credential(subscription_key=other), known) == "other"


@given(KEYS, KEYS)
def test_a_key_that_is_not_stored_is_nobody(stored: str, shown: str) -> None:
    assume(stored not in (shown, shown + "x"))
    assert who(Credential(api_key=shown, bearer=shown + "x"), snapshot({stored: "one"})) is None


@given(st.text(alphabet="ab", max_size=8), st.text(alphabet="ab", min_size=1, max_size=8))
def test_a_common_beginning_is_no_identity(start: str, rest: str) -> None:
    long = "A" * 64 + start
    known = snapshot({long: "one"})
    assert who(Credential(bearer=long + rest), known) is None
    assert who(Credential(bearer=long[: -len(rest)]), known) is None


@given(KEYS)
def test_neither_snapshot_nor_credential_shows_a_key(key: str) -> None:
    assume(len(key) >= 8)
    known = snapshot({key: "one"})
    assert key not in repr(known.keys)
    assert key not in repr(Credential(api_key=key, bearer=key))
    assert key.encode("utf-8", "surrogateescape") not in b"".join(known.keys)


def test_a_digest_is_worthless_as_a_key_and_in_another_process() -> None:
    digest = api_key.digest(SALT, "the-key")
    known = snapshot({"the-key": "one"})
    for shown in (digest.hex(), digest.decode("latin-1")):
        assert who(Credential(api_key=shown), known) is None
    assert api_key.digest(api_key.fresh_salt(), "the-key") != digest


def test_any_valid_credential_is_enough_and_the_first_one_decides() -> None:
    known = snapshot({"key-1": "one", "key-2": "two"})
    assert who(Credential(api_key="wrong", bearer="key-1"), known) == "one"
    assert who(Credential(api_key="key-2", bearer="wrong"), known) == "two"
    assert who(Credential(api_key="key-2", bearer="key-1"), known) == "two"


def test_a_key_counts_until_it_expires() -> None:
    known = snapshot({"key-1": "one"}, expires_at=100.0)
    assert who(Credential(api_key="key-1"), known, now=99.9) == "one"
    assert who(Credential(api_key="key-1"), known, now=100.0) is None


def test_nothing_shown_is_nobody_unless_the_operator_said_so() -> None:
    assert who(Credential(), snapshot({"key-1": "one"})) is None
    welcome = snapshot({"key-1": "one"}, is_anonymous=True)
    assert who(Credential(), welcome) == who(Credential(api_key="wrong"), welcome) == ANONYMOUS.name
    assert who(Credential(api_key="key-1"), welcome) == "one"
