"""Certificates of our own making are trusted by their authority, reused while good, and renewed in time."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from modelport.config.faults import ConfigError
from modelport.config.settings import ServerSettings, Settings, TlsSettings
from modelport.config.tls import RenewedCertificate, TlsFiles, self_signed, server_context, tls_files

NOW = datetime.now(UTC)


def handshake(files: TlsFiles, server_hostname: str) -> str | None:
    """A client that trusts the authority alone connects; the version of TLS that both agreed on."""
    assert files.authority is not None
    client = ssl.create_default_context(cafile=str(files.authority))
    server = server_context(files)
    left, right = socket.socketpair()
    failures: list[BaseException] = []

    def serve() -> None:
        try:
            with server.wrap_socket(right, server_side=True):
                pass
        except (ssl.SSLError, OSError) as exc:
            failures.append(exc)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(left, server_hostname=server_hostname) as connection:
            return connection.version()
    finally:
        left.close()
        thread.join()
        right.close()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "gateway.example"])
def test_a_client_that_trusts_the_authority_accepts_every_name_of_the_server(tmp_path: Path, name: str) -> None:
    files = self_signed(tmp_path, ["gateway.example"], NOW)
    assert handshake(files, name) == "TLSv1.3"


def test_another_name_is_not_accepted(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(self_signed(tmp_path, ["127.0.0.1"], NOW), "gateway.example")


def test_private_keys_are_private(tmp_path: Path) -> None:
    files = self_signed(tmp_path / "data", ["127.0.0.1"], NOW)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data" / "tls").iterdir()}
    assert modes["key.pem"] == modes["ca-key.pem"] == 0o600
    assert stat.S_IMODE(files.key.parent.stat().st_mode) == 0o700
    assert sorted(modes) == [".lock", "ca-key.pem", "ca.pem", "cert.pem", "key.pem"]


def test_a_good_certificate_is_used_again(tmp_path: Path) -> None:
    files = self_signed(tmp_path, ["127.0.0.1"], NOW)
    before = files.certificate.read_bytes()
    assert self_signed(tmp_path, ["127.0.0.1"], NOW + timedelta(days=300)) == files
    assert files.certificate.read_bytes() == before


def test_a_certificate_is_renewed_before_it_expires_by_the_same_authority(tmp_path: Path) -> None:
    files = self_signed(tmp_path, ["127.0.0.1"], NOW)
    assert files.authority is not None
    certificate, authority = files.certificate.read_bytes(), files.authority.read_bytes()
    later = NOW + timedelta(days=390)
    self_signed(tmp_path, ["127.0.0.1"], later)
    assert files.certificate.read_bytes() != certificate
    assert files.authority.read_bytes() == authority
    assert x509.load_pem_x509_certificate(files.certificate.read_bytes()).not_valid_after_utc > later + timedelta(
        days=300
    )


def test_an_authority_at_its_end_is_replaced_and_the_certificate_with_it(tmp_path: Path) -> None:
    files = self_signed(tmp_path, ["127.0.0.1"], NOW - timedelta(days=3500))
    assert files.authority is not None
    authority = files.authority.read_bytes()
    self_signed(tmp_path, ["127.0.0.1"], NOW)
    assert files.authority.read_bytes() != authority
    assert handshake(files, "localhost") == "TLSv1.3"


def test_a_new_host_gets_a_certificate_that_names_it(tmp_path: Path) -> None:
    self_signed(tmp_path, ["127.0.0.1"], NOW)
    files = self_signed(tmp_path, ["192.168.7.7"], NOW)
    assert handshake(files, "192.168.7.7") == "TLSv1.3"
    assert handshake(self_signed(tmp_path, ["0.0.0.0"], NOW), "localhost") == "TLSv1.3"


@pytest.mark.parametrize("damaged", ["cert.pem", "key.pem", "ca.pem", "ca-key.pem"])
def test_damaged_files_are_made_anew(tmp_path: Path, damaged: str) -> None:
    files = self_signed(tmp_path, ["127.0.0.1"], NOW)
    (tmp_path / "tls" / damaged).write_text("nonsense")
    assert handshake(self_signed(tmp_path, ["127.0.0.1"], NOW), "localhost") == "TLSv1.3"
    assert files.key.exists()


def test_the_operators_own_files_are_used_as_they_are(tmp_path: Path) -> None:
    made = self_signed(tmp_path, ["127.0.0.1"], NOW)
    tls = TlsSettings(cert=made.certificate, key=made.key)
    files = tls_files(Settings(server=ServerSettings(tls=tls)))
    assert files == TlsFiles(made.certificate, made.key, None)
    assert server_context(files).minimum_version is ssl.TLSVersion.TLSv1_2


def test_without_tls_nothing_is_made(tmp_path: Path) -> None:
    assert tls_files(Settings(server=ServerSettings(data_dir=tmp_path))) is None
    assert list(tmp_path.iterdir()) == []


def test_a_data_directory_that_is_a_file_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    settings = Settings(server=ServerSettings(data_dir=tmp_path / "taken", tls=TlsSettings(self_signed=True)))
    with pytest.raises(ConfigError, match="cannot keep a certificate"):
        tls_files(settings)


def test_each_wrong_file_is_named(tmp_path: Path) -> None:
    good = self_signed(tmp_path / "a", ["127.0.0.1"], NOW)
    other = self_signed(tmp_path / "b", ["127.0.0.1"], NOW)
    nonsense, locked = tmp_path / "nonsense.pem", tmp_path / "locked.pem"
    nonsense.write_text("nonsense")
    locked.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"passphrase"),
        )
    )
    for certificate, key, said in (
        (tmp_path / "absent.pem", good.key, "cert: .*absent.pem cannot be read: No such file or directory"),
        (good.certificate, tmp_path / "absent.pem", "key: .*absent.pem cannot be read"),
        (nonsense, good.key, "cert: .*nonsense.pem holds no PEM certificate"),
        (good.certificate, nonsense, "key: .*nonsense.pem holds no PEM private key"),
        (good.certificate, locked, "key: .*locked.pem is protected by a passphrase"),
        (good.certificate, other.key, "key: .* is not the key of the first certificate"),
    ):
        with pytest.raises(ConfigError, match=said):
            server_context(TlsFiles(certificate, key, None))


def names_in(files: TlsFiles) -> set[str]:
    certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def test_names_of_before_stay_so_that_two_servers_of_a_directory_can_share_it(tmp_path: Path) -> None:
    self_signed(tmp_path, ["one.example"], NOW)
    files = self_signed(tmp_path, ["two.example"], NOW)
    assert names_in(files) >= {"one.example", "two.example", "localhost"}
    before = files.certificate.read_bytes()
    self_signed(tmp_path, [], NOW)
    assert files.certificate.read_bytes() == before


def test_the_certificate_names_the_machine_and_the_public_address(tmp_path: Path) -> None:
    server = {
        "data_dir": tmp_path,
        "host": "0.0.0.0",
        "public_url": "https://models.example:444",
        "tls": {"self_signed": True},
    }
    files = tls_files(Settings.model_validate({"server": server}), NOW)
    assert files is not None
    assert names_in(files) == {"localhost", "127.0.0.1", "::1", "models.example", socket.gethostname().lower()}


def test_a_running_server_renews_what_was_made_here(tmp_path: Path) -> None:
    moment = [NOW]
    certificate = RenewedCertificate(lambda: self_signed(tmp_path, [], moment[0]))
    before = certificate.files.certificate.read_bytes()
    certificate.renew_if_due()
    assert certificate.files.certificate.read_bytes() == before
    moment[0] += timedelta(days=390)
    certificate.renew()
    assert certificate.files.certificate.read_bytes() != before
