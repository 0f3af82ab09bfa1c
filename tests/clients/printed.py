"""Runs the printed samples of the documentation in an interpreter of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

SNIPPETS = Path(__file__).parent / "snippets"


def run_python(
    *names: str,
    endpoint: str,
    key: str = "",
    ca_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    more: str = "",
) -> str:
    """Run these samples as one program, in order, and `more` after them; what it prints. Endpoint and key are all that
    is filled in. `environment`: further variables, for samples without a key."""
    texts = [(SNIPPETS / f"{name}.py.txt").read_text(encoding="utf-8") for name in names]
    program = "\n".join([*texts, more]).replace("https://<resource>.services.ai.azure.com/models", endpoint)
    whole = {
        **os.environ,
        **(environment or {}),
        "AZURE_INFERENCE_ENDPOINT": endpoint,
        "AZURE_INFERENCE_CREDENTIAL": key,
        "AZUREAI_ENDPOINT_URL": endpoint,
        "AZUREAI_ENDPOINT_KEY": key,
        **({"REQUESTS_CA_BUNDLE": str(ca_file)} if ca_file else {}),
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=whole, capture_output=True, text=True, encoding="utf-8", timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
