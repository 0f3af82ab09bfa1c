"""The page of errors says what the encoders do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_page_of_errors_is_current() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "errors_reference.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
