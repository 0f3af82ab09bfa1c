"""Whether others can read what a connection carries, and whom a trusted proxy speaks for."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.core.identity import Peer
from modelport.surfaces.headers import fields_of
from modelport.surfaces.options import Options
from modelport.surfaces.peers import MOST_HOPS, Link, link_of


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
    assert link_of(scheme, address, local, Options()).peer.is_exposed is is_exposed
    assert not link_of(scheme, address, local, Options(tls_ends_before=True)).peer.is_exposed


PROXIES = ("127.0.0.1", "10.0.0.0/8", "fd00::/8")
OPTIONS = Options(trusted_proxies=tuple(map(ip_network, PROXIES)))


def client(*forwarded: str, peer: str = "10.0.0.1", options: Options = OPTIONS, scheme: str = "http") -> Peer:
    """Of a request with these lines of X-Forwarded-For, over a connection from `peer`."""
    lines = [(b"x-forwarded-for", line.encode("latin-1")) for line in forwarded]
    link = link_of(scheme, peer, "127.0.0.1", options)
    fields = fields_of([(b"host", b"x"), *lines, (b"accept", b"*/*")])
    found = link.client(fields)
    assert link.is_exposed(fields) is found.is_exposed
    return found


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        (["192.0.2.7"], "192.0.2.7"),
        (["192.0.2.7:50123"], "192.0.2.7"),
        (["2001:db8::7"], "2001:db8::7"),
        (["[2001:DB8::7]"], "2001:db8::7"),
        (["[2001:db8::7]:443"], "2001:db8::7"),
        (["::ffff:192.0.2.7"], "192.0.2.7"),
        ([" \t192.0.2.7\t "], "192.0.2.7"),
        (["192.0.2.7, 10.1.2.3,fd00::5"], "192.0.2.7"),
        (["192.0.2.7, ::ffff:10.1.2.3"], "192.0.2.7"),
        (["198.51.100.1, 192.0.2.7"], "192.0.2.7"),
        (["198.51.100.1", "192.0.2.7"], "192.0.2.7"),
        (["192.0.2.7", "10.1.2.3"], "192.0.2.7"),
        (["10.9.9.9, 10.1.2.3"], "10.9.9.9"),
        (["garbage, 192.0.2.7"], "192.0.2.7"),
        ([",,,192.0.2.7"], "192.0.2.7"),
        (["x" * 8000 + ",192.0.2.7"], "192.0.2.7"),
        (["1.1.1.1," * 1000 + "192.0.2.7"], "192.0.2.7"),
        (["192.0.2.7" + ",10.0.0.2" * (MOST_HOPS - 1)], "192.0.2.7"),
    ],
)
def test_the_last_address_that_is_no_trusted_proxy_is_the_client(forwarded: list[str], address: str) -> None:
    assert client(*forwarded).address == address


@pytest.mark.parametrize(
    "forwarded",
    [
        "",
        "unknown",
        "_hidden",
        "192.0.2.7,",
        "192.0.2.7, unknown",
        "192.0.2.7, unknown, 10.0.0.2",
        "localhost",
        "proxy.example",
        "192.0.2.256",
        "192.0.2",
        "0192.0.2.7",
        "192.0.2.7:",
        "192.0.2.7:port",
        "192.0.2.7:123456",
        "192.0.2.7/32",
        "192.0.2.7 10.0.0.1",
        '"192.0.2.7"',
        "[192.0.2.7",
        "[2001:db8::7]443",
        "2001:db8::7]",
        "fe80::1%eth0",
        "[fe80::1%25eth0]",
        "2001:db8::7::1",
        "\u0661\u0669\u0662.0.2.7".encode().decode("latin-1"),
        "192.0.2.7\x85",
        "for=192.0.2.7",
        "192.0.2.7" + ",10.0.0.2" * (MOST_HOPS + 1),
    ],
)
def test_what_is_malformed_counts_as_the_proxys_own(forwarded: str) -> None:
    assert client(forwarded) == Peer("10.0.0.1", is_exposed=True)


@pytest.mark.parametrize("peer", ["192.0.2.1", "127.0.0.2", "::1", "11.0.0.1", "2001:db8::1"])
def test_an_untrusted_peer_speaks_for_itself_alone(peer: str) -> None:
    assert client("192.0.2.7", peer=peer).address == peer
    assert client("127.0.0.1", peer=peer) == client(peer=peer)


def test_without_trusted_proxies_nothing_is_read() -> None:
    assert client("192.0.2.7", peer="127.0.0.1", options=Options()) == Peer("127.0.0.1")


@pytest.mark.parametrize(
    ("forwarded", "is_exposed"),
    [
        (["127.0.0.1"], False),
        (["127.0.0.9, 127.0.0.1"], False),
        (["::1"], False),
        (["192.0.2.7"], True),
        (["127.0.0.1, 192.0.2.7"], True),
        (["127.0.0.1", "192.0.2.7"], True),
        (["127.0.0.1, 10.0.0.2"], True),
        (["unknown"], True),
        ([""], True),
        ([], False),
    ],
)
def test_a_proxy_on_this_machine_does_not_hide_that_its_client_is_elsewhere(
    forwarded: list[str], is_exposed: bool
) -> None:
    assert client(*forwarded, peer="127.0.0.1").is_exposed is is_exposed
    ended = Options(tls_ends_before=True, trusted_proxies=OPTIONS.trusted_proxies)
    assert not client(*forwarded, peer="127.0.0.1", options=ended).is_exposed
    assert not client(*forwarded, peer="127.0.0.1", scheme="https").is_exposed


@pytest.mark.parametrize("forwarded", ["127.0.0.1", "127.0.0.1, 127.0.0.1", "::1"])
def test_no_word_of_a_proxy_makes_its_connection_local(forwarded: str) -> None:
    assert client(forwarded, peer="10.0.0.1").is_exposed


ADDRESSES = st.ip_addresses()
UNTRUSTED = ADDRESSES.filter(
    lambda address: (
        not any(address in network for network in OPTIONS.trusted_proxies)
        and getattr(address, "ipv4_mapped", None) is None
    )
)
TRUSTED = st.sampled_from(["10.0.0.1", "10.255.0.9", "127.0.0.1", "fd00::1", "::ffff:10.0.0.1"]).map(ip_address)
SPACE = st.sampled_from(["", " ", "\t", "  \t"])


@st.composite
def written(draw: st.DrawFn, address: IPv4Address | IPv6Address) -> str:
    """As proxies write an address."""
    port = draw(st.none() | st.integers(0, 65_535))
    text = str(address) if draw(st.booleans()) else address.exploded.upper()
    if address.version == 6 and (port is not None or draw(st.booleans())):
        text = f"[{text}]"
    return draw(SPACE) + text + (f":{port}" if port is not None else "") + draw(SPACE)


@given(
    spoofed=st.lists(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=40), max_size=4),
    real=UNTRUSTED.flatmap(lambda address: st.tuples(st.just(address), written(address))),
    hops=st.lists(TRUSTED.flatmap(written), max_size=MOST_HOPS - 1),
    is_in_lines=st.booleans(),
)
def test_whatever_a_client_writes_itself_the_proxies_words_decide(
    spoofed: list[str], real: tuple[IPv4Address | IPv6Address, str], hops: list[str], is_in_lines: bool
) -> None:
    elements = [*spoofed, real[1], *hops]
    found = client(*elements) if is_in_lines else client(",".join(elements))
    assert found.address == str(real[0])


@given(st.lists(st.binary(max_size=200), max_size=3), st.sampled_from(["10.0.0.1", "127.0.0.1", "192.0.2.1"]))
def test_no_header_is_a_fault(lines: list[bytes], peer: str) -> None:
    found = client(*(line.decode("latin-1") for line in lines), peer=peer)
    assert found.address is not None
    ip_address(found.address)
    assert found.is_exposed or peer == "127.0.0.1"


def test_an_unknown_link_says_nothing() -> None:
    assert Link().client({b"x-forwarded-for": b"192.0.2.7"}) == Peer()
