"""Sealed texts: opened by the same key at the same place, and nowhere else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.stores.sealing import SealBroken, Sealer

KEY = "0123456789abcdef0123456789abcdef"


@given(text=st.text(), place=st.text())
def test_a_sealed_text_is_opened_again(text: str, place: str) -> None:
    sealed = Sealer(KEY).seal(text.encode("utf-8", "ignore").decode(), place.encode("utf-8", "ignore").decode())
    found = Sealer(KEY).open(sealed, place.encode("utf-8", "ignore").decode())
    assert found == text.encode("utf-8", "ignore").decode()


def test_the_same_text_is_never_sealed_alike() -> None:
    sealer = Sealer(KEY)
    assert len({sealer.seal("secret", "a") for _ in range(100)}) == 100


def test_nothing_else_opens_it() -> None:
    sealed = Sealer(KEY).seal("secret", "providers/house/api_key")
    raw = bytearray(base64.b64decode(sealed))
    raw[-1] ^= 1
    for sealer, text, place in (
        (Sealer(KEY + "x"), sealed, "providers/house/api_key"),
        (Sealer(KEY), sealed, "providers/other/api_key"),
        (Sealer(KEY), base64.b64encode(raw).decode(), "providers/house/api_key"),
        (Sealer(KEY), "no base64", "providers/house/api_key"),
        (Sealer(KEY), "", "providers/house/api_key"),
    ):
        with pytest.raises(SealBroken):
            sealer.open(text, place)


def test_what_is_derived_tells_nothing_of_the_key() -> None:
    sealer = Sealer(KEY)
    assert sealer.fingerprint == Sealer(KEY).fingerprint != Sealer(KEY + "x").fingerprint
    assert len({sealer.salt.hex(), sealer.fingerprint, KEY}) == 3
    assert KEY not in repr(sealer)
