"""Keys that sign: published before they sign, kept while a token counts, stored over a restart."""

from __future__ import annotations

import stat
from pathlib import Path

import jwt
import pytest

from modelport.identity.identities import IdentityFault
from modelport.identity.signing import SigningKeys


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


def signed_by(keys: SigningKeys) -> str:
    return str(jwt.get_unverified_header(keys.sign({"aud": "x"}))["kid"])


def published(keys: SigningKeys) -> list[str]:
    return [key["kid"] for key in keys.key_set()["keys"]]


def test_rotation_publishes_before_it_signs_and_keeps_a_key_for_the_life_of_its_tokens(tmp_path: Path) -> None:
    clock = Clock()
    keys = SigningKeys(tmp_path / "keys", clock, token_seconds=100, rotate_seconds=40)
    first = signed_by(keys)
    assert not keys.rotate_if_due()
    clock.seconds += 40
    assert keys.rotate_if_due()
    assert len(published(keys)) == 2
    assert signed_by(keys) == first, "the new key is known, but does not sign yet"
    clock.seconds += 20
    second = signed_by(keys)
    assert second == published(keys)[1] != first
    clock.seconds += 99
    keys.rotate_if_due()
    assert first in published(keys), "a token of the last second before the change still counts"
    clock.seconds += 1
    assert keys.rotate_if_due()
    assert first not in published(keys)


def test_without_rotation_one_key_signs_for_good(tmp_path: Path) -> None:
    clock = Clock()
    keys = SigningKeys(tmp_path / "keys", clock, token_seconds=100)
    first = signed_by(keys)
    clock.seconds += 10_000_000
    assert not keys.rotate_if_due()
    assert published(keys) == [first] == [signed_by(keys)]


def test_keys_outlive_a_restart_and_are_private(tmp_path: Path) -> None:
    file, clock = tmp_path / "keys", Clock()
    keys = SigningKeys(file, clock, token_seconds=100, rotate_seconds=40)
    clock.seconds += 50
    keys.rotate_if_due()
    assert published(SigningKeys(file, clock, token_seconds=100, rotate_seconds=40)) == published(keys)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "[1]", '[{"kid": "a", "pem": "b", "published_at": 1}]', "{}x"])
def test_a_damaged_file_is_named_and_not_replaced(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(IdentityFault, match="holds no signing keys"):
        SigningKeys(file, Clock(), token_seconds=100)
    assert file.read_text() == text


def test_the_set_holds_no_private_part(tmp_path: Path) -> None:
    keys = SigningKeys(tmp_path / "keys", Clock(), token_seconds=100)
    assert [set(key) for key in keys.key_set()["keys"]] == [{"kty", "use", "kid", "alg", "n", "e"}]
