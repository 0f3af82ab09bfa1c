"""TLS for the listener: a certificate authority and certificate of our own making, and the ssl context for uvicorn."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import re
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from modelport.config.faults import ConfigError, Fault
from modelport.config.secrets import prepare_data_dir, write_private
from modelport.config.settings import Settings

AUTHORITY_DAYS: Final = 3650
CERTIFICATE_DAYS: Final = 397  # more is refused by some clients, whoever signed it
RENEWAL_DAYS: Final = 30
"""A certificate that has less left is made anew."""
RENEWAL_CHECK_SECONDS: Final = 3600.0
_ALWAYS: Final = ("localhost", "127.0.0.1", "::1")
NAMES_LIMIT: Final = 20
_NAME: Final = re.compile(r"[0-9A-Za-z]([0-9A-Za-z.:-]*[0-9A-Za-z])?|::1")
_UNSPECIFIED: Final = ("0.0.0.0", "::")  # noqa: S104  names of addresses that no certificate can hold

_logger = logging.getLogger("modelport.tls")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. `authority` is what clients have to trust; None when the certificate is the operator's."""

    certificate: Path
    key: Path
    authority: Path | None


def tls_files(settings: Settings, now: datetime | None = None) -> TlsFiles | None:
    """The files that the settings ask for, made where they are to be; None without TLS. Raises ConfigError."""
    tls = settings.server.tls
    if tls.cert is not None and tls.key is not None:
        return TlsFiles(tls.cert, tls.key, None)
    if not tls.self_signed:
        return None
    try:
        return self_signed(settings.server.data_dir, certificate_names(settings), now or datetime.now(UTC))
    except OSError as exc:
        what = f"cannot keep a certificate in {settings.server.data_dir}: {exc.strerror or exc}"
        raise ConfigError([Fault("server.tls", None, "self_signed", what)]) from exc


def certificate_names(settings: Settings) -> list[str]:
    """Under which names this server is called, besides those of loopback: what it listens on, this machine's name, and
    the host of `server.public_url`."""
    public = urlsplit(settings.server.public_url).hostname if settings.server.public_url is not None else None
    found = [settings.server.host, socket.gethostname(), *([public] if public else [])]
    return [name for name in found if name not in _UNSPECIFIED and _NAME.fullmatch(name)]


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """What the listener needs: TLS 1.2 or newer, HTTP/1.1. Raises ConfigError that says which file is wrong."""
    for name, path in (("cert", files.certificate), ("key", files.key)):
        try:
            with path.open("rb"):
                pass
        except OSError as exc:
            raise _fault(name, f"{path} cannot be read: {exc.strerror}") from None
    try:
        certificates = x509.load_pem_x509_certificates(files.certificate.read_bytes())
    except ValueError:
        raise _fault("cert", f"{files.certificate} holds no PEM certificate") from None
    try:
        key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
    except TypeError:
        raise _fault("key", f"{files.key} is protected by a passphrase; store it without one") from None
    except ValueError:
        raise _fault("key", f"{files.key} holds no PEM private key") from None
    if key.public_key() != certificates[0].public_key():
        raise _fault("key", f"{files.key} is not the key of the first certificate in {files.certificate}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.certificate, files.key)
    except ssl.SSLError as exc:
        raise _fault("cert", f"{files.certificate} cannot be used: {exc.reason}") from None
    return context


class RenewedCertificate:
    """A listener's certificate: connections from now on get what the files hold now. Open connections keep theirs.

    Looks at the files when it is asked to, and renews the one that was made here before it expires."""

    def __init__(self, find: Callable[[], TlsFiles | None], context: ssl.SSLContext | None = None) -> None:
        """`find` says which files hold it, and makes those that are made here. Raises ConfigError."""
        self._find = find
        files = find()
        if files is None:
            raise ValueError("there is no certificate without TLS")
        self.files = files
        self.context = context or server_context(files)
        self._seen = _stamps(files)
        self._checked_at = time.monotonic()

    @property
    def authority(self) -> Path:
        """What clients have to trust."""
        return self.files.authority or self.files.certificate

    def renew(self) -> None:
        """Reads the files again. Raises ConfigError; the certificate before is served on then."""
        files = self._find()
        self._checked_at = time.monotonic()
        if files is None:
            return
        seen = _stamps(files)
        server_context(files)  # says what is wrong before anything changes
        try:
            self.context.load_cert_chain(files.certificate, files.key)
        except (OSError, ssl.SSLError) as exc:
            self._seen = ()  # a file was replaced in between: the next look sees to it
            raise _fault("cert", f"{files.certificate} cannot be used: {exc}") from None
        self.files, self._seen = files, seen

    def renew_if_due(self) -> None:
        """The same where a file has changed, and once an hour. A fault is logged, once for each change."""
        now = time.monotonic()
        seen = _stamps(self.files)
        if seen == self._seen and now < self._checked_at + RENEWAL_CHECK_SECONDS:
            return
        changed, self._seen = seen != self._seen, seen
        try:
            self.renew()
        except ConfigError as error:
            _logger.error("the certificate of before is served on: %s", error)
        else:
            if changed or _stamps(self.files) != seen:
                _logger.info("the certificate as it is now is served")


def _stamps(files: TlsFiles) -> tuple[tuple[int, int, int] | None, ...]:
    """What changes with the files: inode, time of change in nanoseconds, size; None for one that is not there."""
    found: list[tuple[int, int, int] | None] = []
    for path in (files.certificate, files.key):
        try:
            status = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)


def self_signed(data_dir: Path, names: Sequence[str], now: datetime) -> TlsFiles:
    """The authority and certificate in `data_dir/tls`: those that are there while they are good, else new ones. The
    certificate is for loopback and `names`, hosts and addresses.

    While the old authority lives, it signs the new certificate, so that clients go on trusting it, and names of the old
    certificate stay: another server of this data directory may be called so. Raises OSError.
    """
    prepare_data_dir(data_dir)
    folder = data_dir / "tls"
    folder.mkdir(mode=0o700, exist_ok=True)
    files = TlsFiles(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
    with _one_at_a_time(folder):
        authority = _stored(folder / "ca.pem", folder / "ca-key.pem")
        if authority is None or not _lives(authority[0], now, CERTIFICATE_DAYS):
            authority = _new_authority(now)
            _store(folder / "ca.pem", folder / "ca-key.pem", *authority)
        leaf = _stored(files.certificate, files.key)
        wanted = _names(names)
        if leaf is None or not _is_issued(leaf[0], authority[0]):
            _store(files.certificate, files.key, *_new_certificate(authority, wanted, now))
        elif not _lives(leaf[0], now, RENEWAL_DAYS) or any(name not in _names_of(leaf[0]) for name in wanted):
            every = list(dict.fromkeys([*wanted, *_names_of(leaf[0])]))[:NAMES_LIMIT]
            _store(files.certificate, files.key, *_new_certificate(authority, every, now))
    return files


Signed = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _names_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def _is_issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        _names_of(certificate)
        certificate.verify_directly_issued_by(authority)
    except Exception:  # noqa: BLE001  ValueError, TypeError and InvalidSignature mean the same: not by this authority
        return False
    return True


def _lives(certificate: x509.Certificate, now: datetime, days: int) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc - timedelta(days=days)


def _names(names: Sequence[str]) -> list[x509.GeneralName]:
    return [_general_name(name) for name in dict.fromkeys((*_ALWAYS, *(name.lower() for name in names)))]


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _new_authority(now: datetime) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"modelport local authority {secrets.token_hex(4)}")])
    builder = _builder(name, name, key, now, AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256()), key


def _new_certificate(authority: Signed, names: Sequence[x509.GeneralName], now: datetime) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "modelport")])
    builder = _builder(name, authority[0].subject, key, now, CERTIFICATE_DAYS)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority[1].public_key())
    for extension, is_critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs_certificates=False), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName(names), False),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (issuer, False),
    ):
        builder = builder.add_extension(extension, critical=is_critical)
    return builder.sign(authority[1], hashes.SHA256()), key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    start = now - timedelta(hours=1)  # a client's clock may be behind
    return (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _stored(certificate: Path, key: Path) -> Signed | None:
    """A pair that was stored, or None when it is absent, broken or does not fit together: then a new one is made."""
    try:
        stored = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != stored.public_key():
        return None
    return stored, private


def _store(certificate: Path, key: Path, made: x509.Certificate, private: ec.EllipticCurvePrivateKey) -> None:
    encoding = serialization.Encoding.PEM
    secret = private.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _replace(key, secret)
    _replace(certificate, made.public_bytes(encoding))
    certificate.chmod(0o644)  # so that clients of other users can trust it; the folder decides who gets there


def _replace(path: Path, content: bytes) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        write_private(draft, content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Two servers that start at once must not mix their keys and certificates."""
    import fcntl  # POSIX only, like the rest of the server; here so that reading the settings works anywhere

    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _fault(key: str, what: str) -> ConfigError:
    return ConfigError([Fault("server.tls", None, key, what)])
