"""The environment of a child process: what a program needs to run, and no secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

SYSTEM: Final = r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|LD_LIBRARY_PATH|VIRTUAL_ENV|PYTHON\w*|XDG_\w+"
COMPUTE: Final = r"(?:OMP|KMP|GGML|CUDA|HIP|ROCR)_\w+|NVIDIA_(?:VISIBLE_DEVICES|DRIVER_CAPABILITIES)"
"""What native libraries read about processors."""
POSTGRESQL: Final = r"PG[A-Z]+|SSL_CERT_(?:FILE|DIR)"
"""What PostgreSQL's client library reads: its own certificates, and perhaps its own password."""
PACKAGE_INDEX: Final = (
    r"PIP_\w+|(?i:https?|all|no)_(?i:proxy)|SSL_CERT_(?:FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|NETRC"
)
"""What pip reads: its index, its proxy and their certificates."""
_SECRET: Final = re.compile(r"(?:\w+_)?(?:KEY|TOKEN|SECRET|PASSWORD|PASSPHRASE|CREDENTIALS?)", re.IGNORECASE)
NO_TELEMETRY: Final[Mapping[str, str]] = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "LLAMA_OFFLINE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
}
"""Libraries that could report to their makers, or download, do neither."""


def child_environment(environ: Mapping[str, str], *patterns: str) -> dict[str, str]:
    """The variables of `environ` that every program needs, and those whose whole name matches one of the patterns. A
    name that ends like a secret's is never among them."""
    allowed = re.compile("|".join((SYSTEM, *patterns)))
    found = {n: v for n, v in environ.items() if allowed.fullmatch(n) and not _SECRET.fullmatch(n)}
    return {**found, **NO_TELEMETRY}
