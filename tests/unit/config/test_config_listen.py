"""Addresses that other machines reach need a key that the operator set."""

from __future__ import annotations

import pytest

from modelport.config.listen import is_loopback, unsafe_listening
from modelport.config.secrets import Secret
from modelport.config.settings import AuthSettings, ServerSettings, Settings


def said(host: str, *, anonymous: bool = False, key_is_generated: bool = False) -> str | None:
    keys = () if anonymous or key_is_generated else (Secret("operators-own", "env:K"),)
    auth = AuthSettings(anonymous=anonymous, keys=keys)
    return unsafe_listening(Settings(server=ServerSettings(host=host), auth=auth))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LOCALHOST"])
def test_on_loopback_anything_goes(host: str) -> None:
    assert is_loopback(host)
    assert said(host, anonymous=True) is None
    assert said(host, key_is_generated=True) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "localhost.example.org"])
def test_elsewhere_it_needs_a_key_of_the_operators_own(host: str) -> None:
    assert said(host) is None
    assert "auth.anonymous lets everybody in" in str(said(host, anonymous=True))
    assert "set MODELPORT_API_KEY or auth.keys" in str(said(host, key_is_generated=True))
