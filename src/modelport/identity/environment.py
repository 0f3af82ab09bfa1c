"""What clients need to find the issuer: environment variables, as a shell or a program reads them. No I/O."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from modelport.identity.identities import Directory, Identity


def federated_token_file(directory: Directory, identity: Identity) -> Path:
    """Where the assertion of an identity is."""
    return directory.folder / f"{identity.name}.federated-token"


def environment_file(directory: Directory, identity: Identity) -> Path:
    """Where the variables of an identity are, for `.` in a shell."""
    return directory.folder / f"{identity.name}.sh"


def variables(
    directory: Directory, identity: Identity, *, authority: str, managed: str, ca_file: Path, imds: bool
) -> dict[str, str]:
    """By name. `authority` and `managed` are base addresses, without a slash at their end.

    `DefaultAzureCredential()` finds workload identity in the first four; `ManagedIdentityCredential()` the endpoint of
    App Service, and IMDS where it is served. The last four make clients trust the certificates."""
    found = {
        "AZURE_AUTHORITY_HOST": authority,
        "AZURE_TENANT_ID": directory.tenant_id,
        "AZURE_CLIENT_ID": identity.client_id,
        "AZURE_FEDERATED_TOKEN_FILE": str(federated_token_file(directory, identity)),
        "IDENTITY_ENDPOINT": f"{managed}/msi/token",
        "IDENTITY_HEADER": directory.identity_header.reveal(),
    }
    if imds:
        found["AZURE_POD_IDENTITY_AUTHORITY_HOST"] = managed
    return found | dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"), str(ca_file))


def as_shell(found: Mapping[str, str]) -> str:
    """Lines that a shell reads."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in found.items())


def as_json(found: Mapping[str, str]) -> str:
    """A JSON object."""
    return json.dumps(dict(found), indent=2) + "\n"
