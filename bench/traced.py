"""`modelport` under a profile function: which of its files and functions a call passes.

python -m bench.traced OUTPUT -- serve ...

SIGUSR1 forgets what was passed until then; SIGUSR2 writes it to OUTPUT, a line `FILE FUNCTION` for each function.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import modelport
from bench.switches import without_ledger
from modelport.cli.main import main

HOME = str(Path(modelport.__file__).parent) + os.sep
passed: set[CodeType] = set()


def note(frame: FrameType, event: str, _: Any) -> None:
    """The profile function."""
    if event == "call":
        passed.add(frame.f_code)


def own() -> list[str]:
    """The functions of the package, without comprehensions."""
    codes = [code for code in tuple(passed) if code.co_filename.startswith(HOME) and not code.co_name.startswith("<")]
    return sorted(f"{code.co_filename.removeprefix(HOME)} {code.co_qualname}" for code in codes)


def write(output: Path) -> None:
    """All at once, so that a reader never finds a part."""
    part = output.with_suffix(".part")
    part.write_text("".join(f"{line}\n" for line in own()))
    part.rename(output)


if __name__ == "__main__":
    output = Path(sys.argv[1])
    sys.argv[1:] = sys.argv[3:]
    without_ledger()
    signal.signal(signal.SIGUSR1, lambda *_: passed.clear())
    signal.signal(signal.SIGUSR2, lambda *_: write(output))
    sys.setprofile(note)
    main()
