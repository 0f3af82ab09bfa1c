"""Addresses that other machines reach need a key that the operator set."""

from __future__ import annotations

import pytest

from modelport.config.listen import is_loopback, listen_faults
from modelport.config.settings import AuthSettings, ServerSettings, Settings


def said(host: str, *, anonymous: bool = False, key_is_generated: bool = False) -> str:
    settings = Settings(server=ServerSettings(host=host), auth=AuthSettings(anonymous=anonymous))
    return "\n".join(str(fault) for fault in listen_faults(settings, key_is_generated))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LOCALHOST"])
def test_on_loopback_anything_goes(host: str) -> None:
    assert is_loopback(host)
    assert said(host, anonymous=True, key_is_generated=True) == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "localhost.example.org"])
def test_elsewhere_it_needs_a_key_of_the_operators_own(host: str) -> None:
    assert said(host) == ""
    assert "auth.anonymous lets everybody in" in said(host, anonymous=True)
    assert "set MODELPORT_API_KEY or auth.keys" in said(host, key_is_generated=True)
