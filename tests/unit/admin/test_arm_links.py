"""Which `Host` links are made from."""

from __future__ import annotations

import pytest

from modelport.admin.arm.links import link_base


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", None),
        ("LOCALHOST:8080", "10.0.0.5"),
        ("127.0.0.1:8080", None),
        ("127.8.8.8", None),
        ("[::1]:8080", "::1"),
        ("10.0.0.5:8080", "10.0.0.5"),
        ("10.0.0.5", "::ffff:10.0.0.5"),
        ("[2001:DB8::1]", "2001:db8:0::1"),
    ],
)
def test_links_are_made_from_loopback_and_the_address_of_the_connection(host: str, local: str | None) -> None:
    assert link_base(None, "https", host, local) == f"https://{host}"


@pytest.mark.parametrize(
    ("host", "local"),
    [
        (None, "127.0.0.1"),
        ("", "127.0.0.1"),
        ("attacker.example", "127.0.0.1"),
        ("localhost.attacker.example", "127.0.0.1"),
        ("127.0.0.1.attacker.example", "127.0.0.1"),
        ("10.0.0.6", "10.0.0.5"),
        ("10.0.0.5", None),
        ("[::1]attacker.example", "::1"),
        ("localhost@attacker.example", None),
        ("localhost/x", None),
        ("localhost\\x", None),
        ("localhost:80:80", None),
        ("localhost:", None),
        ("loc\u0430lhost", None),
        ("1270.0.0.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
    ],
)
def test_no_links_are_made_from_another_host(host: str | None, local: str | None) -> None:
    assert link_base(None, "https", host, local) is None


def test_the_public_address_goes_first() -> None:
    assert link_base("https://ai.example/", "http", "attacker.example", None) == "https://ai.example"
    assert link_base("https://ai.example", "http", None, None) == "https://ai.example"
