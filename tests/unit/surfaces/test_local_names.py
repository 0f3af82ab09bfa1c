"""Which names and pages an anonymous server answers to."""

from __future__ import annotations

import pytest

from modelport.surfaces.local_names import refusal_of
from modelport.surfaces.options import Options

OPTIONS = Options(allowed_hosts=frozenset({"models.lan", "10.0.0.7"}), cors_origins=("https://notes.example",))


@pytest.mark.parametrize(
    "host",
    [
        None,
        b"localhost",
        b"LocalHost:8080",
        b"localhost.",
        b"localhost.:8080",
        b"127.0.0.1",
        b"127.0.0.1:8080",
        b"127.200.3.4:1",
        b"[::1]",
        b"[::1]:8080",
        b"models.lan",
        b"Models.LAN.:443",
        b"10.0.0.7:80",
    ],
)
def test_names_of_this_machine_and_those_of_the_operator(host: bytes | None) -> None:
    assert refusal_of(host, None, OPTIONS) is None


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"evil.example:8080",
        b"localhost.evil.example",
        b"127.0.0.1.evil.example",
        b"evil-localhost",
        b"128.0.0.1",
        b"0.0.0.0",
        b"10.0.0.8",
        b"[::2]",
        b"[fe80::1]:80",
        b"2130706433",
        b"sub.models.lan",
        b"",
    ],
)
def test_any_other_name_is_refused_with_the_setting_that_allows_it(host: bytes) -> None:
    assert "server.allowed_hosts" in str(refusal_of(host, None, OPTIONS))


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (b"127.0.0.1:8080", b"http://127.0.0.1:8080"),
        (b"LOCALHOST:8080", b"http://localhost:8080"),
        (b"[::1]:8080", b"https://[::1]:8080"),
        (b"models.lan", b"https://models.lan"),
        (b"localhost", b"https://notes.example"),
    ],
)
def test_pages_of_our_own_and_those_of_the_operator(host: bytes, origin: bytes) -> None:
    assert refusal_of(host, origin, OPTIONS) is None


@pytest.mark.parametrize(
    "origin",
    [b"http://evil.example", b"http://localhost:3000", b"http://127.0.0.1:8080", b"null", b"", b"file://"],
)
def test_any_other_page_is_refused_with_the_setting_that_allows_it(origin: bytes) -> None:
    assert "server.cors_origins" in str(refusal_of(b"localhost:8080", origin, OPTIONS))


def test_every_origin_may_be_allowed() -> None:
    assert refusal_of(b"localhost", b"http://any.example", Options(cors_origins=("*",))) is None


def test_what_a_caller_says_is_cut_in_the_refusal() -> None:
    assert len(str(refusal_of(b"x" * 5000, None, OPTIONS))) < 600
    assert len(str(refusal_of(b"localhost", b"x" * 5000, OPTIONS))) < 600
