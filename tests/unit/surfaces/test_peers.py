"""Whether others can read what a connection carries."""

from __future__ import annotations

import pytest

from modelport.surfaces.options import Options
from modelport.surfaces.peers import peer_of


@pytest.mark.parametrize(
    ("scheme", "address", "local", "is_exposed"),
    [
        ("https", "10.0.0.9", "10.0.0.1", False),
        ("http", "127.0.0.1", "127.0.0.1", False),
        ("http", "127.0.0.5", "127.0.0.9", False),
        ("http", "::1", "::1", False),
        ("http", "::ffff:127.0.0.1", "::ffff:127.0.0.1", False),
        ("http", "10.0.0.9", "10.0.0.1", True),
        ("http", "10.0.0.1", "127.0.0.1", True),
        ("http", "127.0.0.1", "10.0.0.1", True),
        ("http", "::ffff:10.0.0.9", "::ffff:10.0.0.1", True),
        ("http", None, "127.0.0.1", True),
        ("http", "127.0.0.1", None, True),
        ("http", "localhost", "127.0.0.1", True),
    ],
)
def test_what_leaves_the_machine_without_tls_is_exposed(
    scheme: str, address: str | None, local: str | None, is_exposed: bool
) -> None:
    assert peer_of(scheme, address, local, Options()).is_exposed is is_exposed
    assert not peer_of(scheme, address, local, Options(tls_ends_before=True)).is_exposed
