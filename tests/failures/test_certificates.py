"""A certificate is replaced while the server runs: new connections get the new one, open ones go on."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from modelport.config.tls import TlsFiles, self_signed
from served import KEY, Served, eventually, serve

ANSWERS = {"deployments": {"x": {"model": {"name": "x"}, "provider": {"type": "scripted"}, "default": True}}}


def place(made: TlsFiles, folder: Path) -> None:
    """Replaces the pair that the server reads, as a renewing program does."""
    for source, name in ((made.key, "key.pem"), (made.certificate, "cert.pem")):
        draft = folder / f".{name}"
        draft.write_bytes(source.read_bytes())
        draft.replace(folder / name)


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def secure(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Served, Path]]:
    folder = tmp_path / "certificates"
    folder.mkdir()
    place(self_signed(tmp_path / "first", [], datetime.now(UTC)), folder)
    tls = {"cert": str(folder / "cert.pem"), "key": str(folder / "key.pem")}
    config = {**ANSWERS, "server": {"tls": tls, "workers": request.param}}
    with serve(config, tmp_path / "data") as served:
        yield served, folder


def connection(served: Served, authority: Path) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=str(authority))
    return http.client.HTTPSConnection(*served.address, context=context, timeout=60)


def is_answered(link: http.client.HTTPSConnection) -> bool:
    link.request("POST", "/models/chat/completions", '{"messages": [{"role": "user", "content": "Hi"}]}',
                 {"api-key": KEY, "content-type": "application/json"})  # fmt: skip
    answer = link.getresponse()
    answer.read()
    return answer.status == 200


def accepts(served: Served, authority: Path) -> bool:
    with contextlib.closing(connection(served, authority)) as link:
        try:
            return is_answered(link)
        except ssl.SSLCertVerificationError:
            return False


def test_a_new_certificate_is_served_without_a_dropped_connection(secure: tuple[Served, Path], tmp_path: Path) -> None:
    served, folder = secure
    first = tmp_path / "first/tls/ca.pem"
    second = self_signed(tmp_path / "second", [], datetime.now(UTC))
    assert second.authority is not None
    with contextlib.closing(connection(served, first)) as open_one:
        assert is_answered(open_one)
        socket = open_one.sock
        (folder / "cert.pem").write_text("no certificate")
        eventually(lambda: "is served on" in served.stderr(), "the fault is logged")
        assert accepts(served, first), "what was good is served on"
        place(second, folder)
        eventually(
            lambda: all(accepts(served, Path(str(second.authority))) for _ in range(8)), "the new certificate is served"
        )
        assert not accepts(served, first)
        assert is_answered(open_one)
        assert open_one.sock is socket, "on the connection of before"


def test_a_signal_reads_the_files_at_once(secure: tuple[Served, Path], tmp_path: Path) -> None:
    served, folder = secure
    second = self_signed(tmp_path / "second", [], datetime.now(UTC))
    place(second, folder)
    os.kill(served.process.pid, signal.SIGHUP)
    eventually(
        lambda: all(accepts(served, Path(str(second.authority))) for _ in range(8)), "the new certificate is served"
    )
