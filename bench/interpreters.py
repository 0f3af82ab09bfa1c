"""Which Python runs what is measured. One built without profile-guided optimisation is slower: reports name it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LIBRARIES = ("uvicorn", "uvloop", "httptools", "msgspec", "aiohttp")
QUESTION = """
import json, platform, sys, sysconfig
from importlib.metadata import PackageNotFoundError, version
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        pass
args = sysconfig.get_config_var("CONFIG_ARGS") or ""
print(json.dumps({
    "version": platform.python_version(),
    "compiler": platform.python_compiler(),
    "configured": args,
    "freethreaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "libraries": found,
}))
"""


def described(python: Path) -> dict[str, Any]:
    """Version, build and libraries of an interpreter."""
    answer = subprocess.run([python, "-c", QUESTION, *LIBRARIES], capture_output=True, check=True, text=True)
    facts: dict[str, Any] = json.loads(answer.stdout)
    configured = facts.pop("configured")
    return {"version": facts.pop("version"), "build": build(configured), **facts}


def build(configured: str) -> str:
    """What the arguments of its `configure` say about optimisation."""
    with_lto = " with link-time optimisation" if "--with-lto" in configured else ""
    if "--enable-optimizations" in configured:
        return f"profile-guided{with_lto}"
    # Debian's build rules run the profile themselves, and leave no trace of it in the arguments.
    if "--with-dbmliborder=bdb:gdbm" in configured and "--prefix=/usr'" in configured:
        return "profile-guided (Debian's own build)"
    return "not profile-guided"


def label(facts: dict[str, Any]) -> str:
    """`3.11.2-pgo`: the key of a baseline, and a part of a file's name."""
    return f"{facts['version']}-{'pgo' if facts['build'].startswith('profile-guided') else 'plain'}"


def prepared(python: str | None) -> Path:
    """An interpreter that can run modelport: this one, or another one in an environment made for it, once."""
    if python is None:
        return Path(sys.executable)
    tag = hashlib.sha256(python.encode()).hexdigest()[:8]
    folder = ROOT / ".venvs" / f"bench-python-{tag}"
    inside = folder / "bin" / "python"
    stamp = folder / ".made"
    wanted = ROOT / "pyproject.toml"
    if not stamp.exists() or stamp.stat().st_mtime < wanted.stat().st_mtime:
        print(f"bench: making an environment for {python}", file=sys.stderr)
        subprocess.run([python, "-m", "venv", "--clear", "--without-pip", str(folder)], check=True)
        constraints = ROOT / "constraints.txt"
        command = [sys.executable, "-m", "pip", "--python", str(inside), "install", "--quiet"]
        command += ["--disable-pip-version-check", "-c", str(constraints), "-e", str(ROOT)]
        subprocess.run(command, check=True)
        stamp.touch()
    return inside
