"""Writes the golden files of whole calls anew: python -m tests.golden.write"""

from __future__ import annotations

import os
import sys

import pytest

if __name__ == "__main__":
    os.environ["MODELPORT_TEST_WRITE_GOLDEN"] = "1"
    sys.exit(pytest.main(["-q", "tests/lane/test_differential.py", "-k", "golden_file"]))
