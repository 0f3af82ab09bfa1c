"""One environment per client: a virtual environment made from pinned requirements, or Node with its packages.

Made again only when its requirements have changed, so a second run starts at once.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENVIRONMENTS = ROOT / ".venvs"
BETAS = [f"azure-ai-inference-b{number}" for number in range(1, 9)]


class CannotPrepare(Exception):
    """An environment could not be made; says which, and why."""


@dataclass(frozen=True)
class Client:
    """A client of the matrix: its name, the tests that run with it, and the packages that it is about."""

    name: str
    tests: str
    packages: tuple[str, ...] = ("azure-ai-inference",)
    servers: tuple[str, ...] = ("main", "secure")
    """Those that its tests talk to."""

    @property
    def requirements(self) -> Path:
        return HERE / "requirements" / f"{self.name}.txt"

    @property
    def folder(self) -> Path:
        return ENVIRONMENTS / self.name

    @property
    def interpreter(self) -> Path:
        """What runs its tests."""
        return self.folder / "bin" / "python"

    def versions(self) -> dict[str, str]:
        """The pinned version of each package that this client is about."""
        lines = self.requirements.read_text(encoding="utf-8").splitlines()
        pinned = dict(line.split("==", 1) for line in lines if "==" in line)
        return {package: pinned[package] for package in self.packages}


@dataclass(frozen=True)
class NodeClient(Client):
    """Packages of npm: driven by the project's own interpreter, run by Node."""

    @property
    def requirements(self) -> Path:
        return HERE / self.name / "package.json"

    @property
    def interpreter(self) -> Path:
        return Path(sys.executable)

    def versions(self) -> dict[str, str]:
        pinned: dict[str, str] = json.loads(self.requirements.read_text(encoding="utf-8"))["dependencies"]
        several = [pinned[name].rpartition("@")[2] for name in sorted(pinned) if name.startswith(self.packages[0])]
        return {self.packages[0]: ", ".join(sorted(several))}


@dataclass(frozen=True)
class Program(Client):
    """A command line program, installed into an environment of its own and driven by the project's interpreter."""

    @property
    def interpreter(self) -> Path:
        return Path(sys.executable)


CLIENTS: list[Client] = [
    *(Client(name, "test_azure_ai_inference.py") for name in BETAS),
    NodeClient("node", "test_node.py", ("@azure-rest/ai-inference",), ("main", "secure", "keyless")),
    NodeClient("ai-sdk", "test_ai_sdk.py", ("ai",)),
    NodeClient("oidc-provider", "test_oidc_provider.py", ("oidc-provider",), ("secure",)),
    Client("langchain", "test_langchain.py", ("langchain-azure-ai", "langchain-openai", "azure-ai-inference")),
    Client(
        "llama-index",
        "test_llama_index.py",
        ("llama-index-llms-azure-inference", "llama-index-embeddings-azure-inference"),
    ),
    Client("litellm", "test_litellm.py", ("litellm",)),
    Client("semantic-kernel", "test_semantic_kernel.py", ("semantic-kernel", "azure-ai-inference")),
    Client("autogen", "test_autogen.py", ("autogen-ext", "azure-ai-inference")),
    Client("pydantic-ai", "test_pydantic_ai.py", ("pydantic-ai-slim", "openai")),
    Client("haystack", "test_haystack.py", ("haystack-ai", "openai")),
    Client("tracing", "test_tracing.py"),
]
LARGE_CLIENTS: list[Client] = [Program("az", "test_az.py", ("azure-cli",), ("keyless",))]
"""Run where they are named alone: az is 733 MB."""


def fingerprint(client: Client) -> str:
    """What an environment depends on: its requirements and the interpreter that made it."""
    return hashlib.sha256(client.requirements.read_bytes() + sys.version.encode()).hexdigest()


def prepare(client: Client) -> bool:
    """Make the client's environment if it is not there yet; whether it had to be made."""
    folder = client.folder
    stamp = folder / ".made-from"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == fingerprint(client):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    if isinstance(client, NodeClient):
        _install_node(client)
    else:
        _install_python(client)
    folder.mkdir(parents=True, exist_ok=True)
    stamp.write_text(fingerprint(client), encoding="utf-8")
    return True


def _install_python(client: Client) -> None:
    venv.create(client.folder, with_pip=False, symlinks=True, clear=True)
    python = client.folder / "bin" / "python"
    _run(
        client,
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-input", "--quiet",
         "--disable-pip-version-check", "--require-virtualenv", "--no-compile", "-r", str(client.requirements)],
    )  # fmt: skip


def _install_node(client: Client) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise CannotPrepare(f"{client.name}: Node.js with npm is needed (Debian: apt install nodejs npm)")
    folder = client.requirements.parent
    shutil.rmtree(folder / "node_modules", ignore_errors=True)
    _run(client, [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--no-package-lock"])


def _run(client: Client, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise CannotPrepare(f"{client.name}: {done.stderr.strip()[-2000:]}")
