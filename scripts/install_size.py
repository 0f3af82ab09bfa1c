"""What an installation takes on disk: the core, and with the `local` extra, in megabytes (10^6 bytes). Two minutes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOT_OURS = ("pip", "setuptools", "_distutils_hack", "pkg_resources")


def megabytes(extra: str, folder: Path) -> float:
    """An environment of its own, without what every environment has."""
    venv.create(folder, with_pip=True)
    wanted = f"{ROOT}[{extra}]" if extra else str(ROOT)
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*command, "--constraint", str(ROOT / "constraints.txt"), wanted], check=True)
    packages = next((folder / "lib").glob("python3*")) / "site-packages"
    counted = (path for path in packages.rglob("*") if path.is_file() and not path.is_symlink())
    size = sum(p.stat().st_size for p in counted if not p.relative_to(packages).parts[0].startswith(NOT_OURS))
    return size / 1e6


def main() -> None:
    """The command."""
    for extra in ("", "local"):
        with tempfile.TemporaryDirectory() as name:
            sys.stdout.write(f"{extra or 'core'}: {megabytes(extra, Path(name)):.0f} MB\n")


if __name__ == "__main__":
    main()
