"""A real server process for the tests: its configuration, its certificate, its start and its end."""

from __future__ import annotations

import contextlib
import datetime
import http.client
import ipaddress
import json
import os
import shlex
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.warm_start import WarmProcess

KEY = "first-key-5b1c7e6f0a9d4e83b2"
SECOND_KEY = "second key 88d0f1c2 a3b44e5f"
READY_SECONDS = 240.0


@dataclass(frozen=True)
class Server:
    """Where a running server answers, and with which credentials."""

    url: str
    key: str = KEY
    second_key: str = SECOND_KEY
    ca_file: Path | None = None
    log_file: Path | None = None
    data_dir: Path | None = None
    pid: int | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def models(self) -> str:
        return f"{self.url}/models"

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def root_of(self, deployment: str) -> str:
        return f"{self.url}/deployments/{deployment}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def make_certificate(directory: Path) -> tuple[Path, Path, Path]:
    """A private authority and a certificate for localhost and 127.0.0.1: (authority, certificate, key)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.datetime.now(datetime.UTC)
    lifetime = (now - datetime.timedelta(days=1), now + datetime.timedelta(days=7))

    def named(common_name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])

    authority_key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_id = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    authority = (
        x509.CertificateBuilder()
        .subject_name(named("modelport test authority"))
        .issuer_name(named("modelport test authority"))
        .public_key(authority_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(lifetime[0])
        .not_valid_after(lifetime[1])
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(authority_id, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = (
        x509.CertificateBuilder()
        .subject_name(named("localhost"))
        .issuer_name(authority.subject)
        .public_key(leaf_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(lifetime[0])
        .not_valid_after(lifetime[1])
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(authority_id), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    files = directory / "ca.pem", directory / "leaf.pem", directory / "leaf.key"
    files[0].write_bytes(authority.public_bytes(pem))
    files[1].write_bytes(leaf.public_bytes(pem))
    files[2].write_bytes(leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return files


def status_of(url: str, ca_file: Path | None, timeout_seconds: float = 2) -> int:
    """The status of GET `url`, 0 while nothing listens."""
    host, port = url.split("//", 1)[1].split("/", 1)[0].split(":")
    path = "/" + url.split("//", 1)[1].split("/", 1)[1]
    connection: http.client.HTTPConnection
    if url.startswith("https"):
        context = ssl.create_default_context(cafile=str(ca_file))
        connection = http.client.HTTPSConnection(host, int(port), timeout=timeout_seconds, context=context)
    else:
        connection = http.client.HTTPConnection(host, int(port), timeout=timeout_seconds)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0


def pulled_models() -> Path:
    """The folder of the models that were pulled for this user; it may be absent."""
    return Path(os.environ.get("MODELPORT_TEST_DATA_DIR") or "~/.local/share/modelport").expanduser() / "models"


NO_WEIGHTS = "no weights: `modelport models pull default` gets them (MODELPORT_TEST_DATA_DIR says from where)"


def lend_weights(data_dir: Path) -> None:
    """Let a server with a data directory of its own use the models that were pulled for this user."""
    data_dir.mkdir(mode=0o700, exist_ok=True)
    if pulled_models().is_dir():
        (data_dir / "models").symlink_to(pulled_models().resolve())


IDENTITIES = """\
- {name: developer, roles: [Inference User]}
- {name: operator, roles: [Administrator]}
- {name: guest}
"""


@contextlib.contextmanager
def running(
    configuration: dict[str, Any], *, tls: bool = False, keyless: bool = False, wait: bool = True
) -> Iterator[Server]:
    """A server process with this configuration, ready; killed at the end. JSON is YAML, so no YAML writer is needed.

    `keyless`: with TLS, and beside a development issuer whose tokens it accepts, and whose certificate is of the same
    authority. The environment of `developer` is the server's; `environment_of` has others."""
    from tests import warm_start
    from tests.issuer import issuing
    from tests.served import lend_database

    with contextlib.ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="modelport-clients-"))
        directory = Path(name)
        ca_file = None
        server_section = {**configuration.get("server", {}), "data_dir": str(directory / "data")}
        if tls:
            ca_file, certificate, key = make_certificate(directory)
            server_section["tls"] = {"cert": str(certificate), "key": str(key)}
        elif keyless:
            ca_file = directory / "data" / "tls" / "ca.pem"
            server_section["tls"] = {"self_signed": True}
        keys = {"keys": ["env:MODELPORT_API_KEY", "env:MODELPORT_TEST_SECOND_KEY"]}
        whole = {**configuration, "server": server_section, "auth": {**configuration.get("auth", {}), **keys}}
        config_file, log_file = directory / "modelport.yaml", directory / "server.log"
        text = json.dumps(whole, indent=1, ensure_ascii=False).replace("{data_dir}", str(directory / "data"))
        config_file.write_text(text, encoding="utf-8")
        lend_weights(directory / "data")
        lend_database(directory / "data")
        port = free_port()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MODELPORT_")}
        environment |= {"MODELPORT_API_KEY": KEY, "MODELPORT_TEST_SECOND_KEY": SECOND_KEY}
        if "default_content_filter" not in server_section:
            environment["MODELPORT_DEFAULT_CONTENT_FILTER"] = "Microsoft.Nill"
        of_clients: dict[str, str] = {}
        if keyless:
            identities = directory / "identities.yaml"
            identities.write_text(IDENTITIES)
            issuer = stack.enter_context(issuing(directory / "data", "--identities", str(identities), "--imds"))
            of_clients, environment["MODELPORT_IDENTITY"] = issuer.environment, "dev"
        arguments = ["serve", "--config", str(config_file), "--port", str(port)]
        with log_file.open("wb") as log:
            process = warm_start.start(arguments, environment, log.fileno(), log.fileno())
        url = f"{'https' if ca_file is not None else 'http'}://127.0.0.1:{port}"
        try:
            if wait:
                _await_ready(process, url, ca_file, log_file)
            data_dir = directory / "data"
            yield Server(
                url, ca_file=ca_file, log_file=log_file, data_dir=data_dir, pid=process.pid, environment=of_clients
            )
        finally:
            _end(process)
            # For whoever looks for a failure's cause: the directory of the server is gone in a moment.
            kept = os.environ.get("MODELPORT_TEST_KEEP_LOG")
            if kept:
                Path(kept).write_bytes(log_file.read_bytes())


def environment_of(server: Server, identity: str) -> dict[str, str]:
    """The variables of another identity, as its file has them."""
    assert server.data_dir is not None
    text = (Path(server.data_dir) / "identity" / f"{identity}.sh").read_text()
    return dict(word.split("=", 1) for word in shlex.split(text) if word != "export")


def _await_ready(process: WarmProcess, url: str, ca_file: Path | None, log_file: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}:\n{log_file.read_text()[-4000:]}")
        if status_of(f"{url}/health/ready", ca_file) == 200:
            return
        time.sleep(0.1)
    raise RuntimeError(f"the server was not ready in time:\n{log_file.read_text()[-4000:]}")


def _end(process: WarmProcess) -> None:
    """SIGTERM, then after a while SIGKILL for the whole group: nothing is left behind."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=15)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
